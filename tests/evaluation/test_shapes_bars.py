"""The demo's quality bars for three seeds: half an hour on two cores, so in `make soak` only."""

import os
from pathlib import Path

import pytest
import torch

from agit_hub.evaluation.datasets import ShapesEvalDataset
from agit_hub.evaluation.evaluator import Evaluator
from agit_hub.evaluation.protocols import find_protocol
from agit_hub.evaluation.shapes_classifier import ShapesClassifier
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.training.config_loader import parse
from agit_hub.training.trainer import Trainer


@pytest.mark.soak
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shapes_demo_translates_objects_and_keeps_the_background(seed: int, tmp_path: Path) -> None:
    torch.set_num_threads(os.cpu_count() or 1)
    arguments = ["--config", "shapes", f"--train.seed={seed}", f"--output_dir={tmp_path / 'run'}"]
    assert Trainer(parse(arguments).config).fit().finished
    model = tmp_path / "run" / "model"
    assert (model / "model.safetensors").stat().st_size < 3e6
    classifier = ShapesClassifier(64)
    assert classifier.accuracy >= 0.98
    plain, striped = (ShapesEvalDataset(label, 200, 64) for label in ("plain", "striped"))
    evaluator = Evaluator(
        plain, striped, find_protocol("lite0"), threshold=0, classifier=classifier, with_fid=False
    )
    evaluation = evaluator(AGITPipeline.from_pretrained(model, device="cpu"))
    for direction in ("plain to striped", "striped to plain"):
        found = {m.metric: m for m in evaluation.measurements if m.direction == direction}
        assert found["attention_iou"].value >= 0.75
        assert found["background_change"].value < 0.01
        assert found["target_accuracy"].value >= 0.8
        assert found["target_accuracy"].baseline < 0.1
        assert found["kid"].reference < found["kid"].value < found["kid"].baseline / 2
