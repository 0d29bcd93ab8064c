"""Write one HTML file that holds the page, the runtime and a model: it can be opened from a disk.

python space/web/build.py --model user/agit-horse2zebra --out agit.html
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import onnx

from agit_hub.backends.export import export
from agit_hub.models.agit import AGITModel

HERE = Path(__file__).resolve().parent
SOURCES = ("package.json", "translate.js", "page.js")
FACTS = ("from", "to", "attention_threshold", "image_size", "size_multiple")
PLACE = "<script>/* page */</script>"


def build(model: str, out: Path) -> None:
    """Export a model, bundle it with the page, and write the result.

    Args:
        model: A repo of the Hub, or a folder.
        out: The file.
    """
    if shutil.which("npm") is None:
        raise SystemExit("error: npm is not installed, which bundles the page.")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        for name in SOURCES:
            shutil.copy(HERE / name, work)
        facts = []
        for written in export(AGITModel.from_pretrained(model), work):
            known = {entry.key: entry.value for entry in onnx.load(written.path).metadata_props}
            facts.append({"file": written.path.stem} | {name: known[name] for name in FACTS})
        (work / "facts.json").write_text(json.dumps(facts), encoding="utf-8")
        quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        _run(work, "npm", "install", *quiet)
        how = ["--bundle", "--minify", "--format=iife", "--platform=browser", "--charset=utf8"]
        how += ["--loader:.wasm=binary", "--loader:.onnx=binary", "--outfile=page.bundle.js"]
        # The runtime asks for modules of Node that a page has not and does not need.
        how += ["--external:node:*", "--external:module", "--external:worker_threads"]
        _run(work, "npx", "esbuild", "page.js", *how, "--log-level=error")
        program = (work / "page.bundle.js").read_text(encoding="utf-8")
    page = (HERE / "index.html").read_text(encoding="utf-8")
    # A script in a page ends at the first of these, wherever it stands.
    program = program.replace("</script", "<\\/script")
    out.write_text(page.replace(PLACE, f"<script>{program}</script>"), encoding="utf-8")


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command[:2])} failed:\n{done.stderr.strip()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(HERE.parent / "model"))
    parser.add_argument("--out", type=Path, default=Path("agit.html"))
    arguments = parser.parse_args()
    build(arguments.model, arguments.out)
    size = arguments.out.stat().st_size / 1e6
    print(f"{arguments.out}: {size:.0f} MB, to be opened in a browser or put on any server.")
