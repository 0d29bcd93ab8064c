"""The folder that becomes a Space: complete, pinned, and it starts where nothing else is installed."""

import ast
import re
import subprocess
import sys
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from huggingface_hub import RepoCard
from PIL import Image

from tests.space.conftest import ROOT, SPACE, serve

SPACE_LIMIT = 10 * 10**6  # bytes; a Space's repo is cloned at every start


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "space"
    command = [sys.executable, str(SPACE / "bundle.py"), str(folder)]
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return folder


def test_a_bundle_holds_what_a_space_needs_and_no_more(bundle: Path) -> None:
    names = {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()}
    (wheel,) = bundle.glob("agit_hub-*.whl")
    assert {"app.py", "README.md", "requirements.txt", "model/model.safetensors"} <= names
    assert not [name for name in names if name.endswith(".pyi") or "__pycache__" in name]
    assert "bundle.py" not in names
    assert sum(path.stat().st_size for path in bundle.rglob("*")) < SPACE_LIMIT
    assert (bundle / "model" / "model.safetensors").stat().st_size < 3 * 10**6
    packed = zipfile.ZipFile(wheel).namelist()
    # `agit space` works from the wheel alone.
    for path in SPACE.glob("*.py"):
        assert path.name == "bundle.py" or f"agit_hub/space/{path.name}" in packed
    assert {"agit_hub/space/how.md", "agit_hub/space/model/config.json"} <= set(packed)


def test_its_card_names_what_is_there(bundle: Path) -> None:
    data = RepoCard.load(bundle / "README.md").data.to_dict()
    assert data["sdk"] == "gradio" and (bundle / data["app_file"]).is_file()
    assert f"gradio[mcp]=={data['sdk_version']}" in (bundle / "requirements.txt").read_text()


def test_everything_imported_is_pinned(bundle: Path) -> None:
    lines = (bundle / "requirements.txt").read_text().splitlines()
    pinned = [re.fullmatch(r"([\w-]+)(\[\w+\])?==[\d.]+", line) for line in lines if line[0] != "#"]
    assert all(pinned)
    names = {match[1].lower() for match in pinned if match}
    roots = set()
    for path in [*bundle.glob("*.py"), *(ROOT / "agit_hub").glob("*.py")]:
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
    assert needed - names <= {"av", "rich"}  # of the command line, which a Space has not


def test_what_is_no_bundle_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    command = [sys.executable, str(SPACE / "bundle.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "holds something else" in done.stderr
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


@pytest.mark.soak
def test_it_starts_where_nothing_but_its_requirements_is_installed(
    bundle: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "-r", str(bundle / "requirements.txt")]
    subprocess.run(install, check=True)
    with serve(tmp_path / "files", bundle / "app.py", python, PYTHONPATH="") as started:
        client = Client(started.address, verbose=False, download_files=tmp_path / "answers")
        example = SPACE / "examples" / "plain-1.png"
        image, _, _ = client.predict(handle_file(example), api_name="/translate")
        assert Image.open(image).size == Image.open(example).size
