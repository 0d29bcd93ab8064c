"""The moving average of the published networks."""

import copy
from typing import Any

import torch
from torch import Tensor

from agit_hub.models.agit import AGITModel


class MovingAverage:
    """An exponential moving average of a model's trainable weights, updated by one batched operation.

    Frozen weights are shared with the model, not copied.

    Args:
        model: What is followed, on its device.
        decay: Per update, in (0, 1); the first update copies.
    """

    def __init__(self, model: AGITModel, decay: float) -> None:
        self.model: AGITModel = copy.deepcopy(model, {id(model.features): model.features})
        self.model.requires_grad_(False)
        self._decay = decay
        self._updates = 0
        self._averages: dict[str, Tensor] = dict(self.model.named_parameters())
        followed: dict[str, Tensor] = dict(model.named_parameters())
        self._followed: list[Tensor] = [followed[name] for name in self._averages]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model's present weights by 1 - decay."""
        averages = list(self._averages.values())
        if self._updates == 0:
            torch._foreach_copy_(averages, self._followed)
        else:
            torch._foreach_lerp_(averages, self._followed, 1 - self._decay)
        self._updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on identically."""
        return {"updates": self._updates, "weights": dict(self._averages)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._updates = state["updates"]
        for name, average in self._averages.items():
            average.copy_(state["weights"][name])
