"""Long tests of publishing."""

import json
import os
import random
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load

from agit_hub.errors import PushError
from agit_hub.hub.push import Target, push_run
from testing.hub_server import Hub
from tests.conftest import MakeModel
from tests.hub.conftest import MakeRun

REPO = "user/agit-horse2zebra"
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.soak
def test_push_with_fifty_faults_keeps_repo_and_model_and_hides_the_token(
    make_run: MakeRun,
    make_model: MakeModel,
    hub: Hub,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Each push has a random width, so weights and config of different pushes do not match."""
    chance = random.Random(0)
    run, served, arrived = make_run(), 0, 0
    seen = ""
    while served < 50:
        width = chance.choice([4, 8, 12])
        make_model(channels=width).save_pretrained(run / "model")
        weights = (run / "model" / "model.safetensors").read_bytes()
        for _ in range(chance.randint(1, 3)):
            kind = chance.choice(["drop", "status", "refuse"])
            status = chance.choice([500, 412, 401, 503, 429])
            place = chance.choice(["create", "preupload", "batch", "_lfs", "commit", "branch"])
            hub.fail(
                kind, path=f".*{place}.*", status=status, after=chance.randint(0, 1), share=0.5
            )
        before = hub.faults_served
        try:
            push_run(run, Target(REPO, "mit", hub_timeout=30))
            arrived += 1
            assert hub.files(REPO)["model.safetensors"] == weights
        except PushError as error:
            seen += f"{error!r}"
        hub.heal()
        served += hub.faults_served - before
        assert (run / "model" / "model.safetensors").read_bytes() == weights
        files = hub.files(REPO) if arrived else {}
        if files:
            config = json.loads(files["config.json"])
            published = load(files["model.safetensors"])
            assert published["generator_st.layers.1.weight"].shape[0] == config["channels"]
    output = capfd.readouterr()
    assert "hf_test" not in seen + caplog.text + output.out + output.err
    assert arrived > 5


CARD_LINES = """
from agit_hub import AGITPipeline
pipe = AGITPipeline.from_pretrained("user/agit-horse2zebra")
pipe("image.jpg", to="zebra").images[0].save("translated.png")
"""


@pytest.mark.soak
def test_card_example_runs_with_the_wheel_alone(
    tmp_path: Path, make_run: MakeRun, hub: Hub
) -> None:
    """In a fresh environment without the training extra, and an empty cache."""
    push_run(make_run(), Target(REPO, "mit"))
    card = hub.files(REPO)["README.md"].decode()
    lines = [line for line in CARD_LINES.splitlines() if line]
    assert all(line in card for line in lines)

    home = tmp_path / "user"
    venv.create(home / "venv", with_pip=True)
    python = str(home / "venv" / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(ROOT)], check=True)
    Image.new("RGB", (40, 24), "brown").save(home / "image.jpg")
    environment = {
        "PATH": os.environ["PATH"],
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(home / "cache"),
        "HF_HUB_DISABLE_XET": "1",
    }
    ran = subprocess.run(
        [python, "-c", CARD_LINES], cwd=home, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    with Image.open(home / "translated.png") as translated:
        assert translated.size == (40, 24)
    listed = subprocess.run(
        [python, "-m", "pip", "list"], capture_output=True, text=True, check=True
    ).stdout
    assert "accelerate" not in listed and "datasets" not in listed
    assert sys.prefix not in listed
