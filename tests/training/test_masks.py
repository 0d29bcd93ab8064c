"""Runs with masks: resumed exactly, streamed, counted, and refused where they have no effect."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image, ImageOps

from agit_hub.cli.train import main
from agit_hub.data.loader import Batch
from agit_hub.errors import ConfigError
from agit_hub.training import domain_labels
from agit_hub.training.config import TrainConfig
from agit_hub.training.trainer import Trainer
from testing.hub_server import Hub
from tests.online import connect
from tests.training.conftest import SIZE, Arguments, Equal, Train
from tests.training.hub_datasets import REPO, ROWS, image_files, in_folder, shard

Configure = Callable[..., TrainConfig]


@pytest.fixture
def masks(tmp_path: Path, damaged_source: Path) -> Path:
    """Masks of four of the six source images, one of them damaged, at twice their size."""
    random = np.random.default_rng(3)
    folder = tmp_path / "hints"
    folder.mkdir()
    for number in (0, 1, 3, 5):
        pixels = random.integers(0, 2, (2 * SIZE, 2 * SIZE), dtype=np.uint8) * 255
        Image.fromarray(pixels).save(folder / f"{number}.png")
    # Its header and checksums are whole, its pixels are not: noticed when it is needed.
    whole = bytearray(Image.new("L", (SIZE, SIZE)).tobytes())
    (folder / "5.pgm").write_bytes(b"P5 %d %d 255\n" % (SIZE, SIZE) + bytes(whole[:9]))
    (folder / "5.png").unlink()
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"train.update_order": "official", "data.num_workers": 2},
        {"train.gradient_accumulation_steps": 2, "data.zoom": 1.5, "train.lambda_mask": 3},
        {"data.in_memory": True},
    ],
    ids=["official, workers", "accumulation", "in memory"],
)
def test_interrupted_run_with_masks_equals_uninterrupted_run_exactly(
    tmp_path: Path,
    damaged_source: Path,
    masks: Path,
    train: Train,
    metrics: Callable[[Path], list[dict[str, float]]],
    interrupt_when: Callable[..., Any],
    assert_equal_runs: Equal,
    changes: dict[str, Any],
) -> None:
    settings = changes | {
        "data.source.path": damaged_source,
        "data.source.masks": masks,
        "train.max_steps": 12,
        "train.switch.step": 9,
        "log.steps": 4,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, settings).finished
    with interrupt_when("the mask of") as said:
        early = train(parts, settings)
    assert not early.finished and 0 < early.step < 9
    assert "masks: 4 of 6 source images" in said.getvalue()
    assert train(parts, settings, resume=True).finished
    assert_equal_runs(parts, whole)
    lines = metrics(whole)
    assert all(line["loss/mask_s"] > 0 and "loss/mask_t" not in line for line in lines)


def test_run_with_masks_differs_only_where_they_are_used(
    tmp_path: Path, source: Path, masks: Path, train: Train
) -> None:
    (masks / "5.pgm").unlink()
    weights = {}
    for name, changes in {
        "plain": {},
        "masks": {"data.source.masks": masks},
        "weight": {"data.source.masks": masks, "train.lambda_mask": 0.5},
    }.items():
        train(tmp_path / name, {"data.source.path": source, "train.max_steps": 5} | changes)
        weights[name] = (tmp_path / name / "model" / "model.safetensors").read_bytes()
    assert len(set(weights.values())) == 3


def test_mask_loss_trains_attention_towards_the_mask(tmp_path: Path, configure: Configure) -> None:
    """Of the networks of a run, in which every image has the same mask: its left half."""
    trainer = Trainer(
        configure(tmp_path, {"train.attention_learning_rate": 0.01, "train.max_steps": 60})
    )
    random = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, SIZE, SIZE, generator=random) - 0.5
    image[..., : SIZE // 2] += 0.5
    mask = torch.zeros(2, 1, SIZE, SIZE)
    mask[..., : SIZE // 2] = 1
    batch = Batch(image, image, mask)
    step, schedule = trainer._train_step, trainer._schedule
    losses = [step([batch], schedule.phase(number)) for number in range(60)]
    first, last = (float(losses[number]["loss/mask_s"]) for number in (0, -1))
    assert last < 0.7 * first
    with torch.inference_mode():
        found = trainer.published.attention_s(image)
    assert found[..., : SIZE // 2].mean() > found[..., SIZE // 2 :].mean() + 0.4
    trainer.run_folder.unlock()


def _masked_shards(seed: int) -> Mapping[str, bytes]:
    def masks(number: int) -> list[bytes | None]:
        files = image_files(ROWS, seed + 50 + number)
        return [None if row % 2 else data for row, data in enumerate(files)]

    return {
        f"{name}/train-{number:05d}-of-00002.parquet": shard(
            {"image": image_files(ROWS, seed + 10 * side + number), "mask": masks(number)}
        )
        for side, name in enumerate(("horse", "zebra"))
        for number in range(2)
    }


def test_run_from_hub_with_a_mask_column_equals_run_from_folder(
    tmp_path: Path,
    hub: Hub,
    train: Train,
    assert_equal_runs: Equal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connect(monkeypatch, hub.url, tmp_path / "home")
    files = dict(_masked_shards(0))
    hub.commit(REPO, files)
    here = in_folder(tmp_path / "images", files)
    settings = {
        "data.source.masks": "mask",
        "data.target.masks": "mask",
        "train.max_steps": 2 * ROWS + 3,
    }
    there = {"data.source.path": REPO, "data.target.path": REPO}
    train(tmp_path / "hub", there | settings | {"data.num_workers": 1})
    train(tmp_path / "folder", here | settings)
    assert_equal_runs(tmp_path / "hub", tmp_path / "folder")
    data = yaml.safe_load((tmp_path / "hub" / "config.yaml").read_text())["data"]
    assert data["source"]["masks"] == "mask" and data["source"]["column"] == "image"


def test_dry_run_counts_masks(
    tmp_path: Path,
    masks: Path,
    damaged_source: Path,
    arguments: Arguments,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (masks / "3.png").write_text("damaged")
    settings = {"data.source.path": damaged_source, "data.source.masks": masks}
    assert main(arguments(tmp_path / "run", settings, "--dry-run")) == 0
    printed = capsys.readouterr().out
    assert f"masks: 3 of 6 source images ({masks}), train.lambda_mask 1\n" in printed
    assert "1 damaged mask skipped: their images count as images without a mask" in printed


def test_resume_with_fewer_masks_is_refused(
    tmp_path: Path, source: Path, masks: Path, train: Train
) -> None:
    settings = {"data.source.path": source, "data.source.masks": masks}
    train(tmp_path / "run", settings)
    (masks / "0.png").unlink()
    with pytest.raises(ConfigError, match=r"data\.source had 3 masks .* and has 2: restore them"):
        train(tmp_path / "run", settings | {"train.max_steps": 6}, resume=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.lambda_mask": 1.0}, r"lambda_mask is 1\.0 and no domain names masks"),
        ({"data.target.masks": "m", "train.lambda_mask": 0}, r"data\.target\.masks is set and .* 0"),
        ({"data.source.masks": "m", "model.attention": "ones"}, "attention is not trained"),
        ({"data.source.masks": "m", "train.switch.step": 0}, "attention is not trained"),
        ({"data.source.masks": "m", "train.lambda_mask": -1}, r"lambda_mask is -1"),
        (
            {"eval.steps": 2, "eval.source.path": "a", "eval.target.path": "b", "eval.target.masks": "m"},
            r"eval\.target\.masks is set, and validation uses no masks",
        ),
    ],
)  # fmt: skip
def test_masks_without_effect_are_refused(
    tmp_path: Path, configure: Configure, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(tmp_path, changes)


def test_warm_up_uses_masks_where_attention_is_frozen(
    tmp_path: Path,
    source: Path,
    masks: Path,
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(domain_labels, "_IMAGES", 6)
    monkeypatch.setattr(domain_labels, "_TEACHER_STEPS", 2)
    inverse = shutil.copytree(masks, tmp_path / "inverse hints")
    for folder in (masks, inverse):
        (folder / "5.pgm").unlink()
    for path in inverse.iterdir():
        ImageOps.invert(Image.open(path).convert("L")).save(path)
    weights = []
    # As many masks, so that only what they show is different.
    for name, place in (("masks", masks), ("inverse", inverse)):
        train(
            tmp_path / name,
            {
                "data.source.path": source,
                "data.source.masks": place,
                "model.attention": "features",
                "train.attention_warmup_steps": 2,
                "train.switch.step": 0,
                "train.max_steps": 1,
            },
        )
        model = Path(tmp_path / name / "model" / "model.safetensors")
        weights.append(model.read_bytes())
    assert weights[0] != weights[1]
