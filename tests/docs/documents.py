"""Code in documents: fenced blocks with their marks, and short code within the text."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.docs.commands import ROOT

DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "docs/index.md")),
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"<!-- (.*?) -->\n+\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    document: Path
    line: int
    language: str
    text: str
    mark: str
    """The comment before it, which says why it is not executed; empty without one."""

    def __str__(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a document."""
    text = document.read_text(encoding="utf-8")
    found = []
    for fence in FENCE.finditer(text):
        before = text[: fence.start()]
        mark = MARK.search(before)
        line = before.count("\n") + 1
        found.append(Block(document, line, fence[1], fence[2], mark[1] if mark else ""))
    return found


def spans(document: Path) -> list[str]:
    """Return the code within the text of a document, without that of fenced blocks."""
    text = FENCE.sub("", document.read_text(encoding="utf-8"))
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
