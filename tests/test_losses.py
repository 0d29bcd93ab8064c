"""The losses against values computed by hand."""

import math

import pytest
import torch

from agit_hub.losses import (
    adversarial_discriminator,
    adversarial_generator,
    attention_shortfall,
    cycle_consistency,
    mask_loss,
)


def test_adversarial_generator_is_mean_squared_distance_to_1() -> None:
    scores = torch.tensor([[1.0, 0.0], [0.5, 3.0]], requires_grad=True)
    loss = adversarial_generator(scores)
    loss.backward()
    assert loss.item() == pytest.approx((0 + 1 + 0.25 + 4) / 4)
    assert scores.grad is not None  # 2 (D - 1) / 4
    torch.testing.assert_close(scores.grad, torch.tensor([[0.0, -0.5], [-0.25, 1.0]]))
    assert adversarial_generator(torch.ones(2, 1, 3, 3)).item() == 0


def test_adversarial_discriminator_targets_1_for_real_and_0_for_fake() -> None:
    real = torch.tensor([1.0, 0.0, 2.0, 0.5], requires_grad=True)
    fake = torch.tensor([0.0, 3.0], requires_grad=True)  # an image pool may hold fewer
    loss = adversarial_discriminator(real, fake)
    loss.backward()
    # Half of (0 + 1 + 1 + 0.25) / 4 plus half of (0 + 9) / 2.
    assert loss.item() == pytest.approx(0.5 * 0.5625 + 0.5 * 4.5)
    assert real.grad is not None and fake.grad is not None  # (D - 1) / 4 and D / 2
    torch.testing.assert_close(real.grad, torch.tensor([0.0, -0.25, 0.25, -0.125]))
    torch.testing.assert_close(fake.grad, torch.tensor([0.0, 1.5]))
    assert adversarial_discriminator(torch.ones(5), torch.zeros(5)).item() == 0
    assert adversarial_discriminator(torch.zeros(5), torch.ones(5)).item() == 1


def test_cycle_consistency_is_mean_absolute_difference() -> None:
    image = torch.tensor([1.0, -1.0, 0.25, 0.0]).reshape(1, 1, 2, 2)
    cycle = torch.tensor([-1.0, -1.0, 0.75, -0.5]).reshape(1, 1, 2, 2).requires_grad_()
    loss = cycle_consistency(image, cycle)
    loss.backward()
    assert loss.item() == pytest.approx((2 + 0 + 0.5 + 0.5) / 4)
    assert cycle.grad is not None
    assert cycle.grad.flatten().tolist() == [-0.25, 0, 0.25, -0.25]
    assert cycle_consistency(-torch.ones(1, 3, 2, 2), torch.ones(1, 3, 2, 2)).item() == 2


def test_attention_shortfall_is_relative_to_floor() -> None:
    maps = torch.tensor([0.1, 0.0, 0.0, 0.1]).reshape(1, 1, 2, 2).requires_grad_()
    loss = attention_shortfall(maps, 0.2)
    loss.backward()
    # The mean is 0.05, three quarters of the floor are missing.
    assert loss.item() == pytest.approx(0.75)
    assert maps.grad is not None
    assert maps.grad.flatten().tolist() == pytest.approx([-1 / 0.2 / 4] * 4)
    assert attention_shortfall(torch.zeros(2, 1, 2, 2), 0.3).item() == 1
    assert attention_shortfall(torch.full((2, 1, 2, 2), 0.4), 0.3).item() == 0


def test_mask_loss_is_cross_entropy_plus_dice_of_images_with_masks() -> None:
    attention = torch.tensor([[0.5, 0.5, 0.25, 0.25], [0.9, 0.9, 0.9, 0.9]]).reshape(2, 1, 2, 2)
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0], [-1.0] * 4]).reshape(2, 1, 2, 2)
    entropy = -(2 * math.log(0.5) + 2 * math.log(0.75)) / 4
    dice = 1 - (2 * 1 + 1) / (1.5 + 2 + 1)
    # Over both images: the second has no mask.
    assert mask_loss(attention, mask).item() == pytest.approx((entropy + dice) / 2)
    assert mask_loss(attention, torch.full_like(mask, -1)).item() == 0
    assert mask_loss(mask.clamp_min(0), mask.clamp_min(0)).item() == pytest.approx(0, abs=1e-6)


def test_mask_loss_saturated_map_stays_finite_and_reports_nan() -> None:
    mask = torch.tensor([1.0, 0.0]).reshape(1, 1, 1, 2)
    attention = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2).requires_grad_()
    mask_loss(attention, mask).backward()
    assert attention.grad is not None and attention.grad.isfinite().all()
    assert mask_loss(torch.full_like(mask, math.nan), mask).isnan()
