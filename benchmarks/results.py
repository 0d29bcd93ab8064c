"""Fill the tables of docs/results.md, each of which stands below the command that makes it.

python -m benchmarks.results
"""

import re
from pathlib import Path

from agit_hub.evaluation.comparison import compare, find_records

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "results.md"
_TABLE = re.compile(
    r"(```\nagit compare ([^\n]+)\n```\n\n<!-- table -->\n).*?(<!-- end -->)", re.DOTALL
)


def filled(text: str) -> str:
    """The document with its tables as the files make them now."""

    def fill(found: re.Match[str]) -> str:
        paths = sorted(path for pattern in found[2].split() for path in ROOT.glob(pattern))
        table = compare(find_records(paths)) if paths else "Not measured yet."
        return f"{found[1]}\n{table}\n\n{found[3]}"

    return _TABLE.sub(fill, text)


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
