"""Temporal smoothing of video: averages maps and changes where the image is still, against flicker."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from agit_hub.errors import EditError
from agit_hub.inference.prediction import Prediction

# Differences from the frame before, in [-1, 1]: below the first a pixel is still (a camera's noise),
# above the second it moves.
_STILL, _MOVING = 0.06, 0.25


class TemporalSmoother:
    """Averages predictions over time where the image is still; where it moves, the new one counts.

    Args:
        amount: In [0, 1): how much of the past is kept at each still pixel.

    Raises:
        EditError: If the amount is out of range.
    """

    def __init__(self, amount: float) -> None:
        if not 0 <= amount < 1:
            raise EditError(f"smoothing is {amount}; it must be at least 0 and less than 1.")
        self._amount = amount
        self._previous: Prediction | None = None

    def smooth(self, prediction: Prediction) -> Prediction:
        """Average the next frame's prediction with those before it; another frame size resets it."""
        previous, network_input = self._previous, prediction.network_input
        if (
            self._amount
            and previous is not None
            and previous.network_input.shape == network_input.shape
        ):
            kept = self._amount * (1 - motion(previous.network_input, network_input))
            prediction = replace(
                prediction,
                attention=prediction.attention + kept * (previous.attention - prediction.attention),
                change=prediction.change + kept * (previous.change - prediction.change),
            )
        self._previous = prediction
        return prediction


def motion(before: Tensor, after: Tensor) -> Tensor:
    """Estimate how much each pixel moves: two (1, 3, h, w) in [-1, 1] -> (1, 1, h, w) in [0, 1].

    Means of 3x3 pixels are compared, which have less of a camera's noise. Around moving objects the
    networks' outputs change as well; still pixels there are averaged all the same, because that is where
    flicker is visible, and background that an object uncovers differs from the object.
    """
    difference = F.avg_pool2d((after - before).abs(), 3, 1, 1, count_include_pad=False)
    largest = difference.amax(dim=1, keepdim=True)
    return torch.clamp((largest - _STILL) / (_MOVING - _STILL), 0, 1)
