"""A run folder as training writes it, and a local Hub for this process's client."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from agit_hub.training.config_loader import parse, to_yaml
from testing.hub_server import Hub
from tests.conftest import MakeModel
from tests.online import connect

MakeRun = Callable[..., Path]


@pytest.fixture
def hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A local Hub with a logged-in user."""
    connect(monkeypatch, hub.url, tmp_path / "home")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    return hub


def line(step: int, mean: float, switched: float = 0.0) -> dict[str, float]:
    """Return a line of `metrics.jsonl` with the entries that a card reads."""
    attention = {
        f"attention/{side}/{name}": value
        for side in ("source", "target")
        for name, value in (("mean", mean), ("area", 2 * mean))
    }
    return {"step": step, "images_per_second": 20.0, "switched": switched, **attention}


@pytest.fixture
def make_run(tmp_path: Path, make_model: MakeModel) -> MakeRun:
    """Write a run of 40 steps of batch 2; further arguments are settings."""

    def make(curve: list[dict[str, float]] | None = None, **settings: Any) -> Path:
        folder = tmp_path / "joe" / "run"
        (folder / "samples").mkdir(parents=True)
        values: dict[str, Any] = {
            "data.source.path": "/home/joe/photos/horses",
            "data.target.path": "shapes",
            "data.target.name": "striped",
            "model.source_label": "horse",
            "model.target_label": "zebra",
            "train.batch_size": 2,
            "output_dir": str(folder),
        }
        arguments = [f"--{key}={value}" for key, value in (values | settings).items()]
        config = parse(arguments).config
        (folder / "config.yaml").write_text(to_yaml(config))
        lines = [line(20, 0.4), line(40, 0.3, switched=1.0)] if curve is None else curve
        (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
        facts = {
            "device": "a fast GPU",
            "processes": 1,
            "software": "torch",
            "images": {"source": 7, "target": 9},
        }
        (folder / "run.json").write_text(json.dumps(facts))
        make_model().save_pretrained(folder / "model")
        for step, shade in ((20, "red"), (40, "blue")):
            image = Image.new("RGB", (8, 8), shade)
            image.save(folder / "samples" / f"step-{step:08d}.png")
        return folder

    return make
