"""The losses against values computed by hand."""

import pytest
import torch

from agit_hub.losses import (
    adversarial_discriminator,
    adversarial_generator,
    attention_shortfall,
    cycle_consistency,
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
