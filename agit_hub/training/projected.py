"""Discriminators that judge by what a classifier of photographs sees in them."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.features import WIDTHS, PhotographFeatures

# The last blocks at strides 8, 16 and 16.
_BLOCKS = (4, 7, 14)
_SMALLEST = 128


class ProjectedDiscriminator(nn.Module):
    """D_S or D_T on a frozen network's features, with a small head for each depth.

    After Projected GANs (Sauer et al., 2021), without their random mixing of channels and scales, and
    with the method's least-squares loss. It knows what animals look like from the first step, where one
    that starts from nothing has to find out from a thousand pictures.

    Args:
        features: One serves several discriminators, and is no part of their weights.
        channels: Width of the heads.
    """

    def __init__(self, features: PhotographFeatures, channels: int = 64) -> None:
        super().__init__()
        # In a tuple, to be no submodule: it is neither trained nor saved.
        self._features = (features,)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(WIDTHS[number], channels, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(channels, 1, 1),
            )
            for number in _BLOCKS
        )

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Take the features along to another device or type."""
        self._features[0]._apply(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor, normalise: bool = True) -> Tensor:
        """Score patches: (N, 3, H, W) in [-1, 1] -> (N, 3, h, w), a channel for each depth, unbounded.

        Pictures of less than 128 pixels a side are enlarged to it.

        Args:
            image: Whole pictures, or their foregrounds.
            normalise: Has no effect: no statistics are taken over pictures.
        """
        scale = max(1.0, _SMALLEST / min(image.shape[2:]))
        enlarged = F.interpolate(image, scale_factor=scale, mode="bilinear") if scale > 1 else image
        features = self._features[0](enlarged, _BLOCKS)
        scores = [head(each) for head, each in zip(self.heads, features, strict=True)]
        # As large as the largest, so that their mean is the mean of each depth's mean.
        size = scores[0].shape[2:]
        return torch.cat([F.interpolate(score, size=size) for score in scores], dim=1)
