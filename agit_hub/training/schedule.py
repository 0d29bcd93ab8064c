"""Schedule of the learning rates, the weight of the cycle loss, and the switch."""

from dataclasses import dataclass
from typing import Any

from agit_hub.training.config import TrainSettings


@dataclass(frozen=True)
class Phase:
    """Values for one optimiser step."""

    learning_rate: float
    """Of the generators."""
    attention_learning_rate: float
    discriminator_learning_rate: float
    lambda_cyc: float
    threshold: float
    """tau of the discriminators' mask; 0 passes every pixel."""
    train_attention: bool
    normalise: bool
    """Whether the discriminators use their instance norms."""


class Schedule:
    """Compute the phase of each optimiser step.

    Settings in epochs are converted to steps. The only state is the step of the switch, which a
    collapsed attention map can postpone.
    """

    def __init__(self, settings: TrainSettings, steps_per_epoch: int) -> None:
        self._settings = settings
        self.total_steps = settings.max_steps or max(
            1, round(settings.num_epochs * steps_per_epoch)
        )
        self.switch_due = settings.switch.step
        if self.switch_due is None and settings.switch.epoch is not None:
            self.switch_due = round(settings.switch.epoch * steps_per_epoch)
        self.switched_at: int | None = None

    def is_switch_due(self, step: int) -> bool:
        """Return whether the switch must happen before this step."""
        return self.switched_at is None and self.switch_due is not None and step >= self.switch_due

    def switch(self, step: int) -> None:
        """Switch from this step on."""
        self.switched_at = step

    def phase(self, step: int) -> Phase:
        """Return the phase of optimiser step `step`, counted from 0."""
        settings, switch = self._settings, self._settings.switch
        switched = self.switched_at is not None and step >= self.switched_at
        decay, rate = self._decay(step), settings.learning_rate
        return Phase(
            learning_rate=rate * decay,
            attention_learning_rate=(settings.attention_learning_rate or rate) * decay,
            discriminator_learning_rate=(settings.discriminator_learning_rate or rate) * decay,
            lambda_cyc=settings.lambda_cyc * self._warmup(step),
            threshold=settings.attention_threshold if switched and switch.mask else 0.0,
            train_attention=not (switched and switch.freeze_attention),
            normalise=not (switched and switch.bypass_norm),
        )

    def _decay(self, step: int) -> float:
        start = self._settings.decay_from * self.total_steps
        if step < start:
            return 1.0
        return (self.total_steps - step) / (self.total_steps - start)

    def _warmup(self, step: int) -> float:
        steps = self._settings.lambda_cyc_warmup_steps
        return min(1.0, step / steps) if steps else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint."""
        return {"switched_at": self.switched_at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.switched_at = state["switched_at"]
