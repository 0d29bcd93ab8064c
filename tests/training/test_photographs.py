"""The shipped configuration on photographs, if they are available: training, resuming, translating."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.training.config_loader import parse
from tests.training.conftest import Process

PHOTOS = os.environ.get("AGIT_PHOTOS")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PHOTOS, reason="AGIT_PHOTOS names no folder of photographs (trainA, trainB, ...)"
    ),
]


def test_horse2zebra_small_trains_resumes_and_translates(
    tmp_path: Path, process: Callable[[list[str]], Process]
) -> None:
    assert PHOTOS is not None
    photos = Path(PHOTOS)
    arguments = [
        *("--config", "horse2zebra_small", "--output_dir", str(tmp_path / "run")),
        *("--data.source.path", str(photos / "trainA")),
        *("--data.target.path", str(photos / "trainB")),
        *("--train.max_steps", "2", "--log.steps", "1", "--log.num_samples", "2"),
        *("--eval.max_images", "4"),
    ]
    config = parse(arguments).config
    assert config.model.labels == ("horse", "zebra")

    # In separate processes: Accelerate keeps one precision for a whole process.
    code, log, _ = process(arguments).finish()
    assert code == 0, log
    code, log, _ = process([*arguments, "--resume", "--train.max_steps", "3"]).finish()
    assert code == 0, log

    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3]
    epochs = json.loads(lines[-1])["epoch"]
    # An epoch is as many samples as the larger folder has images, without the held-out ones.
    zebras = len(list((photos / "trainB").iterdir()))
    zebras -= zebras // 10
    assert epochs == pytest.approx(3 / np.ceil(zebras / config.train.batch_size))

    pipeline = AGITPipeline.from_pretrained(tmp_path / "run" / "model")
    image = Image.open(next(iter(sorted((photos / "testA").iterdir()))))
    output = pipeline(image, to="zebra")
    assert output.images[0].size == image.size
    unattended = output.attention[0] == 0
    before, after = np.asarray(image), np.asarray(output.images[0])
    assert np.array_equal(before[unattended], after[unattended])
