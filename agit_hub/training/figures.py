"""Means of named scalars, gathered on the device so that training never waits for them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


class MeanMetrics:
    """Running means under names such as `loss/cycle_s`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._sums)

    def add(self, name: str, value: Tensor) -> Tensor:
        """Note a scalar and hand it back, graph and all."""
        self.add_all({name: value})
        return value

    def add_all(self, values: Mapping[str, Tensor]) -> None:
        """Note several scalars, by one batched addition."""
        noted = {name: value.detach().float() for name, value in values.items()}
        known = [name for name in noted if name in self._sums]
        if known:
            sums = torch._foreach_add(
                [self._sums[name] for name in known], [noted[name] for name in known]
            )
            noted |= dict(zip(known, sums, strict=True))
        self._sums |= noted
        for name in noted:
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, Tensor]:
        """The mean of everything noted under each name."""
        return {
            name: total if self._counts[name] == 1 else total / self._counts[name]
            for name, total in self._sums.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on identically."""
        return {"sums": dict(self._sums), "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Restore what `state_dict` returned, on the given device."""
        self._sums = {name: total.to(device) for name, total in state["sums"].items()}
        self._counts = dict(state["counts"])
