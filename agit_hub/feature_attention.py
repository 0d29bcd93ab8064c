"""Attention on the features of a classifier of photographs, which tell an animal from a tree."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.features import WIDTHS, PhotographFeatures
from agit_hub.networks import smoothed

BLOCKS = (3, 6, 14)
# By how much the picture is enlarged: at 2 its finest features are at half its own size.
_SCALES = (2.0, 1.0, 3.0)


class FeatureAttention(nn.Module):
    """A_S or A_T on frozen features at three depths (not in the paper).

    Each depth is projected to the same width; their sum, at the finest one's size, goes through two
    convolutions.

    Args:
        features: Shared with the other attention network; no part of this one's weights.
        channels: Width of the projections.
        smoothing: Side of the window, odd, over which the head's output is averaged; 1 is none.
        levels: Over how many sizes of the picture the output is averaged, from 1 to 3, outside training.
    """

    def __init__(
        self,
        features: PhotographFeatures,
        channels: int = 32,
        smoothing: int = 1,
        levels: int = 1,
    ) -> None:
        super().__init__()
        # In a tuple, to be no submodule: the model holds it once, for both.
        self._features = (features,)
        self.projections = nn.ModuleList(nn.Conv2d(WIDTHS[n], channels, 1) for n in BLOCKS)
        self.hidden = nn.Conv2d(channels, channels, 3, padding=1)
        self.head = nn.Conv2d(channels, 1, 3, padding=1)
        self.smoothing = smoothing
        self.levels = levels

    def forward(self, image: Tensor) -> Tensor:
        """Attend: (N, 3, H, W) in [-1, 1] -> (N, 1, H, W) in [0, 1]."""
        # Training shows animals at many sizes itself, and averages would hold attention back there.
        scales = _SCALES[: 1 if self.training else self.levels]
        logits = torch.stack([self._logits(image, scale) for scale in scales]).mean(dim=0)
        return torch.sigmoid(smoothed(logits, self.smoothing))

    def _logits(self, image: Tensor, scale: float) -> Tensor:
        scaled = F.interpolate(image, scale_factor=scale, mode="bilinear") if scale != 1 else image
        coarse = self.coarse_logits(self._features[0](scaled, BLOCKS))
        return F.interpolate(coarse, size=image.shape[2:], mode="bilinear")

    def coarse_logits(self, features: Sequence[Tensor]) -> Tensor:
        """Logits at the size of the finest of the features that leave `BLOCKS`."""
        size = features[0].shape[2:]
        depths = [
            F.interpolate(project(each), size=size, mode="bilinear")
            for project, each in zip(self.projections, features, strict=True)
        ]
        hidden = F.relu(self.hidden(F.relu(torch.stack(depths).sum(dim=0))))
        logits: Tensor = self.head(hidden).float()
        return logits
