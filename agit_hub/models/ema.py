"""Exponential moving average of the published networks."""

import copy
from typing import Any

import torch
from torch import Tensor

from agit_hub.models.agit import AGITModel


class MovingAverage:
    """An exponential moving average of a model's trainable weights, updated by foreach operations.

    Frozen weights are shared with the model, not copied.

    Args:
        model: The model to average, on its device.
        decay: Per update, in (0, 1); the first update copies.
    """

    def __init__(self, model: AGITModel, decay: float) -> None:
        self.model: AGITModel = copy.deepcopy(model, {id(model.features): model.features})
        self.model.requires_grad_(False)
        self._decay = decay
        self._updates = 0
        self._averages: dict[str, Tensor] = dict(self.model.named_parameters())
        weights: dict[str, Tensor] = dict(model.named_parameters())
        self._weights: list[Tensor] = [weights[name] for name in self._averages]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model's current weights by 1 - decay."""
        averages = list(self._averages.values())
        if self._updates == 0:
            torch._foreach_copy_(averages, self._weights)
        else:
            torch._foreach_lerp_(averages, self._weights, 1 - self._decay)
        self._updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs."""
        return {"updates": self._updates, "weights": dict(self._averages)}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of `state_dict`."""
        self._updates = state["updates"]
        for name, average in self._averages.items():
            average.copy_(state["weights"][name])
