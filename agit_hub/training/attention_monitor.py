"""Is attention alive? Figures of a map, and the watch that tells an early dip from a collapse.

Collapse (a map that ends all 0 or all 1) is this method's known disease. Early on every healthy run
looks collapsed for a while, so what counts is how long it lasts.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

Side = Literal["source", "target"]
SIDES: tuple[Side, Side] = ("source", "target")

EMPTY_BELOW = 0.01
FULL_ABOVE = 0.95


def attention_figures(attention: Tensor, threshold: float) -> dict[str, Tensor]:
    """Health figures of a batch of attention maps, as scalars on its device.

    Args:
        attention: Maps, any shape, in [0, 1].
        threshold: tau.

    Returns:
        `mean`; `area`, the share of pixels that reach tau; `entropy`, the mean binary entropy in
        bits, 0 for a decided map and 1 for one of 0.5 everywhere; `binary`, the share of pixels
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
    """A map that has been empty or full for too long."""

    side: Side
    kind: Literal["empty", "full"]
    steps: int

    def __str__(self) -> str:
        if self.kind == "empty":
            what = "is near 0 everywhere: nothing gets translated"
            advice = (
                "let the cycle weight rise slowly (train.lambda_cyc_warmup_steps), lower it "
                "(train.lambda_cyc), start attention open (train.attention_bias 2), or another train.seed"
            )
        else:
            what = "is near 1 everywhere: backgrounds get translated too"
            advice = (
                "raise train.lambda_cyc, switch earlier (train.switch.step), or another train.seed"
            )
        return (
            f"Attention on {self.side} pictures {what}, and has been for {self.steps} steps. "
            f"What helps: {advice}."
        )


class CollapseWatch:
    """Follows both maps' means from log step to log step.

    A map is collapsed when its mean has stayed below 0.01 or above 0.95 for `patience` steps.

    Args:
        patience: In optimiser steps.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._since: dict[str, tuple[str, int] | None] = dict.fromkeys(SIDES)
        self._said: list[str] = []

    def observe(self, step: int, means: Mapping[Side, float]) -> list[Collapse]:
        """Take in both maps' means over the steps since the last call.

        Returns:
            The collapses that have not been reported before; each is returned once.
        """
        for side in SIDES:
            look = _look(means[side])
            before = self._since[side]
            if look is None:
                self._since[side] = None
            elif before is None or before[0] != look:
                self._since[side] = (look, step)
        new = [c for c in self.collapses(step) if f"{c.side} {c.kind}" not in self._said]
        self._said += [f"{collapse.side} {collapse.kind}" for collapse in new]
        return new

    def collapses(self, step: int, patience: int | None = None) -> list[Collapse]:
        """The maps that are collapsed now; with `patience` 0 those that merely look so."""
        patience = self._patience if patience is None else patience
        found = []
        for side in SIDES:
            since = self._since[side]
            if since is not None and step - since[1] >= patience:
                kind: Literal["empty", "full"] = "empty" if since[0] == "empty" else "full"
                found.append(Collapse(side, kind, step - since[1]))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on identically."""
        return {"since": dict(self._since), "said": list(self._said)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._since = dict(state["since"])
        self._said = list(state["said"])


def _look(mean: float) -> Literal["empty", "full"] | None:
    if mean < EMPTY_BELOW:
        return "empty"
    return "full" if mean > FULL_ABOVE else None
