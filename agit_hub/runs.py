"""The run folder: its files, and who may write to it."""

import json
import re
from collections.abc import Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import yaml
from filelock import FileLock, Timeout

from agit_hub.atomic import append_line, write_bytes
from agit_hub.environment import check_writable, expand_home
from agit_hub.errors import ConfigError, InputPathError, RunFolderError
from agit_hub.evaluation.results import MetricResult, read_results

FORMAT_VERSION = 2
"""Version of the format of run folders, in the key `format_version` of `config.yaml`."""

# Keys that may differ when a run is resumed; the folder may have been moved.
_MUTABLE = ("train.max_steps", "eval.patience", "log.", "hub.", "data.hub_timeout", "output_dir")
# Seconds: loader processes of a killed run hold its lock until they exit.
_LOCK_TIMEOUT = 10
_LOCK = ".lock"
_CHECKPOINT = re.compile(r"step-\d{8,}")


class RunFolder:
    """Paths in a run folder, reading and writing its small files, and its lock.

    Args:
        path: The folder; created by the first write.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = expand_home(path)
        self.config_file = self.path / "config.yaml"
        self.metrics_file = self.path / "metrics.jsonl"
        self.info_file = self.path / "run.json"
        self.status_file = self.path / "status.json"
        self.page_file = self.path / "index.html"
        self.samples = self.path / "samples"
        self.checkpoints = self.path / "checkpoints"
        self.model = self.path / "model"
        self.best = self.path / "best"
        self._best_file = self.path / "best.json"
        self._lock = FileLock(self.path / _LOCK)
        self._created: list[Path] = []
        """Folders that `lock` created, outermost first; those still empty are removed by `unlock`."""

    @classmethod
    def containing(cls, path: str | Path) -> Self | None:
        """Return the run that a path names: its folder, a model's folder in it, or a file of that."""
        place = expand_home(path)
        if place.is_file():
            place = place.parent
        own, parent = cls(place), cls(place.parent if place.name else place.absolute().parent)
        if own.exists:
            return own
        name = place.absolute().name
        return parent if parent.exists and name in (parent.model.name, parent.best.name) else None

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return self.config_file.is_file()

    def evaluation(self, weights: str) -> Path:
        """Return the folder for reports on the `last` or `best` weights."""
        return self.path / "evaluation" / weights

    def sample_grid(self, step: int) -> Path:
        """Return the path of the sample grid of a step."""
        return self.samples / f"step-{step:08d}.png"

    def latest_checkpoint(self) -> Path | None:
        """Return the newest complete checkpoint, if there is one."""
        found = list_checkpoints(self.checkpoints)
        return found[-1] if found else None

    def check(self, config: Mapping[str, Any], resume: bool) -> None:
        """Check that a run may write to this folder.

        Args:
            config: The content of the run's `config.yaml`.
            resume: Whether it continues the run in this folder.

        Raises:
            ConfigError: If the folder holds a run and `resume` is false, if settings have changed, or
                if it holds other files.
        """
        try:
            check_writable(self.path, "output_dir")
        except InputPathError as error:
            raise ConfigError(str(error)) from error
        if not self.exists:
            if resume:
                self.check_resumable()
            if self.path.is_dir() and any(path.name != _LOCK for path in self.path.iterdir()):
                raise ConfigError(
                    f"output_dir {self.path} holds files that do not belong to a run: use an empty or "
                    "new folder."
                )
            return
        if not resume:
            raise ConfigError(
                f"output_dir {self.path} already holds a run: add --resume to continue it, or use "
                "another --output_dir."
            )
        before, now = flatten(self.read_config()), flatten(config)
        changed = [
            f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key) and not key.startswith(_MUTABLE)
        ]
        if changed:
            raise ConfigError(
                f"Cannot resume {self.path} with other settings: {'; '.join(changed)}. Only "
                "train.max_steps, eval.patience, log, hub and data.hub_timeout may change: undo the "
                "change, or use another --output_dir."
            )
        self._check_steps(config["train"]["max_steps"])

    def check_resumable(self) -> None:
        """Check that a run could be resumed here; one that stopped before its first file starts again.

        Raises:
            ConfigError: If there is no such folder, as after a typing error.
        """
        if not self.path.exists():
            raise ConfigError(
                f"output_dir {self.path} does not exist, so no run can be resumed: check the name, or "
                "start one without --resume."
            )

    def _check_steps(self, max_steps: int | None) -> None:
        latest = self.latest_checkpoint()
        step = 0 if latest is None else checkpoint_step(latest)
        if max_steps is not None and step > max_steps:
            raise ConfigError(
                f"train.max_steps is {max_steps}, and the run in {self.path} is at step {step} already: "
                "set more steps to continue it; its model is complete as it is."
            )

    def read_config(self) -> dict[str, Any]:
        """Read `config.yaml`.

        Raises:
            ConfigError: If it is damaged, or was written by another version.
        """
        config = read_yaml(self.config_file)
        version = config.get("format_version")
        if version != FORMAT_VERSION:
            raise ConfigError(
                f"{self.config_file} has format_version {version}, and this version of agit-hub "
                f"reads {FORMAT_VERSION} only: use the version that wrote it. Its model can still be "
                "loaded."
            )
        return config

    def write_config(self, text: str) -> None:
        """Write `config.yaml`."""
        write_bytes(self.config_file, text.encode())

    def write_info(self, info: Mapping[str, Any]) -> None:
        """Write `run.json`: hardware, software, number of images, and the Hub's model it began with."""
        _write_json(self.info_file, info)

    def read_info(self) -> dict[str, Any]:
        """Read `run.json`; empty if there is none."""
        if not self.info_file.is_file():
            return {}
        return dict(json.loads(self.info_file.read_text(encoding="utf-8")))

    def write_best(self, info: Mapping[str, Any]) -> None:
        """Write `best.json`: the step and KID of the best weights."""
        _write_json(self._best_file, info)

    def read_best(self) -> dict[str, Any]:
        """Read `best.json`."""
        return dict(json.loads(self._best_file.read_text(encoding="utf-8")))

    def append_metrics(self, line: Mapping[str, float]) -> None:
        """Append a line to `metrics.jsonl`."""
        append_line(self.metrics_file, json.dumps(line))

    def read_metrics(self) -> list[dict[str, float]]:
        """Read `metrics.jsonl`, ignoring damaged lines, such as the last one after a crash."""
        if not self.metrics_file.is_file():
            return []
        lines = []
        for text in self.metrics_file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and "step" in line:
                lines.append(line)
        return lines

    def truncate_metrics(self, step: int) -> None:
        """Drop the lines after `step`, which a resumed run writes again."""
        if self.metrics_file.is_file():
            lines = [line for line in self.read_metrics() if line["step"] <= step]
            text = "".join(json.dumps(line) + "\n" for line in lines)
            write_bytes(self.metrics_file, text.encode())

    def lock(self) -> None:
        """Lock the folder against other training processes, until `unlock` or the process exits.

        Raises:
            ConfigError: If another process holds the lock.
        """
        missing = [place for place in (self.path, *self.path.parents) if not place.exists()]
        self._created = missing[::-1]
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=_LOCK_TIMEOUT)
        except Timeout as error:
            raise ConfigError(
                f"output_dir {self.path} is locked by another training process, or by another Trainer of "
                "this one: wait for it, stop it, or use another --output_dir."
            ) from error

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock.is_locked:
            # Before the release: a process that waits would lock a file that is about to go.
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()
            for folder in reversed(self._created):
                with suppress(OSError):  # it holds a run now
                    folder.rmdir()


