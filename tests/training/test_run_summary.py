"""Log lines before the first step of a run."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from agit_hub.training.config import TrainConfig
from agit_hub.training.setup import run_summary
from agit_hub.training.trainer import Trainer

Configure = Callable[..., TrainConfig]


def _summary(trainer: Trainer, step: int, total: int) -> list[str]:
    return list(run_summary(trainer._setup, step, total, trainer._accelerator))


def test_run_summary_idle_cores_are_logged(
    tmp_path: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(configure(tmp_path))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    (line,) = [line for line in _summary(trainer, 0, 4) if "1 of 4 cores" in line]
    assert "--num_cpu_threads_per_process 4" in line
    monkeypatch.setattr(os, "cpu_count", lambda: torch.get_num_threads())
    assert not any("--num_cpu_threads" in line for line in _summary(trainer, 0, 4))


def test_run_summary_resumed_states_step(tmp_path: Path, configure: Configure) -> None:
    trainer = Trainer(configure(tmp_path))
    first, source, target, *_ = _summary(trainer, 2, 4)
    assert first.startswith("Resuming at step 2 of 4 steps on 5 source and 3 target images; ")
    assert first.endswith(f"mixed_precision no. Run folder: {tmp_path}")
    assert source.startswith("source: ") and target.startswith("target: ")
