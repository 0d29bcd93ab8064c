"""Frames of a film: maps and changes that settle over time, so that what is still does not flicker."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from agit_hub.inference.prediction import Prediction

# A pixel counts as moving by how much it differs from the frame before, in [-1, 1]: not at all below
# the first (noise of a camera), wholly above the second.
_STILL, _MOVING = 0.06, 0.25


class TemporalSmoother:
    """Averages predictions over time wherever the picture is still; where it moves, the new one counts.

    Args:
        amount: In [0, 1): how much of the past is kept at each still pixel; 0 keeps nothing.
    """

    def __init__(self, amount: float) -> None:
        if not 0 <= amount < 1:
            raise ValueError(f"smoothing is {amount}; it must be at least 0 and less than 1.")
        self._amount = amount
        self._before: Prediction | None = None

    def smooth(self, proposal: Prediction) -> Prediction:
        """The next frame's proposal, joined to those before it; a frame of another size starts anew."""
        before = self._before
        if self._amount and before is not None and before.seen.shape == proposal.seen.shape:
            kept = self._amount * (1 - motion(before.seen, proposal.seen))
            proposal = replace(
                proposal,
                attention=proposal.attention + kept * (before.attention - proposal.attention),
                change=proposal.change + kept * (before.change - proposal.change),
            )
        self._before = proposal
        return proposal


def motion(before: Tensor, now: Tensor) -> Tensor:
    """How much each pixel moves: (1, 3, h, w) in [-1, 1], twice -> (1, 1, h, w) in [0, 1].

    Means of 3x3 pixels are compared, in which a camera's noise is less. Around what moves the networks'
    answers move as well; what is still there is averaged all the same, for that is the flicker to be
    seen, and ground that an object leaves differs from the object.
    """
    difference = F.avg_pool2d((now - before).abs(), 3, 1, 1, count_include_pad=False)
    largest = difference.amax(dim=1, keepdim=True)
    return torch.clamp((largest - _STILL) / (_MOVING - _STILL), 0, 1)
