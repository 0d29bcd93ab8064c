"""The notebook runs from top to bottom, with a small model, few images and few steps."""

import os
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from testing.hub_server import Hub
from tests.conftest import MakeModel

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "examples" / "horse2zebra.ipynb"
CONFIG = """\
model: {image_size: 16, channels: 4, blocks: 1, attention_channels: 4}
train: {batch_size: 1, discriminator_channels: 4}
log: {num_samples: 1}
"""
PARAMETERS = """\
MODEL, PHOTO, TO = "user/agit-horse2zebra", "photo.jpg", "zebra"
CONFIG, SOURCE, TARGET = "small.yaml", "images/plain", "images/striped"
IMAGES, STEPS, RUN = 4, 2, "run"
"""


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def _tags(cell: nbformat.NotebookNode) -> list[str]:
    return list(cell.metadata.get("tags", []))


def test_notebook_is_committed_without_outputs(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count]
    assert sorted(tag for cell in code for tag in _tags(cell)) == ["install", "parameters"]


def test_notebook_parameters_name_files_of_the_repository(notebook: nbformat.NotebookNode) -> None:
    (cell,) = (cell for cell in notebook.cells if "parameters" in _tags(cell))
    names: dict[str, str] = {}
    exec(cell.source, names)
    assert (ROOT / names["MODEL"] / "config.json").is_file() and (ROOT / names["PHOTO"]).is_file()
    assert (ROOT / "configs" / f"{names['CONFIG']}.yaml").is_file()
    # What the test sets instead.
    other: dict[str, str] = {}
    exec(PARAMETERS, other)
    assert set(other) == set(names)


def test_notebook_runs(
    notebook: nbformat.NotebookNode,
    make_model: MakeModel,
    hub: Hub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_model().save_pretrained(tmp_path / "model")
    files = {path.name: path for path in (tmp_path / "model").iterdir()}
    hub.commit("user/agit-horse2zebra", files, kind="model")
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    (tmp_path / "small.yaml").write_text(CONFIG, encoding="utf-8")
    notebook.cells = [cell for cell in notebook.cells if "install" not in _tags(cell)]
    for cell in notebook.cells:
        if "parameters" in _tags(cell):
            cell.source = PARAMETERS
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "home"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):  # nothing is left at home
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    environment["IPYTHONDIR"] = str(tmp_path / "jupyter")
    resources = {"metadata": {"path": str(tmp_path)}}
    client = NotebookClient(notebook, timeout=200, kernel_name="python3", resources=resources)
    client.execute(env=environment)
    shown = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(shown) == 4  # a translation, two panels, a grid of samples
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
    assert list((tmp_path / "run" / "evaluation").rglob("evaluation.json"))
