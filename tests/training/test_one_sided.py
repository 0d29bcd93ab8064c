"""What a run without a cycle goes by: domains' labels, mixed discriminators, structure, augmentation."""

from pathlib import Path

import pytest
import torch

from agit_hub.losses import hinge_discriminator, hinge_generator, structure_change
from agit_hub.models.backbone import FrozenBackbone
from agit_hub.models.discriminators import MixedDiscriminator
from agit_hub.models.equations import soft_mask
from agit_hub.models.generator import ResnetGenerator
from agit_hub.training.augmentation import augmented
from agit_hub.training.domain_labels import domain_label_loss
from tests.training.conftest import Train


@pytest.fixture(scope="module")
def features() -> FrozenBackbone:
    torch.manual_seed(0)
    return FrozenBackbone()


def test_labels_are_learnt_where_the_domains_differ() -> None:
    own = torch.full((2, 100), -4.0)
    own[:, :10] = 4.0
    nothing = torch.full((2, 100), -4.0)
    told_apart = domain_label_loss(own, nothing, softness=0)
    assert told_apart < 0.1
    # Places that stand out in every picture tell nothing.
    assert domain_label_loss(own, own, softness=0) > 4
    assert domain_label_loss(nothing, nothing, softness=0) > 4


def test_a_mixed_discriminator_trains_its_judges_alone(features: FrozenBackbone) -> None:
    discriminator = MixedDiscriminator(features, channels=8, pixels=True)
    names = {name.split(".")[0] for name, _ in discriminator.named_parameters()}
    assert names == {"judges", "pixels"}
    kept = discriminator.state_dict()
    assert {"mixes.0.weight", "descents.0.weight"} <= kept.keys()
    scores = discriminator(torch.zeros(2, 3, 64, 64))
    assert scores.shape == (2, 5, 4, 4)


def test_structure_is_kept_by_what_changes_nothing(features: FrozenBackbone) -> None:
    torch.manual_seed(1)
    before = torch.rand(1, 3, 64, 64) * 2 - 1
    assert structure_change(features, before, before).item() == 0
    after = before.flip(3).requires_grad_()
    change = structure_change(features, before, after)
    change.backward()  # type: ignore[no-untyped-call]
    assert change > 0
    assert after.grad is not None
    assert after.grad.abs().sum() > 0


def test_augmentation_leaves_the_background_at_zero() -> None:
    torch.manual_seed(2)
    image = torch.ones(3, 3, 32, 32)
    image[:, :, 8:] = 0
    changed = augmented(image)
    assert changed.shape == image.shape
    assert (changed[:, :, 13:] == 0).all()
    assert (augmented(torch.zeros(3, 3, 32, 32)) == 0).all()


def test_a_soft_mask_rises_and_is_widened() -> None:
    attention = torch.zeros(1, 1, 1, 9)
    attention[..., 4] = 0.3
    mask = soft_mask(attention, 0.1)
    assert mask[0, 0, 0].tolist() == pytest.approx([0, 0, 0, 0, 0.5, 0, 0, 0, 0])
    assert soft_mask(attention, 0.1, margin=2)[0, 0, 0].tolist() == pytest.approx(
        [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5, 0, 0]
    )


def test_the_hinge_asks_for_no_more_than_a_margin() -> None:
    right = torch.tensor([2.0, 1.0])
    assert hinge_discriminator(right, -right) == 0
    assert hinge_discriminator(torch.zeros(2), torch.zeros(2)) == 1
    assert hinge_generator(right) == -1.5


def test_a_residual_generator_begins_near_identity() -> None:
    torch.manual_seed(3)
    image = torch.rand(1, 3, 32, 32) * 1.8 - 0.9
    change = ResnetGenerator(8, 1, residual=True)(image) - image
    assert change.abs().mean() < 0.2


def test_a_run_in_the_authors_order_goes_without_a_cycle(tmp_path: Path, train: Train) -> None:
    """In the other direction's turn a direction has no loss but the cycle's, of weight 0."""
    assert train(tmp_path, {"train.update_order": "official", "train.lambda_cyc": 0}).finished
