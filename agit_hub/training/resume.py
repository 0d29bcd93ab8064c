"""Resume a run exactly: its folder and settings, and the whole state of a training."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from accelerate import Accelerator

from agit_hub.data.config import DomainConfig
from agit_hub.data.store import COMMIT
from agit_hub.errors import ConfigError
from agit_hub.runs import RunFolder
from agit_hub.training import checkpoint
from agit_hub.training.config import TrainConfig
from agit_hub.training.config_loader import to_dict
from agit_hub.training.distributed import on_first_rank
from agit_hub.training.image_pool import ImagePool
from agit_hub.training.metrics import MetricLogger


def open_run(
    config: TrainConfig, folder: RunFolder, resume: bool
) -> tuple[TrainConfig, Path | None]:
    """Lock a run folder.

    Returns:
        The settings, with the domains that the run resolved when it started, and the checkpoint to
        resume from; None to start.

    Raises:
        ConfigError: If the settings do not match the folder, or another process trains in it.
    """
    # Before the lock, which creates the folder, and after it: another process may have trained meanwhile.
    _checked(config, folder, resume)
    folder.lock()
    config = _checked(config, folder, resume)
    return config, folder.latest_checkpoint() if resume else None


def _checked(config: TrainConfig, folder: RunFolder, resume: bool) -> TrainConfig:
    if resume and folder.exists:
        config = _with_resolved_domains(config, folder.read_config())
    folder.check(to_dict(config), resume)
    return config


def _with_resolved_domains(config: TrainConfig, saved: dict[str, Any]) -> TrainConfig:
    """Fill unset options of the domains with what the run resolved when it started.

    A dataset stays at its commit, for instance, even if its branch has moved on.
    """
    data = config.data
    source, target = (
        _resolved(getattr(data, side), saved["data"][side]) for side in ("source", "target")
    )
    ranges = {
        key: saved["model"].get(key)
        for key in ("source_range", "target_range")
        if getattr(config.model, key) is None
    }
    model = replace(config.model, **ranges)
    return replace(config, data=replace(data, source=source, target=target), model=model)


def _resolved(domain: DomainConfig, saved: dict[str, Any]) -> DomainConfig:
    # A label may be a number in the data and a string on the command line.
    found = {
        key: saved[key]
        for key, value in asdict(domain).items()
        if key in saved and (value is None or str(value) == str(saved[key]))
    }
    commit = saved.get("revision")
    if commit and not COMMIT.fullmatch(domain.revision or ""):
        found["revision"] = commit
    return replace(domain, **found)


class Stateful(Protocol):
    """An object whose state all processes share."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Restore the state of a checkpoint."""
        ...


@dataclass(frozen=True)
class Progress:
    """Where a training stands."""

    step: int
    """Optimiser steps done."""
    total_steps: int
    switch_postponed: bool


@dataclass(frozen=True)
class TrainingState:
    """All that a resumed run needs to continue bit for bit.

    On a GPU that takes `train.deterministic` too.
    """

    accelerator: Accelerator
    shared: Mapping[str, Stateful | None]
    """Objects by name; None for those that this run does not use."""
    pools: Mapping[Any, ImagePool]
    """The image pools of this process."""
    metric_logger: MetricLogger
    counts: list[int | None]
    """Images of both domains."""
    masks: list[int | None]
    """Masks of both domains; None for none, or if they are not counted."""

    def of_all(self, progress: Progress) -> dict[str, Any]:
        """Return the state that all processes share."""
        return {
            "step": progress.step,
            "total_steps": progress.total_steps,
            "switch_postponed": progress.switch_postponed,
            "processes": self.accelerator.num_processes,
            "images": self.counts,
            "masks": self.masks,
            "metrics": self.metric_logger.shared_state(),
            **{
                name: None if each is None else each.state_dict()
                for name, each in self.shared.items()
            },
        }

    def of_process(self) -> dict[str, Any]:
        """Return the state of this process."""
        device = self.accelerator.device
        return {
            "pools": {direction: pool.state_dict() for direction, pool in self.pools.items()},
            "metrics": self.metric_logger.rank_state(),
            "random": torch.get_rng_state(),
            # Of this process's GPU alone: another machine may have fewer.
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        }

    def load(self, path: Path) -> Progress:
        """Restore a checkpoint.

        Raises:
            ConfigError: If it is damaged, or belongs to other images or another number of processes.
        """
        accelerator = self.accelerator
        packed, ranks = on_first_rank(
            accelerator, lambda: checkpoint.read_checkpoint(path, accelerator.num_processes)
        )
        saved = checkpoint.unpack(packed)
        own = checkpoint.unpack(ranks[accelerator.process_index])
        self.metric_logger.checkpoint = path
        self._check_counts("images", saved["images"], self.counts)
        # Runs of earlier versions have none.
        self._check_counts("masks", saved.get("masks", [None, None]), self.masks)
        for name, each in self.shared.items():
            if each is not None:
                each.load_state_dict(saved[name])
        for direction, pool in self.pools.items():
            pool.load_state_dict(own["pools"][direction], accelerator.device)
        self.metric_logger.load_state(saved["metrics"], own["metrics"])
        torch.set_rng_state(own["random"])
        if accelerator.device.type == "cuda" and own["random_cuda"] is not None:
            torch.cuda.set_rng_state(own["random_cuda"], accelerator.device)
        return Progress(saved["step"], saved["total_steps"], saved["switch_postponed"])

    def _check_counts(self, what: str, saved: list[int | None], now: list[int | None]) -> None:
        for side, before, count in zip(("source", "target"), saved, now, strict=True):
            if None not in (before, count) and before != count:
                raise ConfigError(
                    f"data.{side} had {before} {what} when this run was saved and has {count}: restore "
                    "them, or start again in another --output_dir."
                )
