"""An author's notes are added as they are, unless they would break the rest of the card."""

from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from agit_hub.errors import InputPathError
from agit_hub.hub.card import build_card
from agit_hub.hub.notes import MAX_BYTES, read_notes
from agit_hub.runs import read_run
from tests.hub.conftest import MakeRun

WHOLE = [
    "Photographs: *Jo*, {{ repo }} {% raw %} 50 % $x$",
    "```\n<!-- code\n```",
    "A < b, `<b>`, <https://example.org>, 1<br>2",
    "<details>\n<summary>more</summary>\n\nText\n\n</details>",
    "First\n\n---\n\nlicense: none\n\n---\n\n# Heading",
    "<p>One\n<ul><li>one<li>two</ul><img src='a.png'>",
]
BROKEN = {
    "```\nnever closed": "a block of code open",
    "~~~\nclosed by others\n```": "a block of code open",
    "<!-- never closed": "comment or an HTML element open",
    "<script>": "comment or an HTML element open",
    "<details>\n\nText": "<details> open",
    "a **<sub>b** c": "<sub> open",
    "---\nlicense: mit\n---\n# Mine": "begin with metadata",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "notes.md"


@pytest.mark.parametrize("text", WHOLE)
def test_notes_are_added_as_they_are(text: str, file: Path, make_run: MakeRun) -> None:
    file.write_text(f"\ufeff\n{text}\n", encoding="utf-8")
    notes = read_notes(file)
    assert notes == text
    card = build_card(read_run(make_run()), "user/model", "cc0-1.0", True, notes=notes)
    assert f"## Notes by the author\n\n{text}\n\n## Citation\n" in card.text
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()
    assert card.data.license == "cc0-1.0"


@pytest.mark.parametrize("text", BROKEN)
def test_notes_that_would_break_the_card_are_refused(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(InputPathError, match=BROKEN[text]):
        read_notes(file)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n", b"a\0b", "h\xe9".encode("latin-1")])
def test_notes_that_are_no_text_are_refused(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    with pytest.raises(InputPathError, match=r"notes\.md are not a text in UTF-8"):
        read_notes(file)


def test_notes_of_the_largest_size_are_read_and_larger_ones_refused(file: Path) -> None:
    file.write_bytes(b"x" * MAX_BYTES)
    assert len(read_notes(file)) == MAX_BYTES
    file.write_bytes(b"x" * (MAX_BYTES + 1))
    with pytest.raises(InputPathError, match="more than 100 kB"):
        read_notes(file)


@pytest.mark.parametrize(("name", "reason"), [("none.md", "does not exist"), ("", "is a folder")])
def test_notes_that_cannot_be_read_are_refused(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputPathError, match=f"cannot be read: .*{reason}"):
        read_notes(tmp_path / name)
