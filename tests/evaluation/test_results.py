"""docs/research/results.md and docs/research/speed.md are generated from the result files."""

from agit_hub.evaluation.report import read_record
from benchmarks.results import DOCUMENTS, ROOT, filled


def test_documents_hold_the_tables_of_their_commands() -> None:
    results, speed = (document.read_text(encoding="utf-8") for document in DOCUMENTS)
    assert results.count("<!-- table -->") == results.count("agit compare docs/") >= 4
    assert speed.count("<!-- report -->") == speed.count("--out docs/results/") >= 3
    assert filled(results) == results and filled(speed) == speed


def test_every_result_file_can_be_read() -> None:
    files = sorted((ROOT / "docs" / "results").rglob("*seed*.json"))
    assert len(files) >= 3
    for file in files:
        assert read_record(file).measurements
