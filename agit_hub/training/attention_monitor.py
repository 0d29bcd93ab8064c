"""Metrics of attention maps, and detection of collapse.

Collapse (a map that converges to 0 or 1 everywhere) is the known failure mode of this method. Another one
is a generator that returns its input: the maps are open, and nothing is translated. Every healthy run
looks like either for a while at the start, so the duration counts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Side = Literal["source", "target"]
Kind = Literal["empty", "full", "idle"]
SIDES: tuple[Side, Side] = ("source", "target")

_EMPTY_BELOW = 0.01
_FULL_ABOVE = 0.95
# Change where attention is 1, on a scale of 2: 2.5 of 255. Stripes change a coat by a fifth of the range.
_IDLE_BELOW = 0.02
# Steps that a running mean remembers, in a run of at least four times as many.
_MEMORY = 50
# Subject, state and remedies.
_MESSAGES: dict[Kind, tuple[str, str, str]] = {
    "empty": (
        "Attention on",
        "has been near 0 everywhere: nothing is translated",
        "increase train.lambda_cyc_warmup_steps, decrease train.lambda_cyc, set train.attention_floor, "
        "or change train.seed",
    ),
    "full": (
        "Attention on",
        "has been near 1 everywhere: backgrounds are translated too",
        "increase train.lambda_cyc, switch earlier (train.switch.step), or change train.seed",
    ),
    "idle": (
        "Translations of",
        "have equalled their inputs, although their maps are open,",
        "decrease train.lambda_cyc or train.lambda_structure, increase "
        "train.discriminator_learning_rate or train.discriminator_updates, or use a stronger "
        "train.discriminator (mixed)",
    ),
}


def attention_metrics(attention: Tensor, threshold: float) -> dict[str, Tensor]:
    """Compute metrics of a batch of attention maps, as scalars on its device.

    Args:
        attention: Maps of any shape, in [0, 1].
        threshold: tau.

    Returns:
        `mean`; `area`, the fraction of pixels of at least tau; `entropy`, the mean binary entropy in
        bits, 0 for a binary map and 1 for one of 0.5 everywhere; `binary`, the fraction of pixels
        below 0.1 or above 0.9.
    """
    a = attention.detach().float()
    entropy = torch.special.entr(a) + torch.special.entr(1 - a)
    return {
        "mean": a.mean(),
        "area": (a >= threshold).mean(dtype=torch.float32),
        "entropy": entropy.mean() / math.log(2),
        "binary": ((a - 0.5).abs() > 0.4).mean(dtype=torch.float32),
    }


def mean_change(image: Tensor, translation: Tensor) -> Tensor:
    """Return mean |s' - s| of a batch, a scalar; both are (N, 3, H, W) in [-1, 1]."""
    return (translation.detach().float() - image.float()).abs().mean()


@dataclass(frozen=True)
class Collapse:
    """A map that has converged to 0 or 1, or translations that equal their inputs under an open map."""

    side: Side
    kind: Kind
    steps: int

    def __str__(self) -> str:
        subject, state, advice = _MESSAGES[self.kind]
        fact = f"{subject} {self.side} images {state} for {self.steps} steps."
        return f"{fact} Possible remedies: {advice}."


class CollapseMonitor:
    """Detect maps that stay empty or full, and translations that stay equal to their inputs.

    Running means over steps are judged, and a map counts as recovered only after it has been healthy for
    twice as long as they remember: a single batch can look healthy.

    Args:
        patience: Optimiser steps for which a state must last to be reported.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self._memory = max(1, min(_MEMORY, patience // 4))
        self._means: dict[str, list[float]] = {}
        self._since: dict[str, tuple[Kind, int] | None] = dict.fromkeys(SIDES)
        self._healthy: dict[str, int] = dict.fromkeys(SIDES, 0)
        self._reported: list[str] = []

    def update(
        self, step: int, means: Mapping[Side, float], changes: Mapping[Side, float]
    ) -> list[Collapse]:
        """Add the values of a step, and return the collapses not reported before.

        Args:
            step: The optimiser step, counted from 1.
            means: Mean of the maps of each side.
            changes: `mean_change` of each side.
        """
        for side in SIDES:
            kind = _kind(*self._running_means(side, means[side], changes[side]))
            before = self._since[side]
            if kind is None:
                self._healthy[side] += 1
                if self._healthy[side] > 2 * (self._memory - 1):
                    self._since[side] = None
                continue
            self._healthy[side] = 0
            if before is None or before[0] != kind:
                self._since[side] = (kind, step)
        new = [c for c in self.collapses(step) if f"{c.side} {c.kind}" not in self._reported]
        self._reported += [f"{collapse.side} {collapse.kind}" for collapse in new]
        return new

    def _running_means(self, side: Side, *values: float) -> list[float]:
        before = self._means.get(side, list(values))
        self._means[side] = [
            old + (new - old) / self._memory for old, new in zip(before, values, strict=True)
        ]
        return self._means[side]

    def collapses(self, step: int, patience: int | None = None) -> list[Collapse]:
        """Return the currently collapsed maps; `patience` overrides that of the monitor."""
        patience = self.patience if patience is None else patience
        found = []
        for side in SIDES:
            since = self._since[side]
            if since is not None and step - since[1] >= patience:
                found.append(Collapse(side, since[0], step - since[1]))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint."""
        return {
            "means": {side: list(values) for side, values in self._means.items()},
            "since": dict(self._since),
            "healthy": dict(self._healthy),
            "reported": list(self._reported),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self._means = {side: list(values) for side, values in state["means"].items()}
        self._since = dict(state["since"])
        self._healthy = dict(state["healthy"])
        self._reported = list(state["reported"])


def _kind(mean: float, change: float) -> Kind | None:
    if mean < _EMPTY_BELOW:
        return "empty"
    if mean > _FULL_ABOVE:
        return "full"
    # s' - s is the generator's change times the map.
    return "idle" if change < _IDLE_BELOW * mean else None
