"""The networks with which a run begins."""

from collections.abc import Callable
from functools import partial

import torch
from accelerate.utils import set_seed
from torch import nn

from agit_hub.models.agit import AGITModel
from agit_hub.models.attention import AttentionNetwork, FeatureAttention
from agit_hub.models.backbone import FrozenBackbone, load_imagenet_weights
from agit_hub.models.discriminators import (
    MixedDiscriminator,
    PatchDiscriminator,
    ProjectedDiscriminator,
)
from agit_hub.training.config import TrainConfig, TrainSettings
from agit_hub.training.networks import TrainingNetworks
from agit_hub.training.warm_start import warm_start


def build_networks(config: TrainConfig, warm: bool) -> TrainingNetworks:
    """The six networks as a run begins: drawn from the seed, or taken from elsewhere."""
    set_seed(config.train.seed)
    train = config.train
    model = AGITModel(config.model)
    if model.features is not None:
        load_imagenet_weights(model.features)
    networks = TrainingNetworks(model, discriminator_maker(train, model.features))
    for attention in (networks.model.attention_s, networks.model.attention_t):
        if isinstance(attention, AttentionNetwork | FeatureAttention):
            assert attention.head.bias is not None
            torch.nn.init.constant_(attention.head.bias, train.attention_bias)
    if train.init_from and warm:
        warm_start(networks, train.init_from)
    return networks


def discriminator_maker(
    settings: TrainSettings, features: FrozenBackbone | None = None
) -> Callable[[], nn.Module]:
    """A function that draws a discriminator as configured.

    Args:
        settings: Say which.
        features: Those of the model, if it has some: projected discriminators judge by the same.

    Raises:
        ConfigError: If it needs a package that is not installed.
    """
    channels = settings.discriminator_channels
    if settings.discriminator == "mixed":
        features = features or load_imagenet_weights(FrozenBackbone())
        return partial(MixedDiscriminator, features, channels, settings.discriminator_pixels)
    if settings.discriminator == "projected":
        features = features or load_imagenet_weights(FrozenBackbone())
        return partial(ProjectedDiscriminator, features, channels)
    return partial(PatchDiscriminator, channels, settings.discriminator_layers)
