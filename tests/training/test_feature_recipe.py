"""The recipe on frozen features: domain labels, mixed discriminators, structure loss, augmentation."""

import copy
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from agit_hub.config import AGITConfig
from agit_hub.data.loader import Batch
from agit_hub.losses import hinge_discriminator, hinge_generator, structure_change
from agit_hub.models.agit import AGITModel
from agit_hub.models.backbone import FrozenBackbone
from agit_hub.models.discriminators import MixedDiscriminator, PatchDiscriminator
from agit_hub.models.equations import soft_mask
from agit_hub.models.generator import ResnetGenerator
from agit_hub.training.augmentation import augment
from agit_hub.training.config import SwitchConfig, TrainSettings
from agit_hub.training.domain_labels import domain_label_loss
from agit_hub.training.schedule import Schedule
from agit_hub.training.setup import TrainingNetworks
from agit_hub.training.step import Step
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


def test_structure_change_is_mean_change_of_cosine_similarities() -> None:
    """Two orthogonal positions become parallel: the two similarities between them change by 1."""
    features = {
        "image": torch.tensor([[1.0, 0.0], [0.0, 3.0]]).view(1, 2, 1, 2),
        "translation": torch.tensor([[2.0, 5.0], [0.0, 0.0]]).view(1, 2, 1, 2),
    }

    def extract(name: str, blocks: tuple[int, ...]) -> list[Tensor]:
        assert blocks == (6,)
        return [features[name]]

    change = structure_change(extract, "image", "translation")  # type: ignore[arg-type]
    assert change.item() == pytest.approx(0.5)


def test_step_of_recipe_equals_losses_by_hand(features: FrozenBackbone) -> None:
    """Hinge losses on soft masks, and the structure loss, without it where the image is blurred."""
    torch.manual_seed(4)
    tiny = {"image_size": 32, "channels": 4, "blocks": 0, "attention_channels": 4}
    blurred = {"residual": True, "target_blur": 2.0}
    model = AGITModel(AGITConfig(attention="features", **tiny, **blurred))  # type: ignore[arg-type]
    for attention in (model.attention_s, model.attention_t):
        # Maps on both sides of the soft mask's ends.
        attention.head.weight.data *= 400
    networks = TrainingNetworks(model, lambda: PatchDiscriminator(4, 2))
    tau, weight = 0.15, 3.0
    settings = TrainSettings(
        max_steps=9,
        lambda_cyc=0.0,
        lambda_structure=weight,
        attention_threshold=tau,
        adversarial="hinge",
        discriminator_mask="soft",
        pool_size=0,
        switch=SwitchConfig(step=0, bypass_norm=False),
    )
    source, target = (torch.rand(2, 3, 32, 32) * 2 - 1 for _ in "st")
    before = copy.deepcopy(networks).train()
    assert before.model.features is not None

    def score(network: torch.nn.Module, image: Tensor, attention: Tensor) -> Tensor:
        found: Tensor = network(image * soft_mask(attention.detach(), tau))
        return found

    st, ts = before.model.source_to_target(source), before.model.target_to_source(target)
    adversarial = -score(before.discriminator_t, st.image, st.attention).mean()
    structure = structure_change(before.model.features, source, st.image)
    real = score(before.discriminator_t, target, ts.attention)
    fake = score(before.discriminator_t, st.image, st.attention)
    discriminator = (1 - real).relu().mean() / 2 + (1 + fake).relu().mean() / 2
    gradients = torch.autograd.grad(
        adversarial + weight * structure, list(before.model.generator_st.parameters())
    )
    to_source = -score(before.discriminator_s, ts.image, ts.attention).mean()
    gradients += torch.autograd.grad(to_source, list(before.model.generator_ts.parameters()))

    schedule = Schedule(settings, steps_per_epoch=9)
    schedule.switch(0)
    step = Step(networks, settings, Accelerator(cpu=True), pool_seed=0)
    metrics = step([Batch(source, target)], schedule.phase(0))
    mask = soft_mask(st.attention, tau)
    assert mask.min() == 0 and mask.max() == 1 and ((mask > 0) & (mask < 1)).any()
    assert metrics["loss/adversarial_st"].item() == pytest.approx(adversarial.item(), rel=1e-5)
    assert metrics["loss/structure_s"].item() == pytest.approx(structure.item(), rel=1e-5)
    assert metrics["loss/discriminator_t"].item() == pytest.approx(discriminator.item(), rel=1e-5)
    assert "loss/cycle_s" not in metrics and "loss/structure_t" not in metrics
    moments = step.optimizers["generators_st_ts"].optimizer.state
    parameters = [*model.generator_st.parameters(), *model.generator_ts.parameters()]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        # Adam's first moment is half of its first gradient.
        torch.testing.assert_close(
            moments[parameter]["exp_avg"], gradient / 2, rtol=1e-3, atol=1e-6
        )
    for one, other in zip(
        model.attention_s.parameters(), before.model.attention_s.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_augment_changes_brightness_position_and_cuts_a_square() -> None:
    torch.manual_seed(5)
    flat = augment(torch.full((100, 3, 64, 64), 0.5))
    # One brightness for each image, within 0.15 of its own.
    levels = flat.amax((1, 2, 3))
    assert ((flat == 0) | (flat == levels[:, None, None, None])).all()
    assert 0.1 < (levels - 0.5).abs().max() <= 0.15 and levels.min() < 0.5 < levels.max()
    # A pixel moves by at most an eighth of the side, along both axes independently.
    image = torch.zeros(400, 3, 64, 64)
    image[:, :, 32, 32] = 1.0
    _, rows, columns = augment(image)[:, 0].nonzero(as_tuple=True)
    assert 250 < len(rows) < 400  # the others are cut out
    for places in (rows, columns):
        assert {int(place) for place in places} == set(range(24, 41))
    assert (rows != columns).any()
    # The hole is 0.4 of the side; its center is inside the image, so that a part may be outside.
    shifted = augment(torch.ones(100, 3, 64, 64))[:, 0, 8:-8, 8:-8] == 0
    assert shifted.any(2).sum(1).max() in (25, 26) and shifted.any(1).sum(1).max() in (25, 26)


def test_augment_keeps_background_zero() -> None:
    torch.manual_seed(2)
    image = torch.ones(3, 3, 32, 32)
    image[:, :, 8:] = 0
    changed = augment(image)
    assert changed.shape == image.shape
    assert (changed[:, :, 13:] == 0).all()
    assert (augment(torch.zeros(3, 3, 32, 32)) == 0).all()


def test_soft_mask_rises_linearly() -> None:
    attention = torch.tensor([0.0, 0.1, 0.2, 0.3, 0.5, 1.0]).view(1, 1, 1, 6)
    mask = soft_mask(attention, 0.1)
    assert mask.flatten().tolist() == pytest.approx([0, 0, 0.25, 0.5, 1, 1])


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
    """In the update of one direction the other one has a cycle loss only, of weight 0."""
    assert train(tmp_path, {"train.update_order": "official", "train.lambda_cyc": 0}).finished
