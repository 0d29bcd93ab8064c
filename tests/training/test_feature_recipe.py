"""The recipe on frozen features: domain labels, mixed discriminators, structure loss, augmentation."""

from pathlib import Path

import pytest
import torch

from agit_hub.losses import hinge_discriminator, hinge_generator, structure_change
from agit_hub.models.backbone import FrozenBackbone
from agit_hub.models.discriminators import MixedDiscriminator
from agit_hub.models.equations import soft_mask
from agit_hub.models.generator import ResnetGenerator
from agit_hub.training.augmentation import augment
from agit_hub.training.domain_labels import domain_label_loss
from tests.training.conftest import Train


@pytest.fixture(scope="module")
def features() -> FrozenBackbone:
    torch.manual_seed(0)
    return FrozenBackbone()


def test_domain_label_loss_is_low_only_where_domains_differ() -> None:
    own = torch.full((2, 100), -4.0)
    own[:, :10] = 4.0
    negative = torch.full((2, 100), -4.0)
    separated = domain_label_loss(own, negative, logit_decay=0)
    assert separated < 0.1
    # Cells that stand out in every image do not separate the domains.
    assert domain_label_loss(own, own, logit_decay=0) > 4
    assert domain_label_loss(negative, negative, logit_decay=0) > 4


def test_mixed_discriminator_trains_heads_only(features: FrozenBackbone) -> None:
    discriminator = MixedDiscriminator(features, channels=8, pixels=True)
    names = {name.split(".")[0] for name, _ in discriminator.named_parameters()}
    assert names == {"judges", "pixels"}
    kept = discriminator.state_dict()
    assert {"mixes.0.weight", "descents.0.weight"} <= kept.keys()
    scores = discriminator(torch.zeros(2, 3, 64, 64))
    assert scores.shape == (2, 5, 4, 4)


def test_structure_change_of_same_image_is_zero(features: FrozenBackbone) -> None:
    torch.manual_seed(1)
    before = torch.rand(1, 3, 64, 64) * 2 - 1
    assert structure_change(features, before, before).item() == 0
    after = before.flip(3).requires_grad_()
    change = structure_change(features, before, after)
    change.backward()  # type: ignore[no-untyped-call]
    assert change > 0
    assert after.grad is not None
    assert after.grad.abs().sum() > 0


def test_augment_keeps_background_zero() -> None:
    torch.manual_seed(2)
    image = torch.ones(3, 3, 32, 32)
    image[:, :, 8:] = 0
    changed = augment(image)
    assert changed.shape == image.shape
    assert (changed[:, :, 13:] == 0).all()
    assert (augment(torch.zeros(3, 3, 32, 32)) == 0).all()


def test_soft_mask_rises_linearly_and_is_dilated() -> None:
    attention = torch.zeros(1, 1, 1, 9)
    attention[..., 4] = 0.3
    mask = soft_mask(attention, 0.1)
    assert mask[0, 0, 0].tolist() == pytest.approx([0, 0, 0, 0, 0.5, 0, 0, 0, 0])
    assert soft_mask(attention, 0.1, margin=2)[0, 0, 0].tolist() == pytest.approx(
        [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0, 0]
    )


def test_hinge_losses_saturate_at_margin() -> None:
    right = torch.tensor([2.0, 1.0])
    assert hinge_discriminator(right, -right) == 0
    assert hinge_discriminator(torch.zeros(2), torch.zeros(2)) == 1
    assert hinge_generator(right) == -1.5


def test_residual_generator_starts_near_identity() -> None:
    torch.manual_seed(3)
    image = torch.rand(1, 3, 32, 32) * 1.8 - 0.9
    change = ResnetGenerator(8, 1, residual=True)(image) - image
    assert change.abs().mean() < 0.2


def test_run_official_order_without_cycle_loss_trains(tmp_path: Path, train: Train) -> None:
    """In the turn of one direction the other one has a cycle loss only, of weight 0."""
    assert train(tmp_path, {"train.update_order": "official", "train.lambda_cyc": 0}).finished
