"""docs/results.md says what the files say."""

from agit_hub.evaluation.report import read_record
from benchmarks.results import DOCUMENT, ROOT, filled


def test_the_tables_are_those_that_their_commands_make() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text.count("<!-- table -->") == text.count("agit compare docs/") >= 4
    assert filled(text) == text


def test_every_file_of_a_run_can_be_read() -> None:
    files = sorted((ROOT / "docs" / "results").rglob("*seed*.json"))
    assert len(files) >= 3
    for file in files:
        assert read_record(file).measurements
