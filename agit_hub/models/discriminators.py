"""The discriminators: the paper's patch discriminator, and two on features of a frozen classifier."""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from agit_hub.models.backbone import WIDTHS, FrozenBackbone
from agit_hub.models.layers import initialize_weights, instance_norm

# Backbone blocks at strides 4, 8, 16 and 16, and how often each one's head halves them.
_MIXED_BLOCKS = (3, 6, 7, 14)
_MIXED_HALVINGS = (2, 1, 1, 1)
# Spectral norm bounds how fast a head's score changes. Features have norms of 8 and more, pixels of
# about 1: without it their head hardly notices colours.
_PIXEL_SCALE = 4.0
# The last blocks at strides 8, 16 and 16.
_PROJECTED_BLOCKS = (4, 7, 14)
_PROJECTED_MIN_SIZE = 128


class PatchDiscriminator(nn.Module):
    """D_S or D_T: scores overlapping patches, near 1 for real and 0 for translated.

    Args:
        channels: Width of the first layer; each further one has twice as many.
        layers: Stride-2 layers, before one of stride 1 and the head. Three score patches of 70 pixels
            a side, two patches of 34.
    """

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [channels * 2**layer for layer in range(layers + 1)]
        inputs = [3, *widths[:-1]]
        strides = [2] * layers + [1]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 4, stride, padding=2)
            for i, o, stride in zip(inputs, widths, strides, strict=True)
        )
        self.norms = nn.ModuleList(instance_norm(width) for width in widths)
        self.head = nn.Conv2d(widths[-1], 1, 4, padding=2)
        initialize_weights(self)

    def forward(self, image: Tensor, normalise: bool = True) -> Tensor:
        """Score patches: (N, 3, H, W) in [-1, 1] -> (N, 1, h, w), unbounded.

        Args:
            image: Whole images, or their foregrounds.
            normalise: False bypasses every instance norm: the zeros of a masked image would distort
                its statistics (the authors' code does so after the switch).
        """
        x = image
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = convolution(x)
            x = F.leaky_relu(norm(x) if normalise else x, 0.2)
        return self.head(x)  # type: ignore[no-any-return]


class _FeatureDiscriminator(nn.Module):
    """Base of discriminators on a shared frozen backbone, which is moved with them but not saved."""

    def __init__(self, features: FrozenBackbone) -> None:
        super().__init__()
        # In a tuple, so that it is not a submodule: several discriminators share it.
        self._features = (features,)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Move the features to another device or dtype too."""
        self._features[0]._apply(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


class ProjectedDiscriminator(_FeatureDiscriminator):
    """D_S or D_T on a frozen network's features, with a small head for each depth.

    After Projected GANs (Sauer et al., 2021), without their random mixing of channels and scales, and
    with the method's least-squares loss.

    Args:
        features: Shared with other discriminators.
        channels: Width of the heads.
    """

    def __init__(self, features: FrozenBackbone, channels: int = 64) -> None:
        super().__init__(features)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(WIDTHS[block], channels, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(channels, 1, 1),
            )
            for block in _PROJECTED_BLOCKS
        )

    def forward(self, image: Tensor, normalise: bool = True) -> Tensor:
        """Score patches: (N, 3, H, W) in [-1, 1] -> (N, 3, h, w), a channel for each depth, unbounded.

        Images of less than 128 pixels a side are upsampled to it.

        Args:
            image: Whole images, or their foregrounds.
            normalise: Has no effect: no statistics are taken over images.
        """
        scale = max(1.0, _PROJECTED_MIN_SIZE / min(image.shape[2:]))
        resized = F.interpolate(image, scale_factor=scale, mode="bilinear") if scale > 1 else image
        features = self._features[0](resized, _PROJECTED_BLOCKS)
        scores = [head(each) for head, each in zip(self.heads, features, strict=True)]
        # At the size of the largest, so that their mean is the mean of each depth's mean.
        size = scores[0].shape[2:]
        return torch.cat([F.interpolate(score, size=size) for score in scores], dim=1)


class MixedDiscriminator(_FeatureDiscriminator):
    """D_S or D_T, after Projected GANs (Sauer et al., 2021).

    Random convolutions that are never trained mix the channels (1x1) of a frozen classifier's features,
    and add each depth to the next finer one (3x3), so that no head can rely on a few channels. Each depth
    has a small head with spectral norm.

    Args:
        features: Shared with other discriminators.
        channels: Width of the mixed features.
        pixels: Add a head, trained from scratch, on the pixels themselves.
    """

    def __init__(self, features: FrozenBackbone, channels: int = 64, pixels: bool = False) -> None:
        super().__init__(features)
        self.mixes = nn.ModuleList(_FixedConv(WIDTHS[n], channels, 1) for n in _MIXED_BLOCKS)
        self.descents = nn.ModuleList(_FixedConv(channels, channels, 3) for _ in _MIXED_BLOCKS[1:])
        # Checkpoints hold the heads under this name.
        self.judges = nn.ModuleList(
            _head(channels, *[2 * channels] * halvings) for halvings in _MIXED_HALVINGS
        )
        # Patches of 38 pixels a side.
        self.pixels = _head(3, channels // 2, channels, 2 * channels) if pixels else None

    def forward(self, image: Tensor, normalise: bool = True) -> Tensor:
        """Score images: (N, 3, H, W) in [-1, 1] -> (N, scores), each head with the same share.

        Args:
            image: Whole images, or their foregrounds.
            normalise: Has no effect: no statistics are taken over images.
        """
        features = self._features[0](image, _MIXED_BLOCKS)
        mixed = [mix(each) for mix, each in zip(self.mixes, features, strict=True)]
        depths = [mixed[-1]]
        for mix, descend in zip(mixed[-2::-1], self.descents, strict=True):
            above = F.interpolate(depths[0], size=mix.shape[2:], mode="bilinear")
            depths.insert(0, descend(mix + above))
        scores = [head(each) for head, each in zip(self.judges, depths, strict=True)]
        if self.pixels is not None:
            scores.append(self.pixels(_PIXEL_SCALE * image))
        # As many of each head, so that their mean is the mean of each head's mean.
        size = scores[0].shape[2:]
        # In the images' dtype: in bf16 the means that the two losses compare would be coarse.
        return torch.cat([F.adaptive_avg_pool2d(s, size) for s in scores], dim=1).to(image.dtype)


class _FixedConv(nn.Conv2d):
    """A convolution whose weights are buffers: saved, never trained."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False
        )
        nn.init.kaiming_normal_(self.weight, nonlinearity="linear")
        weight = self.weight.detach()
        del self.weight
        self.register_buffer("weight", weight)


def _head(*widths: int) -> nn.Module:
    """Return spectral-norm convolutions that halve, and one that scores each remaining position."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [spectral_norm(nn.Conv2d(inputs, outputs, 4, 2, 1)), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1)))
