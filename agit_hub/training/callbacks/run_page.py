"""The page of the run, written again at each log step."""

import time
from collections.abc import Callable

from agit_hub.logging import get_logger
from agit_hub.run_page.page import write_page
from agit_hub.run_page.status import RunStatus, State, write_status
from agit_hub.runs import RunFolder
from agit_hub.training.callbacks.base import Callback, TrainerState
from agit_hub.training.metrics import MetricLogger

logger = get_logger(__name__)
# The time between two pages, in multiples of what one takes.
_SHARE = 50


class RunPageCallback(Callback):
    """Write `status.json` and `index.html` every `log.steps` steps, and when the run ends.

    A page of many log lines takes longer to write: it is then written less often, and no more than a
    fiftieth of the time goes into it.

    Args:
        folder: The run folder.
        metric_logger: Knows the state of the attention maps.
        steps: `log.steps`.
        clock: Seconds since 1970.
    """

    def __init__(
        self,
        folder: RunFolder,
        metric_logger: MetricLogger,
        steps: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._metric_logger = metric_logger
        self._steps = steps
        self._clock = clock
        self._status: RunStatus | None = None
        self._failed = False
        self._page_due = 0.0
        """Time from which the page may be written again."""

    def on_train_begin(self, state: TrainerState) -> None:
        """Write a page that says that the run has begun, unless it had finished before."""
        if state.step < state.total_steps:
            self._write(state, "running")

    def on_step_end(self, state: TrainerState) -> None:
        """Write the page if due."""
        if state.is_last or state.step % self._steps == 0:
            self._write(state, "running")

    def on_end(self, state: TrainerState, outcome: State, message: str) -> None:
        """Write how the run has ended, unless a finished run was resumed: nothing has happened."""
        if self._status is not None or outcome != "finished":
            self._write(state, outcome, message)

    def _write(self, state: TrainerState, outcome: State, message: str = "") -> None:
        rate = self._metric_logger.steps_per_second
        before, now = self._status, self._clock()
        is_later = before is not None and state.step > before.step
        self._status = RunStatus(
            outcome,
            state.step,
            state.total_steps,
            message,
            [str(each) for each in self._metric_logger.collapse.collapses(state.step)],
            self._metric_logger.collapse.patience,
            self._metric_logger.images_per_second,
            (state.total_steps - state.step) / rate if rate else None,
            now - before.updated if before is not None and is_later else None,
            now,
        )
        try:
            write_status(self._folder, self._status)
            if outcome != "running" or now >= self._page_due:
                write_page(self._folder)
                done = self._clock()
                self._page_due = done + _SHARE * (done - now)
        except OSError as error:
            # The page is no reason to lose a run; a full disk ends it elsewhere.
            if not self._failed:
                logger.warning("The run's page cannot be written: %s", error)
            self._failed = True
