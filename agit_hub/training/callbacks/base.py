"""What a callback is told, and when it is called."""

from dataclasses import dataclass

from agit_hub.models.agit import AGITModel
from agit_hub.run_page.status import State


@dataclass
class TrainerState:
    """State of a run, which callbacks may change where stated."""

    step: int
    """Optimiser steps done."""
    total_steps: int
    model: AGITModel
    """The networks to publish: the moving average, if there is one."""
    is_last: bool = False
    """Whether the run ends after this step. Callbacks may set it."""
    should_save: bool = False
    """Whether a checkpoint is saved after this step. Callbacks may set it."""


class Callback:
    """Base class of callbacks, which all processes call in the same order."""

    def on_train_begin(self, state: TrainerState) -> None:
        """Called before the first step of a run or a resumed run."""

    def on_step_end(self, state: TrainerState) -> None:
        """Called after each step, before the checkpoint."""

    def on_save(self, state: TrainerState) -> None:
        """Called after each checkpoint."""

    def on_train_end(self, state: TrainerState) -> None:
        """Called when the run has finished, but not when it was interrupted."""

    def on_end(self, state: TrainerState, outcome: State, message: str) -> None:
        """Called once, when a run has ended in whatever way; `message` is a sentence that says how."""
