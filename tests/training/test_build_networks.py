"""The networks that a run starts with."""

from collections.abc import Callable
from pathlib import Path

import torch

from agit_hub.models.attention import FeatureAttention
from agit_hub.models.backbone import FrozenBackbone
from agit_hub.models.discriminators import ProjectedDiscriminator
from agit_hub.training.config import TrainConfig
from agit_hub.training.setup import build_networks


def test_build_networks_shares_one_imagenet_backbone(
    features: FrozenBackbone, tmp_path: Path, configure: Callable[..., TrainConfig]
) -> None:
    changes = {"model.attention": "features", "train.discriminator": "projected"}
    networks = build_networks(configure(tmp_path, changes), warm=True)
    own, expected = networks.model.features, features.state_dict()
    assert own is not None
    found = own.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for network in (networks.model.attention_s, networks.model.attention_t):
        assert isinstance(network, FeatureAttention) and network._features[0] is own

    for discriminator in (networks.discriminator_s, networks.discriminator_t):
        assert isinstance(discriminator, ProjectedDiscriminator)
        assert discriminator._features[0] is own
