"""The author's own Markdown on a card: its text is theirs, and the rest of the card stays whole."""

from html.parser import HTMLParser
from pathlib import Path

from huggingface_hub.repocard import REGEX_YAML_BLOCK
from markdown_it import MarkdownIt

from agit_hub.environment import describe
from agit_hub.errors import InputPathError

MAX_BYTES = 100_000
# Elements without an end, and the paragraph, whose end may be left out.
_NEVER_OPEN = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "p", "source",
     "track", "wbr"}
)  # fmt: skip
_PARSER = MarkdownIt("commonmark", {"html": True})


def read_notes(path: Path) -> str:
    """Read the notes to add to a card.

    Raises:
        InputPathError: If the file cannot be read as text, is too large, begins with metadata, or leaves
            something open that would swallow the rest of the card.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig") if len(content) <= MAX_BYTES else ""
    except OSError as error:
        raise InputPathError(f"The notes cannot be read: {describe(error)}.") from error
    except UnicodeDecodeError as error:
        raise _not_text(path) from error
    if len(content) > MAX_BYTES:
        raise InputPathError(
            f"The notes {path} have more than {MAX_BYTES // 1000} kB: shorten them, or add the file to "
            "the repository and link it."
        )
    if "\0" in text:
        raise _not_text(path)
    notes = text.strip()
    if REGEX_YAML_BLOCK.match(notes):
        raise InputPathError(
            f"The notes {path} begin with metadata between two lines of ---, which a card has already: "
            "remove them."
        )
    left_open = _left_open(notes)
    if left_open is not None:
        raise InputPathError(
            f"The notes {path} leave {left_open} open, which would hide the rest of the card: close it."
        )
    return notes


def _not_text(path: Path) -> InputPathError:
    return InputPathError(f"The notes {path} are not a text in UTF-8: name a Markdown file.")


def _left_open(notes: str) -> str | None:
    """Return what the end of the notes is inside of, if anything."""
    tokens = _PARSER.parse(f"{notes}\n\n# end\n")
    if tokens[-1].type != "heading_close":
        return "a block of code" if tokens[-1].type == "fence" else "a comment or an HTML element"
    tags = _Tags()
    for token in tokens:
        for part in (token, *(token.children or ())):
            if part.type in ("html_block", "html_inline"):
                tags.feed(part.content)
    return f"the HTML element <{tags.open[-1]}>" if tags.open else None


class _Tags(HTMLParser):
    """Collects the elements that have begun and not ended."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _NEVER_OPEN:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Ignore an element that is closed in itself."""

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            del self.open[len(self.open) - 1 - self.open[::-1].index(tag) :]
