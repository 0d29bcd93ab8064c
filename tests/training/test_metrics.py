"""Means of named scalars on the device."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agit_hub.errors import RunError
from agit_hub.runs import RunFolder
from agit_hub.training.config import TrainConfig
from agit_hub.training.metrics import MeanMetrics, MetricLogger
from agit_hub.training.schedule import Schedule
from agit_hub.training.trainer import Trainer


def test_mean_metrics_averages_each_name() -> None:
    metrics = MeanMetrics()
    for value in (1.0, 2.0, 6.0):
        metrics.add("repeated", torch.tensor(value))
    metrics.add_all({"once": torch.tensor(5.0), "repeated": torch.tensor(3.0)})
    assert {name: mean.item() for name, mean in metrics.means().items()} == {
        "repeated": 3,
        "once": 5,
    }


def test_mean_metrics_add_returns_value_with_graph() -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    metrics = MeanMetrics()
    loss = weight * 3
    assert metrics.add("loss", loss) is loss
    loss.backward()
    assert weight.grad is not None and weight.grad.item() == 3
    assert not metrics.means()["loss"].requires_grad


def test_mean_metrics_bfloat16_values_sum_exactly() -> None:
    metrics = MeanMetrics()
    for _ in range(600):  # in bfloat16, 256 + 1 is 256
        metrics.add("one", torch.tensor(1.0, dtype=torch.bfloat16))
    assert metrics.means()["one"].item() == 1


def test_mean_metrics_resumed_continues() -> None:
    metrics, resumed = MeanMetrics(), MeanMetrics()
    metrics.add("a", torch.tensor(1.0))
    metrics.add("a", torch.tensor(2.0))
    file = io.BytesIO()
    torch.save(metrics.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True), torch.device("cpu"))
    # Changes of the first one do not affect the second.
    metrics.add("a", torch.tensor(100.0))
    resumed.add("a", torch.tensor(6.0))
    assert resumed.means()["a"].item() == 3


@pytest.mark.parametrize(("precision", "tolerated"), [("no", 0), ("bf16", 0), ("fp16", 20)])
def test_check_fp16_tolerates_losses_that_its_scaler_survives(
    tmp_path: Path, configure: Callable[..., TrainConfig], precision: str, tolerated: int
) -> None:
    """The scaler skips a step whose gradients are not finite, and halves its scale."""
    trainer = Trainer(configure(tmp_path))
    config = trainer.config
    config = replace(config, train=replace(config.train, mixed_precision=precision))
    schedule = Schedule(config.train, 1)
    logger = MetricLogger(config, RunFolder(tmp_path), schedule, 1, trainer._accelerator)
    watched = {
        f"attention/{side}/{name}": torch.tensor(0.5)
        for side in ("source", "target")
        for name in ("mean", "change")
    }
    step = 0
    with logger.open(0):
        for bad in (tolerated, tolerated, tolerated + 1):
            losses = [float("nan")] * bad
            for loss in losses if bad > tolerated else [*losses, 1.0]:
                logger.check(step)
                step += 1
                logger.update(step, watched | {"loss/cycle_s": torch.tensor(loss)})
        with pytest.raises(RunError, match=f"at step {step}:"):
            logger.check(step)
