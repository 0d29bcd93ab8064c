"""Whole runs on a GPU: resumed bit for bit, and loaded by workers from memory."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState, PartialState
from PIL import Image

from agit_hub.training.config_loader import parse
from agit_hub.training.trainer import Trainer

pytestmark = pytest.mark.gpu


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two folders of noise."""
    random = np.random.default_rng(0)
    for domain, count in (("source", 6), ("target", 5)):
        (tmp_path / domain).mkdir()
        for number in range(count):
            pixels = random.integers(0, 256, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / domain / f"{number}.png")
    return tmp_path


def _trained(images: Path, run: Path, device: torch.device, *options: str) -> dict[str, Any]:
    """Train a small run, and return the networks' weights at its end."""
    AcceleratorState._reset_state(True)
    PartialState._reset_state()
    tiny = ["--model.image_size=32", "--model.channels=8", "--model.blocks=1"]
    tiny += ["--model.attention_channels=8", "--train.discriminator_channels=8"]
    tiny += [
        "--train.pool_size=3",
        "--train.batch_size=2",
        "--train.ema_decay=0.5",
        "--log.steps=1",
    ]
    data = [f"--data.{side}.path={images / side}" for side in ("source", "target")]
    command = parse([*tiny, *data, f"--output_dir={run}", *options])
    trainer = Trainer(command.config, command.resume)
    assert trainer._accelerator.device.type == device.type
    assert trainer.fit().finished
    state = torch.load(sorted(run.glob("checkpoints/*/state.pt"))[-1], weights_only=True)
    weights: dict[str, Any] = state["training"]["networks"]
    return weights


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_run_deterministic_resumed_equals_uninterrupted(
    images: Path, tmp_path: Path, device: torch.device, precision: str
) -> None:
    """Across the switch, with the reflection padding and interpolation of the maps."""
    options = ["--train.deterministic=true", f"--train.mixed_precision={precision}"]
    options += ["--train.switch.step=3", "--train.switch.on_collapse=warn"]
    whole = _trained(images, tmp_path / "whole", device, *options, "--train.max_steps=6")
    split = tmp_path / "split"
    # With a constant learning rate the steps do not depend on the length of the run.
    _trained(images, split, device, *options, "--train.max_steps=2", "--train.decay_from=1")
    resumed = _trained(
        images, split, device, *options, "--train.max_steps=6", "--train.decay_from=1", "--resume"
    )
    again = _trained(
        images, tmp_path / "again", device, *options, "--train.max_steps=6", "--train.decay_from=1"
    )
    assert any(not torch.equal(whole[name], again[name]) for name in whole)
    for name, weight in again.items():
        assert torch.equal(weight, resumed[name]), name


def test_run_on_folders_keeps_images_in_memory_and_uses_workers(
    images: Path, tmp_path: Path, device: torch.device
) -> None:
    from agit_hub.data.domains.in_memory import InMemoryDomain

    options = ["--train.max_steps=3", "--data.crop_size=32"]
    if device.type == "cpu":
        options += ["--data.in_memory=true", "--data.num_workers=2"]
    run = tmp_path / "run"
    _trained(images, run, device, *options)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    data = [f"--data.{side}.path={images / side}" for side in ("source", "target")]
    config = parse([*data, f"--output_dir={tmp_path / 'other'}", *options]).config
    trainer = Trainer(config)
    assert trainer._loader.num_workers >= 1
    assert all(isinstance(domain, InMemoryDomain) for domain in trainer._loader.domains)
