"""Collect metrics on the device, and log them: progress bar, `metrics.jsonl`, experiment trackers."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from agit_hub.errors import RunError
from agit_hub.logging import get_logger
from agit_hub.runs import RunFolder, flatten
from agit_hub.training.attention_monitor import SIDES, CollapseMonitor
from agit_hub.training.config import TrainConfig
from agit_hub.training.config_loader import to_yaml
from agit_hub.training.distributed import reduce
from agit_hub.training.schedule import Schedule

logger = get_logger(__name__)

# Metrics of each side's maps that the collapse monitor judges.
_WATCHED = ("mean", "change")
# Consecutive steps without a finite loss that fp16 may take: the scale falls by a factor of a million.
_SCALER_STEPS = 20


class MeanMetrics:
    """Running means of named scalars such as `loss/cycle_s`, kept on the device without a sync."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor) -> Tensor:
        """Add a scalar, and return it with its graph."""
        self.add_all({name: value})
        return value

    def add_all(self, values: Mapping[str, Tensor]) -> None:
        """Add several scalars, in one batched addition."""
        added = {name: value.detach().float() for name, value in values.items()}
        known = [name for name in added if name in self._sums]
        if known:
            sums = torch._foreach_add(
                [self._sums[name] for name in known], [added[name] for name in known]
            )
            added |= dict(zip(known, sums, strict=True))
        self._sums |= added
        for name in added:
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, Tensor]:
        """Return the mean of each name."""
        return {
            name: total if self._counts[name] == 1 else total / self._counts[name]
            for name, total in self._sums.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore the state of a checkpoint on a device."""
        self._sums = {name: total.to(device) for name, total in state["sums"].items()}
        self._counts = dict(state["counts"])


@dataclass(frozen=True)
class ValidationResult:
    """Result of a validation during the run."""

    metrics: dict[str, float]
    """`eval/st/kid`, `eval/ts/identical`, ..., and `eval/step`."""
    message: str
    """For the log."""
    seconds: float
    """Duration, which does not count as training time."""


class MetricLogger:
    """Collect metrics at every step, and log their means over steps and processes when asked to."""

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        schedule: Schedule,
        steps_per_epoch: int,
        accelerator: Accelerator,
    ) -> None:
        train = config.train
        patience = train.collapse_patience or max(200, schedule.total_steps // 10)
        self.collapse = CollapseMonitor(patience)
        self.checkpoint: Path | None = None
        self._config = config
        self._folder = folder
        self._schedule = schedule
        self._steps_per_epoch = steps_per_epoch
        self._accelerator = accelerator
        self._is_main: bool = accelerator.is_main_process
        micro_batches = train.gradient_accumulation_steps * accelerator.num_processes
        self._images_per_step = 2 * train.batch_size * micro_batches
        self._since_log = MeanMetrics()
        self._bad_step = torch.tensor(-1.0, device=accelerator.device)
        self._bad_steps = torch.tensor(0.0, device=accelerator.device)
        """Consecutive steps with a loss that is not finite."""
        # The scaler of fp16 skips such a step and halves its scale: it survives some of them.
        self._tolerated = _SCALER_STEPS if train.mixed_precision == "fp16" else 0
        self._unchecked: list[Tensor] = []
        self.images_per_second: float | None = None
        """Since the last log step but one; None before the first."""
        self._validation: dict[str, float] = {}
        self._unreadable: set[str] = set()

    @contextmanager
    def open(self, step: int) -> Iterator[None]:
        """Show the progress bar, start the trackers, and truncate `metrics.jsonl` after `step`."""
        if self._is_main:
            self._folder.write_config(to_yaml(self._config))
            self._folder.truncate_metrics(step)
        trackers = self._config.log.trackers
        if trackers:
            self._accelerator.init_trackers("agit-hub", config=_tracker_values(self._config))
        self._clock = (time.perf_counter(), step)
        self._terminal = self._is_main and sys.stderr.isatty()
        self._bar = tqdm(
            total=self._schedule.total_steps,
            initial=step,
            unit="step",
            dynamic_ncols=True,
            disable=not self._terminal,
        )
        try:
            # Log above the bar, if there is one.
            loggers = [get_logger("agit_hub")] if self._terminal else []
            with self._bar, logging_redirect_tqdm(loggers=loggers):
                yield
        finally:
            if trackers:
                self._accelerator.end_training()

    def info(self, message: str) -> None:
        """Log a message, in the main process."""
        if self._is_main:
            logger.info(message)

    def update(self, step: int, metrics: dict[str, Tensor]) -> None:
        """Add the metrics of optimiser step `step`, counted from 1, without a device sync."""
        self._since_log.add_all(metrics)
        # Of a direction that is not trained there is no change: its mean instead is never idle.
        watched = [
            metrics.get(f"attention/{side}/{name}", metrics[f"attention/{side}/mean"])
            for name in _WATCHED
            for side in SIDES
        ]
        self._unchecked.append(torch.stack(watched))
        losses = torch.stack([v for name, v in metrics.items() if name.startswith("loss/")])
        self._bad_steps = torch.where(losses.isfinite().all(), 0.0, self._bad_steps + 1)
        is_first_bad = (self._bad_steps >= self._tolerated + 1) & (self._bad_step < 0)
        self._bad_step = torch.where(is_first_bad, float(step), self._bad_step)
        self._bar.update()

    def record_validation(self, result: ValidationResult) -> None:
        """Log a validation, and add its metrics to the next log line."""
        self.info(result.message)
        self._validation = result.metrics
        start, step = self._clock
        self._clock = (start + result.seconds, step)

    def record_unreadable(self, names: list[str]) -> None:
        """Log each unreadable image once."""
        for name in names:
            if name not in self._unreadable:
                self._unreadable.add(name)
                message = f"Skipped an unreadable image ({len(self._unreadable)} so far): {name}"
                if self._is_main:
                    logger.info(message)
                else:
                    logger.warning("Process %d: %s", self._accelerator.process_index, message)

    def check(self, step: int) -> None:
        """Check the steps up to `step` for infinite losses and collapsed attention.

        Every step's maps are checked, so that the result does not depend on how often this is called.

        Raises:
            RunError: If a loss was not finite.
        """
        self._check_finite()
        if not self._unchecked:
            return
        means = reduce(self._accelerator, torch.stack(self._unchecked), "mean").tolist()
        self._unchecked = []
        if self._config.model.attention == "ones":
            return
        for number, values in enumerate(means, start=step - len(means) + 1):
            by_side = (dict(zip(SIDES, pair, strict=True)) for pair in (values[:2], values[2:]))
            for collapse in self.collapse.update(number, *by_side):
                self.info(f"Step {number}: {collapse}")

    def _check_finite(self) -> None:
        worst = reduce(self._accelerator, self._bad_step, "sum").item()  # -1 per rank without one
        if worst > -self._accelerator.num_processes:
            bad = int(self._bad_step.item())
            raise RunError(
                f"A loss was not finite at step {bad if bad >= 0 else '(on another process)'}: "
                "decrease train.learning_rate, set train.max_grad_norm, or train in fp32 "
                f"(train.mixed_precision no).{self.last_checkpoint_message()}"
            )

    def log(self, step: int) -> None:
        """Log the means since the last log step, after `step` steps of the run."""
        self.check(step)
        metrics = self._means() | self._progress(step) | self._validation
        self._validation = {}
        self._report(step, metrics)
        self._accelerator.log(metrics, step=step)
        if self._is_main:
            self._folder.append_metrics({"step": step, **metrics})

    @property
    def steps_per_second(self) -> float | None:
        """Since the last log step but one; None before the first."""
        rate = self.images_per_second
        return None if rate is None else rate / self._images_per_step

    def last_checkpoint_message(self) -> str:
        """Return a sentence that names the newest checkpoint, to append to an error message."""
        if self.checkpoint is None:
            return " No checkpoint was saved yet."
        return f" The checkpoint {self.checkpoint} is safe."

    def _means(self) -> dict[str, float]:
        means = self._since_log.means()
        self._since_log = MeanMetrics()
        packed = reduce(self._accelerator, torch.stack(list(means.values())), "mean")
        return dict(zip(means, packed.tolist(), strict=True))

    def _progress(self, step: int) -> dict[str, float]:
        phase = self._schedule.phase(step - 1)
        (start, first), self._clock = self._clock, (time.perf_counter(), step)
        seconds = max(self._clock[0] - start, 1e-9)
        self.images_per_second = self._images_per_step * (step - first) / seconds
        return {
            "learning_rate": phase.learning_rate,
            "lambda_cyc": phase.lambda_cyc,
            "switched": float(self._schedule.switched_at is not None),
            "epoch": step / self._steps_per_epoch,
            "images_per_second": self.images_per_second,
        }

    def _report(self, step: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics on the progress bar, or as a line if there is no terminal."""
        g, d, cycle = (
            _mean_of(metrics, f"loss/{name}_") for name in ("adversarial", "discriminator", "cycle")
        )
        attention = f"{metrics['attention/source/mean']:.3f}/{metrics['attention/target/mean']:.3f}"
        rate, total = metrics["images_per_second"], self._schedule.total_steps
        if self._terminal:
            self._bar.set_postfix_str(
                f"G {g:.2f} D {d:.2f} cycle {cycle:.3f} attention {attention} {rate:.1f} images/s"
            )
        else:
            left = tqdm.format_interval((total - step) / (rate / self._images_per_step))
            self.info(
                f"step {step}/{total}  G {g:.3f}  D {d:.3f}  cycle {cycle:.4f}  "
                f"attention {attention}  {rate:.1f} images/s  {left} left"
            )

    def shared_state(self) -> dict[str, Any]:
        """Return the state that all ranks share, to save in a checkpoint."""
        return {"collapse": self.collapse.state_dict(), "validation": dict(self._validation)}

    def rank_state(self) -> dict[str, Any]:
        """Return the state of this rank, to save in a checkpoint."""
        return {
            "since_log": self._since_log.state_dict(),
            "unreadable": sorted(self._unreadable),
        }

    def load_state(self, shared: dict[str, Any], own: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.collapse.load_state_dict(shared["collapse"])
        self._validation = dict(shared["validation"])
        self._since_log.load_state_dict(own["since_log"], self._accelerator.device)
        self._unreadable = set(own["unreadable"])


def _mean_of(metrics: Mapping[str, float], prefix: str) -> float:
    """Return the mean over the directions or domains that are measured; 0 without any."""
    values = [value for name, value in metrics.items() if name.startswith(prefix)]
    return sum(values) / max(1, len(values))


def _tracker_values(config: TrainConfig) -> dict[str, Any]:
    """Return the configuration as dotted keys and plain values, as experiment trackers need it."""
    flat = flatten(asdict(config))
    return {
        key: v if isinstance(v, int | float | str | bool) else str(v) for key, v in flat.items()
    }
