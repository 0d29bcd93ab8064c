"""What a run notes of itself: figures, their log lines, warnings, and whether it is still sane."""

import logging
import time
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from agit_hub.errors import RunError
from agit_hub.training.attention_monitor import SIDES, CollapseWatch
from agit_hub.training.config import TrainConfig
from agit_hub.training.figures import MeanMetrics
from agit_hub.training.progress import Progress
from agit_hub.training.run_folder import RunFolder, tracker_values
from agit_hub.training.schedule import Schedule
from agit_hub.training.validation import ValidationResult

_log = logging.getLogger("agit_hub.training")


class MetricLogger:
    """Gathers figures on the device at every step, and tells them at every log step.

    Args:
        config: The run.
        folder: Where `metrics.jsonl` goes.
        schedule: Of the run.
        steps_per_epoch: Optimiser steps in one epoch.
        accelerator: For means over processes and experiment trackers.
    """

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
        self.watch = CollapseWatch(patience)
        self.saved: Path | None = None
        self._watched = config.model.attention != "ones"
        self._trackers = config.log.tracker_names
        self._config = config
        self._folder = folder
        self._schedule = schedule
        self._steps_per_epoch = steps_per_epoch
        self._accelerator = accelerator
        micro_batches = train.gradient_accumulation_steps * accelerator.num_processes
        self._pictures_per_step = 2 * train.batch_size * micro_batches
        self._since_log = MeanMetrics()
        self._bad_step = torch.tensor(-1.0, device=accelerator.device)
        self._unseen: list[Tensor] = []
        self._finding: dict[str, float] = {}
        self._unreadable: set[str] = set()

    def open(self, step: int) -> Progress:
        """Begin at a step: the bar, the trackers, and `metrics.jsonl` cut back to that step."""
        main = self._accelerator.is_main_process
        if main:
            self._folder.write_config(self._config)
            self._folder.forget_metrics_after(step)
        if self._trackers:
            self._accelerator.init_trackers("agit-hub", config=tracker_values(self._config))
        self._clock = (time.perf_counter(), step)
        self._progress = Progress(self._schedule.total_steps, step, shown=main)
        return self._progress

    def close(self) -> None:
        """Let the trackers finish."""
        if self._trackers:
            self._accelerator.end_training()

    def say(self, message: str) -> None:
        """Tell the person something."""
        self._progress.say(message)

    def advance(self) -> None:
        """Count a step on the bar."""
        self._progress.advance()

    def note(self, step: int, figures: dict[str, Tensor]) -> None:
        """Take in what optimiser step `step`, counted from 1, returned, without waiting for it."""
        self._since_log.add_all(figures)
        self._unseen.append(torch.stack([figures[f"attention/{side}/mean"] for side in SIDES]))
        losses = torch.stack([v for name, v in figures.items() if name.startswith("loss/")])
        is_first_bad = ~losses.isfinite().all() & (self._bad_step < 0)
        self._bad_step = torch.where(is_first_bad, float(step), self._bad_step)

    def note_finding(self, finding: ValidationResult) -> None:
        """Tell what was measured on the way; the next log line holds it."""
        self.say(finding.said)
        self._finding = finding.figures
        began, step = self._clock
        self._clock = (began + finding.seconds, step)

    def note_unreadable(self, names: list[str]) -> None:
        """Name each damaged picture once, and count them."""
        for name in names:
            if name not in self._unreadable:
                self._unreadable.add(name)
                count = len(self._unreadable)
                said = f"Skipped a picture that cannot be read ({count} so far): {name}"
                if self._accelerator.is_main_process:
                    self.say(said)
                else:
                    _log.warning("Process %d: %s", self._accelerator.process_index, said)

    def _check_finite(self) -> None:
        """Stop a run whose losses are not finite any more, on every rank alike."""
        worst = self._reduce(self._bad_step, "sum").item()  # -1 from each rank where all is well
        if worst > -self._accelerator.num_processes:
            bad = int(self._bad_step.item())
            raise RunError(
                f"A loss was not finite at step {bad if bad >= 0 else '(on another process)'}: lower "
                "train.learning_rate, set train.clip_norm, or train in fp32 "
                f"(train.mixed_precision no).{self.last_checkpoint_message()}"
            )

    def look(self, step: int) -> None:
        """Take stock after `step` steps: finite losses, and the watch on attention brought up to date.

        The watch sees every step's maps, so that how often one looks changes nothing in the run.

        Raises:
            RunError: If a loss was not finite.
        """
        self._check_finite()
        if not self._unseen:
            return
        unseen = self._reduce(torch.stack(self._unseen), "mean").tolist()
        self._unseen = []
        if not self._watched:
            return
        for number, pair in enumerate(unseen, start=step - len(unseen) + 1):
            for collapse in self.watch.observe(number, dict(zip(SIDES, pair, strict=True))):
                self.say(f"Step {number}: {collapse}")

    def log(self, step: int) -> None:
        """Write the means since the last log step, `step` optimiser steps into the run."""
        self.look(step)
        figures = self._means() | self._circumstances(step) | self._finding
        self._finding = {}
        per_second = figures["images_per_second"] / self._pictures_per_step
        left = (self._schedule.total_steps - step) / per_second
        self._progress.report(step, figures, left)
        self._accelerator.log(figures, step=step)
        if self._accelerator.is_main_process:
            self._folder.append_metrics({"step": step, **figures})

    def last_checkpoint_message(self) -> str:
        """A sentence naming the newest checkpoint, for the end of an error."""
        return (
            f" The checkpoint {self.saved} is safe."
            if self.saved
            else " No checkpoint was saved yet."
        )

    def _means(self) -> dict[str, float]:
        means = self._since_log.means()
        self._since_log = MeanMetrics()
        packed = self._reduce(torch.stack(list(means.values())), "mean")
        return dict(zip(means, packed.tolist(), strict=True))

    def _circumstances(self, step: int) -> dict[str, float]:
        phase = self._schedule.phase(step - 1)
        (then, step_then), self._clock = self._clock, (time.perf_counter(), step)
        seconds = max(self._clock[0] - then, 1e-9)
        return {
            "learning_rate": phase.learning_rate,
            "lambda_cyc": phase.lambda_cyc,
            "switched": float(self._schedule.switched_at is not None),
            "epoch": step / self._steps_per_epoch,
            "images_per_second": self._pictures_per_step * (step - step_then) / seconds,
        }

    def _reduce(self, tensor: Tensor, reduction: str) -> Tensor:
        reduced = self._accelerator.reduce(tensor, reduction=reduction)
        assert isinstance(reduced, Tensor)
        return reduced

    def shared_state(self) -> dict[str, Any]:
        """What a resumed run needs and every rank has alike."""
        return {"watch": self.watch.state_dict(), "finding": dict(self._finding)}

    def rank_state(self) -> dict[str, Any]:
        """What a resumed run needs of this rank."""
        return {
            "since_log": self._since_log.state_dict(),
            "unreadable": sorted(self._unreadable),
        }

    def load_state(self, shared: dict[str, Any], own: dict[str, Any]) -> None:
        """Restore what `shared_state` and `rank_state` returned."""
        self.watch.load_state_dict(shared["watch"])
        self._finding = dict(shared["finding"])
        self._since_log.load_state_dict(own["since_log"], self._accelerator.device)
        self._unreadable = set(own["unreadable"])
