"""Discriminators on frozen features, and the features with which a run begins."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from agit_hub.models.attention import FeatureAttention
from agit_hub.models.backbone import FrozenBackbone
from agit_hub.models.discriminators import ProjectedDiscriminator
from agit_hub.training.config import TrainConfig, TrainSettings
from agit_hub.training.initial import build_networks, discriminator_maker
from tests.models.test_backbone import by_hand, random_pictures

PROJECTED = TrainSettings(discriminator="projected", discriminator_channels=4)


def test_scores_are_each_heads_own_and_weigh_the_same(features: FrozenBackbone) -> None:
    torch.manual_seed(0)
    discriminator = ProjectedDiscriminator(features, channels=4)
    pictures = random_pictures(1, 3, 128, 128)
    scores = discriminator(pictures)
    assert scores.shape == (1, 3, 16, 16)
    depths, means = by_hand(pictures), []
    for channel, (head, number) in enumerate(zip(discriminator.heads, (4, 7, 14), strict=True)):
        expected = head(depths[number])
        means.append(expected.mean().item())
        # Nearest neighbours: the coarser ones' scores fill squares of two.
        step = 16 // expected.shape[2]
        assert torch.allclose(scores[:, channel, ::step, ::step], expected[:, 0], atol=1e-5)
    assert scores.mean().item() == pytest.approx(sum(means) / 3, abs=1e-6)


def test_small_pictures_are_enlarged_and_large_ones_left(features: FrozenBackbone) -> None:
    discriminator = ProjectedDiscriminator(features, channels=4)
    assert discriminator(random_pictures(1, 3, 64, 96)).shape == (1, 3, 16, 24)
    assert discriminator(random_pictures(1, 3, 192, 256)).shape == (1, 3, 24, 32)


def test_heads_alone_are_trained_and_saved_and_pictures_get_their_gradients() -> None:
    make = discriminator_maker(PROJECTED)
    one, other = make(), make()
    assert all(name.startswith("heads.") for name in one.state_dict())
    assert sum(p.numel() for p in one.parameters()) == (9 * (40 + 80 + 112) * 4 + 3 * (4 + 4 + 1))
    first, second = (next(iter(d.state_dict().values())) for d in (one, other))
    assert not torch.equal(first, second)
    one.requires_grad_(False)  # as in the generators' turn
    pictures = random_pictures(1, 3, 32, 32).requires_grad_()
    one(pictures).sum().backward()
    assert pictures.grad is not None and pictures.grad.abs().sum() > 0
    one.requires_grad_(True)
    one(pictures).sum().backward()
    assert all(p.grad is not None for p in one.parameters())


def test_the_features_go_where_the_heads_go() -> None:
    own = FrozenBackbone()
    discriminator = ProjectedDiscriminator(own, channels=4).double()
    assert discriminator(random_pictures(1, 3, 32, 32).double()).dtype == torch.float64


def test_a_run_begins_with_one_set_of_features_that_has_imagenets_weights(
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
    for judge in (networks.discriminator_s, networks.discriminator_t):
        assert isinstance(judge, ProjectedDiscriminator) and judge._features[0] is own
