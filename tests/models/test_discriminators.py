"""Discriminators on features of a frozen classifier."""

import pytest
import torch
import torch.nn.functional as F

from agit_hub.models.backbone import FrozenBackbone
from agit_hub.models.discriminators import MixedDiscriminator, ProjectedDiscriminator
from agit_hub.training.config import TrainSettings
from agit_hub.training.setup import discriminator_factory
from tests.models.test_backbone import random_images, reference_features

PROJECTED = TrainSettings(discriminator="projected", discriminator_channels=4)


def test_projected_discriminator_heads_score_with_equal_weight(features: FrozenBackbone) -> None:
    torch.manual_seed(0)
    discriminator = ProjectedDiscriminator(features, channels=4)
    images = random_images(1, 3, 128, 128)
    scores = discriminator(images)
    assert scores.shape == (1, 3, 16, 16)
    depths, means = reference_features(images), []
    for channel, (head, number) in enumerate(zip(discriminator.heads, (4, 7, 14), strict=True)):
        expected = head(depths[number])
        means.append(expected.mean().item())
        # Nearest neighbours: coarser scores fill 2x2 squares.
        step = 16 // expected.shape[2]
        assert torch.allclose(scores[:, channel, ::step, ::step], expected[:, 0], atol=1e-5)
    assert scores.mean().item() == pytest.approx(sum(means) / 3, abs=1e-6)


@torch.no_grad()
def test_mixed_discriminator_mixes_from_deepest_to_finest(features: FrozenBackbone) -> None:
    torch.manual_seed(0)
    discriminator = MixedDiscriminator(features, channels=4, pixels=True).eval()
    images = random_images(1, 3, 128, 128)
    depths = reference_features(images)
    weights = [mix.weight for mix in discriminator.mixes]
    fine, second, third, deepest = (
        F.conv2d(depths[n], weight) for n, weight in zip((3, 6, 7, 14), weights, strict=True)
    )
    # Strides 4, 8, 16 and 16.
    weights = [descend.weight for descend in discriminator.descents]
    third = F.conv2d(third + deepest, weights[0], padding=1)
    above = F.interpolate(third, scale_factor=2, mode="bilinear")
    second = F.conv2d(second + above, weights[1], padding=1)
    above = F.interpolate(second, scale_factor=2, mode="bilinear")
    fine = F.conv2d(fine + above, weights[2], padding=1)
    heads = zip(discriminator.judges, (fine, second, third, deepest), strict=True)
    scores = [head(each) for head, each in heads]
    # Heads halve 32, 16, 8 and 8 pixels to 8, 8, 4 and 4, which are repeated; pixels to 16.
    assert [score.shape[2] for score in scores] == [8, 8, 4, 4]
    assert discriminator.pixels is not None
    scores = [*scores[:2], *(F.interpolate(score, scale_factor=2) for score in scores[2:])]
    scores.append(F.avg_pool2d(discriminator.pixels(4 * images), 2))
    torch.testing.assert_close(discriminator(images), torch.cat(scores, 1), rtol=1e-4, atol=1e-5)


def test_mixed_discriminator_heads_have_spectral_norm_1(features: FrozenBackbone) -> None:
    torch.manual_seed(0)
    discriminator = MixedDiscriminator(features, channels=4, pixels=True)
    assert discriminator.pixels is not None
    convolutions = [
        module
        for head in (*discriminator.judges, discriminator.pixels)
        for module in head.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    assert len(convolutions) == 3 + 2 + 2 + 2 + 4
    for convolution in convolutions:
        norm = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
        assert norm.item() == pytest.approx(1, abs=0.1)


def test_projected_discriminator_small_images_are_upsampled(features: FrozenBackbone) -> None:
    discriminator = ProjectedDiscriminator(features, channels=4)
    assert discriminator(random_images(1, 3, 64, 96)).shape == (1, 3, 16, 24)
    assert discriminator(random_images(1, 3, 192, 256)).shape == (1, 3, 24, 32)


def test_projected_discriminator_trains_and_saves_heads_only() -> None:
    make = discriminator_factory(PROJECTED)
    one, other = make(), make()
    assert all(name.startswith("heads.") for name in one.state_dict())
    assert sum(p.numel() for p in one.parameters()) == (9 * (40 + 80 + 112) * 4 + 3 * (4 + 4 + 1))
    first, second = (next(iter(d.state_dict().values())) for d in (one, other))
    assert not torch.equal(first, second)
    one.requires_grad_(False)  # as in the generators' update
    images = random_images(1, 3, 32, 32).requires_grad_()
    one(images).sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    one.requires_grad_(True)
    one(images).sum().backward()
    assert all(p.grad is not None for p in one.parameters())


def test_projected_discriminator_to_moves_features() -> None:
    own = FrozenBackbone()
    discriminator = ProjectedDiscriminator(own, channels=4).double()
    assert discriminator(random_images(1, 3, 32, 32).double()).dtype == torch.float64