@dataclass(frozen=True)
class RunRecord:
    """The content of a run folder."""

    folder: Path
    config: Mapping[str, Any]
    """Content of `config.yaml`: sections `model`, `data`, `train`, ..."""
    curve: list[dict[str, float]]
    """Lines of `metrics.jsonl`, one for each log step."""
    machine: Mapping[str, Any]
    """Content of `run.json`: device, libraries, number of images, base model; empty if there is none."""
    measurements: list[MetricResult]

    @property
    def model(self) -> Path:
        """Folder of the published networks."""
        return RunFolder(self.folder).model

    @property
    def labels(self) -> tuple[str, str]:
        """(source_label, target_label)."""
        model = self.config["model"]
        return model["source_label"], model["target_label"]

    @property
    def grid(self) -> Path | None:
        """The newest sample grid, if there is one."""
        return max(RunFolder(self.folder).samples.glob("step-*.png"), default=None)

    @property
    def steps(self) -> int:
        """Last logged optimiser step."""
        return int(self.curve[-1]["step"]) if self.curve else 0

    @property
    def seconds(self) -> float:
        """Time of the logged steps."""
        train = self.config["train"]
        processes = self.machine.get("processes", 1)
        images = 2 * train["batch_size"] * train["gradient_accumulation_steps"] * processes
        before, total = 0, 0.0
        for line in self.curve:
            total += (line["step"] - before) * images / line["images_per_second"]
            before = int(line["step"])
        return total


def read_run(folder: Path) -> RunRecord:
    """Read a run folder.

    Raises:
        RunFolderError: If it is not a run folder, holds no model yet, or was written by another version.
    """
    run = RunFolder(folder)
    if not run.exists:
        raise RunFolderError(f"{folder} is not a run folder: it has no {run.config_file.name}.")
    if not (run.model / "model.safetensors").is_file():
        raise RunFolderError(
            f"{folder} holds no model yet: one is written at the first checkpoint "
            "(train.checkpointing_steps)."
        )
    try:
        config, measurements = run.read_config(), read_results(folder)
    except ValueError as error:
        raise RunFolderError(str(error)) from error
    return RunRecord(folder, config, run.read_metrics(), run.read_info(), measurements)


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints in a folder, oldest first."""
    named = (path for path in folder.glob("step-*") if _CHECKPOINT.fullmatch(path.name))
    return sorted(filter(Path.is_dir, named), key=checkpoint_step)


def checkpoint_step(path: Path) -> int:
    """Return the step of a checkpoint's folder."""
    return int(path.name[len("step-") :])


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return the path of the checkpoint of a step."""
    return folder / f"step-{step:08d}"


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested sections to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of nested sections, without duplicate keys.

    Raises:
        ConfigError: If the file cannot be read as such.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader)  # a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        found = {list: "a list", type(None): "nothing"}.get(type(values), repr(values))
        raise ConfigError(f"{path} holds {found}; expected sections such as train:")
    return values


class _UniqueKeyLoader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key must be a word{key.start_mark}")
            if key.value in seen:
                raise yaml.YAMLError(f"duplicate key {key.value!r}{key.start_mark}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_bytes(path, (json.dumps(content, indent=2) + "\n").encode())
