"""Discriminators on frozen features whose channels and depths are mixed at random."""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from agit_hub.features import WIDTHS, PhotographFeatures

# Depths at strides 4, 8, 16 and 16.
_BLOCKS = (3, 6, 7, 14)
# How often each depth's judge halves its features before its scores.
_HALVINGS = (2, 1, 1, 1)


class MixedDiscriminator(nn.Module):
    """D_S or D_T, after Projected GANs (Sauer et al., 2021).

    Features of a frozen classifier go through random 1x1 convolutions, and from the deepest to the finest
    through random 3x3 convolutions that are never trained: no judge can lean on a few telling channels.
    Each depth has a small judge with spectral norm.

    Args:
        features: One serves several discriminators, and is no part of their weights.
        channels: Width of the mixed features.
        pixels: Add a judge that begins from nothing, on the pixels' own texture.
    """

    def __init__(
        self, features: PhotographFeatures, channels: int = 64, pixels: bool = False
    ) -> None:
        super().__init__()
        # In a tuple, to be no submodule: it is neither trained nor saved.
        self._features = (features,)
        self.mixes = nn.ModuleList(_Fixed(WIDTHS[n], channels, 1) for n in _BLOCKS)
        self.descents = nn.ModuleList(_Fixed(channels, channels, 3) for _ in _BLOCKS[1:])
        self.judges = nn.ModuleList(
            _judge(channels, *[2 * channels] * halvings) for halvings in _HALVINGS
        )
        # Patches of 38 pixels a side, by what they look like.
        self.pixels = _judge(3, channels // 2, channels, 2 * channels) if pixels else None

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Take the features along to another device or type."""
        self._features[0]._apply(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor, normalise: bool = True) -> Tensor:
        """Score pictures: (N, 3, H, W) in [-1, 1] -> (N, scores), each judge with the same share.

        Args:
            image: Whole pictures, or their foregrounds.
            normalise: Has no effect: no statistics are taken over pictures.
        """
        found = self._features[0](image, _BLOCKS)
        mixed = [mix(each) for mix, each in zip(self.mixes, found, strict=True)]
        depths = [mixed[-1]]
        for mix, descend in zip(mixed[-2::-1], self.descents, strict=True):
            above = F.interpolate(depths[0], size=mix.shape[2:], mode="bilinear")
            depths.insert(0, descend(mix + above))
        scores = [judge(each) for judge, each in zip(self.judges, depths, strict=True)]
        if self.pixels is not None:
            scores.append(self.pixels(image))
        # As many of each judge, so that their mean is the mean of each judge's mean.
        size = scores[0].shape[2:]
        # In the type of the pictures: in bf16 the means of a game's two sides would be coarse.
        return torch.cat([F.adaptive_avg_pool2d(s, size) for s in scores], dim=1).to(image.dtype)


class _Fixed(nn.Conv2d):
    """A convolution whose weights are buffers: saved, never trained."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        weight = self.weight.detach()
        del self.weight
        self.register_buffer("weight", weight)


def _judge(*widths: int) -> nn.Module:
    """Convolutions that halve, with spectral norm, and a score for each place that is left."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))
