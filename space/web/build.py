"""Write the page that translates in the browser: one file, or a folder for a static Space.

python space/web/build.py --model user/agit-horse2zebra --out agit.html     # works from a disk
python space/web/build.py --model user/agit-horse2zebra --out dist/static   # for any web server
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import onnx

from agit_hub.backends.export import export
from agit_hub.models.agit import AGITModel
from agit_hub.shipped import EXAMPLES, SMALL_MODEL, example_images

HERE = Path(__file__).resolve().parent
SOURCES = ("package.json", "translate.js", "page.js")
METADATA = ("from", "to", "attention_threshold", "image_size", "size_multiple")
PLACEHOLDER = "<script>/* page */</script>"
# Of the runtime, the parts that it fetches itself: for a CPU, and for WebGPU.
RUNTIMES = ("ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify")
# The runtime refers to modules of Node, which it does not need in a page.
ESBUILD = (
    *("npx", "esbuild", "page.js", "--bundle", "--minify", "--charset=utf8", "--log-level=error"),
    *("--external:node:*", "--external:module", "--external:worker_threads"),
)


def build(model: str, out: Path) -> None:
    """Export a model, from a Hub repo or a folder, bundle it with the page, and write the result.

    Args:
        model: Its folder or Hub repo.
        out: A name that ends in `.html` for one file; otherwise a folder, of which an earlier build is
            replaced.
    """
    if shutil.which("npm") is None:
        raise SystemExit("error: npm is not installed; it bundles the page.")
    as_file = out.suffix == ".html"
    if not as_file and out.exists() and any(out.iterdir()) and not (out / "page.js").exists():
        raise SystemExit(
            f"error: {out} is not empty and not an earlier build; name another folder."
        )
    loaded = AGITModel.from_pretrained(model)
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        for name in SOURCES:
            shutil.copy(HERE / name, work)
        shutil.copy(HERE / f"runtime-{'file' if as_file else 'folder'}.js", work / "runtime.js")
        directions = _export(loaded, work)
        examples = {} if as_file else _copy_examples(loaded.config.labels, work / "out/examples")
        (work / "examples.json").write_text(json.dumps(examples), encoding="utf-8")
        quiet = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        _run(work, "npm", "install", *quiet)
        if as_file:
            _write_file(work, out)
        else:
            _write_folder(work, out, Path(model).name, loaded.config.labels, directions)


def _export(model: AGITModel, work: Path) -> list[dict[str, Any]]:
    directions = []
    for exported in export(model, work):
        values = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
        directions.append({"file": exported.path.stem} | {name: values[name] for name in METADATA})
    (work / "directions.json").write_text(json.dumps(directions), encoding="utf-8")
    return directions


def _write_file(work: Path, out: Path) -> None:
    options = ["--format=iife", "--platform=browser", "--outfile=page.bundle.js"]
    _run(work, *ESBUILD, *options, "--loader:.wasm=binary", "--loader:.onnx=binary")
    program = (work / "page.bundle.js").read_text(encoding="utf-8")
    page = (HERE / "index.html").read_text(encoding="utf-8")
    # A script in a page ends at the first closing tag, even inside a string.
    program = program.replace("</script", "<\\/script")
    out.write_text(page.replace(PLACEHOLDER, f"<script>{program}</script>"), encoding="utf-8")


def _write_folder(
    work: Path, out: Path, name: str, labels: tuple[str, str], directions: list[dict[str, Any]]
) -> None:
    made = work / "out"
    _run(work, *ESBUILD, "--format=esm", "--splitting", "--platform=browser", "--outdir=out")
    for folder in ("models", "runtime"):
        (made / folder).mkdir(parents=True)
    for direction in directions:
        shutil.copy(work / f"{direction['file']}.onnx", made / "models")
    for runtime in RUNTIMES:
        for suffix in (".wasm", ".mjs"):
            shutil.copy(
                work / f"node_modules/onnxruntime-web/dist/{runtime}{suffix}", made / "runtime"
            )
    shutil.copy(HERE / "isolate.js", made)
    scripts = '<script src="isolate.js"></script>\n<script type="module" src="page.js"></script>'
    page = (HERE / "index.html").read_text(encoding="utf-8").replace(PLACEHOLDER, scripts)
    (made / "index.html").write_text(page, encoding="utf-8")
    readme = (HERE / "README.static.md").read_text(encoding="utf-8")
    values = {"NAME": name, "SOURCE": labels[0], "TARGET": labels[1]}
    for key, value in values.items():
        readme = readme.replace(f"{{{key}}}", json.dumps(value)[1:-1])
    (made / "README.md").write_text(readme, encoding="utf-8")
    if out.exists():
        shutil.rmtree(out)
    shutil.copytree(made, out)


def _copy_examples(labels: tuple[str, str], folder: Path) -> dict[str, list[str]]:
    """Copy the example images of both labels with their credits; returns the files of each label."""
    found = {label: example_images(label) for label in labels}
    folder.mkdir(parents=True)
    for paths in found.values():
        for path in paths:
            shutil.copy(path, folder)
    shutil.copy(EXAMPLES / "CREDITS.md", folder)
    return {label: [path.name for path in paths] for label, paths in found.items()}


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
    out: Path = arguments.out
    files = [out] if out.is_file() else [path for path in out.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files) / 1e6
    use = (
        "open it in a browser or put it on any server" if out.is_file() else "put it on any server"
    )
    print(f"{out}: {size:.0f} MB; {use}.")
    if not out.is_file():
        print(f"As a static Space: hf upload USER/SPACE {out} --repo-type space")
