"""A run folder with known content."""

import json
from pathlib import Path

import pytest
from PIL import Image

from agit_hub.run_page.status import RunStatus, write_status
from agit_hub.runs import RunFolder
from agit_hub.training.config_loader import parse, to_yaml

STEPS = 1000


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run of 2000 steps that is at step 1000, with labels that look like HTML."""
    folder = RunFolder(tmp_path / "runs" / "horses & zebras")
    config = parse(
        [
            *("--config", "shapes", "--output_dir", str(folder.path), "--train.max_steps", "2000"),
            *("--train.ema_decay", "0.5"),
            *("--model.source_label", "<b>horse</b>", "--model.target_label", "</script>"),
        ]
    ).config
    folder.write_config(to_yaml(config))
    for step in range(1, STEPS + 1):
        folder.append_metrics(
            {
                "step": step,
                "attention/source/mean": 0.25,
                "attention/target/mean": step / STEPS,
                "loss/cycle_s": 0.0,
                "switched": float(step > 300),
            }
        )
    folder.samples.mkdir()
    for step, colour in ((500, "red"), (1000, "blue")):
        Image.new("RGB", (80, 40), colour).save(folder.sample_grid(step))
    (folder.path / "run.json").write_text(json.dumps({"device": "cpu", "images": {"source": 7}}))
    write_status(
        folder, RunStatus("running", STEPS, 2000, seconds_left=60.0, images_per_second=9.0)
    )
    return folder
