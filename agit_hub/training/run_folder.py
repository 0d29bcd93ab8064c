"""The run folder: what lies where, and who may write into it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from agit_hub.atomic import append_line, write_bytes
from agit_hub.data.config import DomainConfig
from agit_hub.data.store import COMMIT
from agit_hub.errors import ConfigError
from agit_hub.training import checkpoint
from agit_hub.training.config import TrainConfig
from agit_hub.training.config_loader import flatten, read_yaml, to_yaml

# What may differ between a run and its continuation. The folder may have been moved.
_FREE = ("train.max_steps", "eval.patience", "log.", "hub.", "data.network_patience", "output_dir")

# Seconds that a killed run's workers need to see that it is gone; they hold its lock until then.
_STRAGGLERS = 10
_LOCK = ".lock"


class RunFolder:
    """What one run leaves: settings, curve, samples, checkpoints, the model, and the picked one.

    Args:
        path: The folder; made when first written to.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.model = self.path / "model"
        self.picked = self.path / "picked"
        self._config = self.path / "config.yaml"
        self._facts = self.path / "run.json"
        self._metrics = self.path / "metrics.jsonl"
        self._lock = FileLock(self.path / _LOCK)

    def newest_checkpoint(self) -> Path | None:
        """The newest complete checkpoint, if there is any."""
        found = checkpoint.checkpoints(self.checkpoints)
        return found[-1] if found else None

    def check(self, config: TrainConfig, resume: bool) -> None:
        """Refuse a folder that this run must not write into.

        Raises:
            ConfigError: If it holds a run and `resume` is false, if settings changed since, or if
                it holds something else altogether.
        """
        for place in (self.path, *self.path.parents):
            if place.exists() and not place.is_dir():
                raise ConfigError(f"output_dir {self.path}: {place} is a file; a folder is needed.")
        if not self._config.is_file():
            if self.path.is_dir() and any(path.name != _LOCK for path in self.path.iterdir()):
                raise ConfigError(
                    f"output_dir {self.path} holds files that are not a run's: give an empty or new one."
                )
            return
        if not resume:
            raise ConfigError(
                f"output_dir {self.path} already holds a run: add --resume to go on with it, or give "
                "another --output_dir."
            )
        changed = self._changed_settings(config)
        if changed:
            raise ConfigError(
                f"Cannot resume {self.path} with other settings: {'; '.join(changed)}. Only "
                "train.max_steps, eval.patience, log, hub and data.network_patience may change: drop the "
                "change, or give another --output_dir."
            )

    def lock(self) -> None:
        """Keep other processes from training into this folder until `unlock`, or until this one ends.

        Raises:
            ConfigError: If one does.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=_STRAGGLERS)
        except Timeout as error:
            raise ConfigError(
                f"output_dir {self.path} is being trained into by another process: wait for it, stop "
                "it, or give another --output_dir."
            ) from error

    def unlock(self) -> None:
        """Let others train into this folder."""
        if self._lock.is_locked:
            self._lock.release()
            Path(self._lock.lock_file).unlink(missing_ok=True)

    def with_what_was_found(self, config: TrainConfig) -> TrainConfig:
        """A continuation's configuration, with what its first part found out about the pictures.

        The commit of a dataset, its column and so on, where they are not said anew: a branch may have
        moved on since.
        """
        if not self._config.is_file():
            return config
        before = flatten(read_yaml(self._config))
        data = config.data
        source = _as_found(data.source, before, "data.source.")
        target = _as_found(data.target, before, "data.target.")
        return replace(config, data=replace(data, source=source, target=target))

    def write_config(self, config: TrainConfig) -> None:
        """Write the resolved configuration."""
        write_bytes(self._config, to_yaml(config).encode())

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write what the model's card says of machine and pictures."""
        write_bytes(self._facts, (json.dumps(facts, indent=2) + "\n").encode())

    def write_picked(self, facts: Mapping[str, Any]) -> None:
        """Write after which step the picked weights were taken, and how they did."""
        write_bytes(self.path / "picked.json", (json.dumps(facts, indent=2) + "\n").encode())

    def append_metrics(self, line: Mapping[str, float]) -> None:
        """Add a line to `metrics.jsonl`."""
        append_line(self._metrics, json.dumps(line))

    def forget_metrics_after(self, step: int) -> None:
        """Drop the lines that a resumed run is going to write again."""
        if not self._metrics.is_file():
            return
        kept = []
        for line in self._metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (ValueError, TypeError, KeyError):  # the line a crash cut short
                continue
        write_bytes(self._metrics, "".join(kept).encode())

    def _changed_settings(self, config: TrainConfig) -> list[str]:
        before = flatten(read_yaml(self._config))
        now: dict[str, Any] = flatten(yaml.safe_load(to_yaml(config)))
        return [
            f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not key.startswith(_FREE)
        ]


def tracker_values(config: TrainConfig) -> dict[str, Any]:
    """The configuration as experiment trackers take it: dotted keys, plain values."""
    flat = flatten(asdict(config))
    return {
        key: v if isinstance(v, int | float | str | bool) else str(v) for key, v in flat.items()
    }


def _as_found(domain: DomainConfig, before: Mapping[str, Any], prefix: str) -> DomainConfig:
    # A label that is a number in the data is a word on the command line.
    found = {
        key: before[prefix + key]
        for key, value in asdict(domain).items()
        if prefix + key in before and (value is None or str(value) == str(before[prefix + key]))
    }
    commit = before.get(f"{prefix}revision")
    if commit and not COMMIT.fullmatch(domain.revision or ""):
        found["revision"] = commit
    return replace(domain, **found)
