"""Metrics of attention maps, and detection of collapse.

Collapse (a map that converges to 0 or 1 everywhere) is the known failure mode of this method. Every
healthy run looks collapsed for a while at the start, so the duration counts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Side = Literal["source", "target"]
Kind = Literal["empty", "full"]
SIDES: tuple[Side, Side] = ("source", "target")

_EMPTY_BELOW = 0.01
_FULL_ABOVE = 0.95


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


@dataclass(frozen=True)
class Collapse:
    """A collapsed map."""

    side: Side
    kind: Kind
    steps: int

    def __str__(self) -> str:
        if self.kind == "empty":
            state = "near 0 everywhere: nothing is translated"
            advice = (
                "increase train.lambda_cyc_warmup_steps, decrease train.lambda_cyc, set "
                "train.attention_floor, or change train.seed"
            )
        else:
            state = "near 1 everywhere: backgrounds are translated too"
            advice = "increase train.lambda_cyc, switch earlier (train.switch.step), or change train.seed"
        return (
            f"Attention on {self.side} images has been {state} for {self.steps} steps. Possible "
            f"remedies: {advice}."
        )


class CollapseMonitor:
    """Detect maps whose mean stays below 0.01 or above 0.95 for `patience` optimiser steps."""

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._since: dict[str, tuple[Kind, int] | None] = dict.fromkeys(SIDES)
        self._reported: list[str] = []

    def update(self, step: int, means: Mapping[Side, float]) -> list[Collapse]:
        """Add the means of both maps at a step, and return the collapses not reported before."""
        for side in SIDES:
            kind = _kind(means[side])
            before = self._since[side]
            if kind is None:
                self._since[side] = None
            elif before is None or before[0] != kind:
                self._since[side] = (kind, step)
        new = [c for c in self.collapses(step) if f"{c.side} {c.kind}" not in self._reported]
        self._reported += [f"{collapse.side} {collapse.kind}" for collapse in new]
        return new

    def collapses(self, step: int, patience: int | None = None) -> list[Collapse]:
        """Return the currently collapsed maps; `patience` overrides that of the monitor."""
        patience = self._patience if patience is None else patience
        found = []
        for side in SIDES:
            since = self._since[side]
            if since is not None and step - since[1] >= patience:
                found.append(Collapse(side, since[0], step - since[1]))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint."""
        return {"since": dict(self._since), "reported": list(self._reported)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self._since = dict(state["since"])
        self._reported = list(state["reported"])


def _kind(mean: float) -> Kind | None:
    if mean < _EMPTY_BELOW:
        return "empty"
    return "full" if mean > _FULL_ABOVE else None
