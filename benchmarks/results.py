"""Fill docs/research/{results,speed}.md: each table follows the command that generates it.

python -m benchmarks.results
"""

import json
import re
from importlib import import_module

from agit_hub.evaluation.compare import compare, find_records
from benchmarks.harness import ROOT

DOCUMENTS = tuple(ROOT / "docs" / "research" / f"{name}.md" for name in ("results", "speed"))
_TABLE = re.compile(
    r"(```\nagit compare ([^\n]+)\n```\n\n<!-- table -->\n).*?(<!-- end -->)", re.DOTALL
)
_REPORT = re.compile(
    r"(python -m (benchmarks\.[\w.]+) [^\n]*--out (\S+)\n```\n\n<!-- report -->\n).*?(<!-- end -->)",
    re.DOTALL,
)


def filled(text: str) -> str:
    """Return a document with its tables regenerated from the result files."""
    return _REPORT.sub(_report, _TABLE.sub(_table, text))


def _table(found: re.Match[str]) -> str:
    paths = sorted(path for pattern in found[2].split() for path in ROOT.glob(pattern))
    table = compare(find_records(paths)) if paths else "Not measured yet."
    return f"{found[1]}\n{table}\n\n{found[3]}"


def _report(found: re.Match[str]) -> str:
    file = ROOT / found[3]
    if file.exists():
        report = import_module(found[2]).report(json.loads(file.read_text(encoding="utf-8")))
    else:
        report = "Not measured yet."
    return f"{found[1]}\n{report}\n\n{found[4]}"


if __name__ == "__main__":
    for document in DOCUMENTS:
        document.write_text(filled(document.read_text(encoding="utf-8")), encoding="utf-8")
