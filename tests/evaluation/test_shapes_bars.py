"""The promise of the demo, kept for three seeds: half an hour on two cores, so for `make soak` alone."""

import os
from pathlib import Path

import pytest
import torch

from agit_hub.evaluation.shapes_report import evaluate_on_shapes
from agit_hub.pipeline import AGITPipeline
from agit_hub.training.command_line import parse
from agit_hub.training.trainer import Trainer


@pytest.mark.soak
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_finds_objects_changes_them_and_leaves_the_rest(seed: int, tmp_path: Path) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    arguments = ["--config", "shapes", f"--train.seed={seed}", f"--output_dir={tmp_path / 'run'}"]
    assert Trainer(parse(arguments).config).fit().finished
    model = tmp_path / "run" / "model"
    assert (model / "model.safetensors").stat().st_size < 3e6
    report = evaluate_on_shapes(AGITPipeline.from_pretrained(model, device="cpu"))
    assert report.judge_accuracy >= 0.98
    for direction in report.directions:
        assert direction.iou >= 0.75
        assert direction.background_change < 0.01
        assert direction.taken_for_target >= 0.8
        assert direction.taken_for_target_untouched < 0.1
