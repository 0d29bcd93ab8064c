"""What a run says before its first step."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from agit_hub.training import greeting as module
from agit_hub.training.config import TrainConfig
from agit_hub.training.greeting import run_summary
from agit_hub.training.trainer import Trainer

Configure = Callable[..., TrainConfig]


def _said(trainer: Trainer, done: int, total: int) -> list[str]:
    steps, model = (done, total), trainer.published
    return list(run_summary(trainer._start, Path("run"), steps, model, trainer._accelerator))


def test_cores_that_lie_idle_are_told(
    tmp_path: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(configure(tmp_path))
    told = "Only 1 of 4 cores are in use"
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert sum(line.startswith(told) for line in _said(trainer, 0, 4)) == 1
    assert "--num_cpu_threads_per_process 4" in _said(trainer, 0, 4)[-1]
    monkeypatch.setattr(os, "cpu_count", lambda: torch.get_num_threads())
    assert not any("cores" in line for line in _said(trainer, 0, 4))


@pytest.mark.parametrize(("total", "asked"), [(500, 1), (499, 0)])
def test_only_a_long_run_measures_what_bfloat16_would_gain(
    total: int,
    asked: int,
    tmp_path: Path,
    configure: Configure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes: list[torch.Size] = []

    def gain(_: torch.nn.Module, pictures: torch.Tensor) -> float:
        shapes.append(pictures.shape)
        return 2.0

    monkeypatch.setattr(module, "bf16_gain", gain)
    trainer = Trainer(configure(tmp_path, {"train.batch_size": 3}))
    said = _said(trainer, 0, total)
    assert shapes == [(3, 3, 16, 16)] * asked
    assert sum("2.0 times as fast" in line for line in said) == asked


def test_a_resumed_run_says_where_it_goes_on(tmp_path: Path, configure: Configure) -> None:
    trainer = Trainer(configure(tmp_path))
    first, source, target, *_ = _said(trainer, 2, 4)
    assert first.startswith("Resuming at step 2 of 4 steps on 5 source and 3 target pictures; ")
    assert first.endswith("mixed_precision no. Run folder: run")
    assert source.startswith("source: ") and target.startswith("target: ")
