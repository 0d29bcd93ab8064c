"""Pushes to the Hub during and at the end of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from safetensors.torch import load

from agit_hub import AGITModel
from agit_hub.cli.train import main
from agit_hub.errors import ConfigError
from agit_hub.training.config import TrainConfig
from testing.hub_server import Hub
from tests.online import connect
from tests.training.conftest import Arguments, Train

REPO = "user/agit-tiny"
PUSH = {"hub.push_to_hub": True, "hub.hub_model_id": REPO, "hub.license": "mit"}


@pytest.fixture
def hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A local Hub with a logged-in user."""
    connect(monkeypatch, hub.url, tmp_path / "home")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    return hub


def _messages(branch: str = "main") -> list[str]:
    commits = HfApi().list_repo_commits(REPO, revision=branch)
    return [commit.title for commit in reversed(commits) if "Step" in commit.title]


def test_push_finished_run_publishes_averaged_model(
    tmp_path: Path, train: Train, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(run, PUSH | {"train.ema_decay": 0.5})
    files = hub.files(REPO)
    assert files["model.safetensors"] == (run / "model" / "model.safetensors").read_bytes()
    names = {name.split(".")[0] for name in load(files["model.safetensors"])}
    assert names == {"generator_st", "generator_ts", "attention_s", "attention_t"}
    assert AGITModel.from_pretrained(REPO).config.image_size == 16
    assert f"Published: {hub.url}/{REPO}" in capfd.readouterr().err
    assert _messages() == ["Step 4, the last"]
    card = files["README.md"].decode()
    assert "moving average, decay 0.5" in card and str(tmp_path) not in card


def test_dry_run_creates_no_repo(tmp_path: Path, arguments: Arguments, hub: Hub) -> None:
    assert main(arguments(tmp_path / "run", PUSH, "--dry-run")) == 0
    assert hub.requests == []


def test_push_steps_push_to_branch(tmp_path: Path, train: Train, hub: Hub) -> None:
    changes = {
        "hub.push_steps": 2,
        "hub.branch": "steps",
        "train.max_steps": 5,
        "hub.samples": False,
    }
    train(tmp_path / "run", PUSH | changes)
    assert _messages("steps")[0] == "Step 2"
    assert _messages() == ["Step 5, the last"]
    assert "samples.png" not in hub.files(REPO)
    assert "model.safetensors" in hub.files(REPO, revision="steps")


def test_push_does_not_change_training(
    tmp_path: Path,
    train: Train,
    hub: Hub,
    states: Callable[[Path], dict[str, Any]],
    assert_same: Callable[[Any, Any, str], None],
) -> None:
    train(tmp_path / "with", PUSH | {"hub.push_steps": 1})
    train(tmp_path / "without")
    ours, theirs = states(tmp_path / "with"), states(tmp_path / "without")
    newest = "step-00000004/state.pt"
    assert_same(ours[newest], theirs[newest], newest)


def test_push_failure_does_not_stop_training_and_logs_command(
    tmp_path: Path, train: Train, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    hub.fail("status", path=".*/commit/.*", status=403, times=None)
    outcome = train(run, PUSH | {"hub.push_steps": 2, "hub.private": True, "hub.samples": False})
    assert outcome.finished
    log = capfd.readouterr().err
    assert log.count("Not published:") >= 1 and "Traceback" not in log
    command = f"agit push {run} --repo {REPO} --license mit --private --no-samples"
    assert str(run / "model") in log and command in log
    AGITModel.from_pretrained(run / "model")


def test_push_unreachable_hub_at_start_trains(
    tmp_path: Path, train: Train, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agit_hub.training.callbacks.push._CHECK_TIMEOUT", 0.2)
    hub.fail("refuse", path="/api/repos/create", times=1)
    assert train(tmp_path / "run", PUSH).finished
    assert _messages() == ["Step 4, the last"]


def test_push_invalid_token_raises_before_training(
    tmp_path: Path, train: Train, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ConfigError, match="hf auth login") as raised:
        train(tmp_path / "run", PUSH)
    assert "hf_wrong" not in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("missing", "part"), [("license", "licence"), ("hub_model_id", "user/name")]
)
def test_push_without_repository_or_licence_raises_config_error(
    missing: str, part: str, tmp_path: Path, configure: Callable[..., TrainConfig]
) -> None:
    settings = {key: value for key, value in PUSH.items() if key != f"hub.{missing}"}
    with pytest.raises(ConfigError, match=rf"hub\.{missing} is missing") as raised:
        configure(tmp_path / "run", settings)
    assert part in str(raised.value)
