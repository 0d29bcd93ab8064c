"""Runs whose attention is empty or full: the switch is postponed, and the collapse is logged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from agit_hub.config import AGITConfig
from agit_hub.models.agit import AGITModel
from tests.training.conftest import SIZE, Train

Metrics = Callable[[Path], list[dict[str, float]]]
InitFrom = Callable[..., dict[str, Any]]
WEIGHTS = "model/model.safetensors"
COLLAPSED = {"train.max_steps": 6, "train.switch.step": 3}


@pytest.fixture
def init_from(tmp_path: Path) -> InitFrom:
    """Save a model with a bias of its attention heads, and return settings that start from it."""

    def make(bias: float, attention: str = "network", seed: int = 0) -> dict[str, Any]:
        torch.manual_seed(seed)
        tiny = {"image_size": SIZE, "channels": 4, "blocks": 0, "attention_channels": 4}
        model = AGITModel(AGITConfig(attention=attention, **tiny))  # type: ignore[arg-type]
        for network in (model.attention_s, model.attention_t):
            torch.nn.init.constant_(network.head.bias, bias)  # type: ignore[union-attr, arg-type]
        folder = tmp_path / f"model-{attention}-{bias}-{seed}"
        model.save_pretrained(folder)
        return {"train.init_from": folder, "model.attention": attention}

    return make


def _step_lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("Step ")]


def test_switch_attention_empty_is_postponed(
    tmp_path: Path,
    train: Train,
    metrics: Metrics,
    init_from: InitFrom,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, settings = tmp_path / "run", COLLAPSED | init_from(-20)
    train(run, settings)
    assert [line["switched"] for line in metrics(run)] == [0] * 6
    (line,) = _step_lines(capsys)
    assert line.startswith("Step 3: ") and "postponed" in line
    assert "source attention is empty" in line and "target attention is empty" in line
    # Resumed it is still postponed, and does not log it again.
    train(run, settings | {"train.max_steps": 8}, resume=True)
    assert [line["switched"] for line in metrics(run)] == [0] * 8
    assert "postponed" not in capsys.readouterr().err


def test_switch_on_collapse_warn_switches_with_warning(
    tmp_path: Path,
    train: Train,
    metrics: Metrics,
    init_from: InitFrom,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    train(run, COLLAPSED | init_from(-20) | {"train.switch.on_collapse": "warn"})
    assert [line["switched"] for line in metrics(run)] == [0, 0, 0, 1, 1, 1]
    (line,) = _step_lines(capsys)
    assert line.startswith("Step 3: the switch.") and "although" in line
    assert "source attention is empty" in line


def test_switch_postponed_happens_when_attention_recovers(
    tmp_path: Path, train: Train, metrics: Metrics, init_from: InitFrom
) -> None:
    """Maps that start just below the limit recover with some seeds: then the switch happens."""
    recovered = False
    for seed in range(8):
        run = tmp_path / str(seed)
        settings = {"train.seed": seed, "train.learning_rate": 0.05, "train.lambda_cyc": 0}
        # Such a short patience remembers the last step alone.
        start = {"train.switch.step": 1, "train.max_steps": 12, "train.collapse_patience": 4}
        train(run, settings | start | init_from(-4.7, seed=seed))
        lines = metrics(run)
        sides = ("attention/source/mean", "attention/target/mean")
        healthy = [all(line[side] >= 0.01 for side in sides) for line in lines]
        # In the step after the first one in which both are healthy, and permanently.
        expected = [0.0] + [float(any(healthy[: n + 1])) for n in range(11)]
        assert [line["switched"] for line in lines] == expected
        recovered = not healthy[0] and any(healthy[:-1])
        if recovered:
            break
    assert recovered


def test_switch_is_independent_of_log_steps(
    tmp_path: Path, train: Train, metrics: Metrics, init_from: InitFrom
) -> None:
    """The section `log` may change when a run is resumed, so it must not change the run."""
    run = tmp_path / "run"
    train(run, COLLAPSED | init_from(-20) | {"log.steps": 100})
    assert [line["switched"] for line in metrics(run)] == [0]


@pytest.mark.parametrize("attention", ["network", "features"])
@pytest.mark.parametrize(("bias", "state"), [(-20, "near 0 everywhere"), (20, "near 1 everywhere")])
def test_collapse_is_logged_once_per_map(
    tmp_path: Path,
    train: Train,
    init_from: InitFrom,
    capsys: pytest.CaptureFixture[str],
    bias: float,
    state: str,
    attention: str,
) -> None:
    run = tmp_path / "run"
    settings = init_from(bias, attention) | {
        "train.collapse_patience": 2,
        "train.checkpointing_steps": 2,
    }
    train(run, settings)
    train(run, settings | {"train.max_steps": 6}, resume=True)
    source, target = (line for line in capsys.readouterr().err.splitlines() if state in line)
    assert source.startswith("Step 3: Attention on source images")
    assert target.startswith("Step 3: Attention on target images")
    assert "for 2 steps" in source


def test_collapse_attention_ones_is_not_reported(
    tmp_path: Path, train: Train, metrics: Metrics, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        tmp_path,
        {"model.attention": "ones", "train.collapse_patience": 1, "train.switch.step": 2},
    )
    assert "near 1" not in capsys.readouterr().err
    assert [line["switched"] for line in metrics(tmp_path)] == [0, 0, 1, 1]
    assert not [name for name in load_file(tmp_path / WEIGHTS) if name.startswith("attention")]
