"""What a run does when attention is empty or full: the switch waits, and it is said."""

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.training.conftest import Train

Metrics = Callable[[Path], list[dict[str, float]]]
WEIGHTS = "model/model.safetensors"
DEAD = {"train.attention_bias": -20, "train.max_steps": 6, "train.switch.step": 3}


def test_the_switch_waits_while_attention_is_empty(
    tmp_path: Path, train: Train, metrics: Metrics, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, DEAD)
    assert [line["switched"] for line in metrics(tmp_path)] == [0] * 6
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Step ")]
    assert len(said) == 1
    assert "Step 3: the switch is postponed" in said[0]
    assert "source attention is empty" in said[0] and "target attention is empty" in said[0]
    # Resumed it still waits, and does not say so again.
    train(tmp_path, DEAD | {"train.max_steps": 8}, resume=True)
    assert [line["switched"] for line in metrics(tmp_path)] == [0] * 8
    assert "postponed" not in capsys.readouterr().err


def test_the_switch_comes_on_time_with_a_warning_where_that_is_asked_for(
    tmp_path: Path, train: Train, metrics: Metrics, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, DEAD | {"train.switch.on_collapse": "warn"})
    assert [line["switched"] for line in metrics(tmp_path)] == [0, 0, 0, 1, 1, 1]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Step ")]
    assert len(said) == 1
    assert said[0].startswith("Step 3: the switch.") and "although" in said[0]
    assert "source attention is empty" in said[0]


def test_a_postponed_switch_is_made_when_attention_recovers(
    tmp_path: Path, train: Train, metrics: Metrics
) -> None:
    """Maps that start just below the limit leave it in some runs: then the switch comes."""
    recovered = False
    for seed in range(8):
        run = tmp_path / str(seed)
        settings = {"train.seed": seed, "train.learning_rate": 0.05, "train.lambda_cyc": 0}
        start = {"train.attention_bias": -4.7, "train.switch.step": 1, "train.max_steps": 12}
        train(run, settings | start)
        lines = metrics(run)
        sides = ("attention/source/mean", "attention/target/mean")
        alive = [all(line[side] >= 0.01 for side in sides) for line in lines]
        # In the step after the first at which both are seen alive, and for good.
        expected = [0.0] + [float(any(alive[: n + 1])) for n in range(11)]
        assert [line["switched"] for line in lines] == expected
        recovered = not alive[0] and any(alive[:-1])
        if recovered:
            break
    assert recovered


def test_how_often_one_looks_does_not_decide_whether_the_switch_waits(
    tmp_path: Path, train: Train, metrics: Metrics
) -> None:
    """`log` is free to change between a run and its continuation: it must not change the run."""
    train(tmp_path, DEAD | {"log.every": 100})
    assert [line["switched"] for line in metrics(tmp_path)] == [0]


@pytest.mark.parametrize("attention", ["network", "features"])
@pytest.mark.parametrize(("bias", "words"), [(-20, "near 0 everywhere"), (20, "near 1 everywhere")])
def test_a_collapse_is_said_once_for_each_map(
    tmp_path: Path,
    train: Train,
    capsys: pytest.CaptureFixture[str],
    bias: float,
    words: str,
    attention: str,
) -> None:
    settings = {
        "model.attention": attention,
        "train.attention_bias": bias,
        "train.collapse_patience": 2,
        "train.checkpoint_every": 2,
    }
    train(tmp_path, settings)
    train(tmp_path, settings | {"train.max_steps": 6}, resume=True)
    said = [line for line in capsys.readouterr().err.splitlines() if words in line]
    assert len(said) == 2 and all(line.startswith("Step 3: Attention on ") for line in said)
    assert "source pictures" in said[0] and "target pictures" in said[1]
    assert "for 2 steps" in said[0]


def test_full_attention_of_the_cyclegan_baseline_is_no_collapse(
    tmp_path: Path, train: Train, metrics: Metrics, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        tmp_path,
        {"model.attention": "ones", "train.collapse_patience": 1, "train.switch.step": 2},
    )
    assert "near 1" not in capsys.readouterr().err
    assert [line["switched"] for line in metrics(tmp_path)] == [0, 0, 1, 1]
    assert not [name for name in load_file(tmp_path / WEIGHTS) if name.startswith("attention")]
