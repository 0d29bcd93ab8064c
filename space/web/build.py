"""Write one HTML file with the page, the runtime and a model, which works from a disk.

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
from agit_hub.shipped import SMALL_MODEL

HERE = Path(__file__).resolve().parent
SOURCES = ("package.json", "translate.js", "page.js")
METADATA = ("from", "to", "attention_threshold", "image_size", "size_multiple")
PLACEHOLDER = "<script>/* page */</script>"


def build(model: str, out: Path) -> None:
    """Export a model, from a Hub repo or a folder, bundle it with the page, and write the result."""
    if shutil.which("npm") is None:
        raise SystemExit("error: npm is not installed; it bundles the page.")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        for name in SOURCES:
            shutil.copy(HERE / name, work)
        directions = []
        for exported in export(AGITModel.from_pretrained(model), work):
            values = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
            directions.append(
                {"file": exported.path.stem} | {name: values[name] for name in METADATA}
            )
        (work / "directions.json").write_text(json.dumps(directions), encoding="utf-8")
        quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        _run(work, "npm", "install", *quiet)
        options = ["--bundle", "--minify", "--format=iife", "--platform=browser", "--charset=utf8"]
        options += ["--loader:.wasm=binary", "--loader:.onnx=binary", "--outfile=page.bundle.js"]
        # The runtime refers to modules of Node, which it does not need in a page.
        options += ["--external:node:*", "--external:module", "--external:worker_threads"]
        _run(work, "npx", "esbuild", "page.js", *options, "--log-level=error")
        program = (work / "page.bundle.js").read_text(encoding="utf-8")
    page = (HERE / "index.html").read_text(encoding="utf-8")
    # A script in a page ends at the first closing tag, even inside a string.
    program = program.replace("</script", "<\\/script")
    out.write_text(page.replace(PLACEHOLDER, f"<script>{program}</script>"), encoding="utf-8")


def _run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command[:2])} failed:\n{done.stderr.strip()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(SMALL_MODEL))
    parser.add_argument("--out", type=Path, default=Path("agit.html"))
    arguments = parser.parse_args()
    build(arguments.model, arguments.out)
    size = arguments.out.stat().st_size / 1e6
    print(f"{arguments.out}: {size:.0f} MB; open it in a browser or put it on any server.")
