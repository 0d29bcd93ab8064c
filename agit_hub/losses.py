"""The losses of the method, and others that are not in the paper, as pure functions of tensors."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from agit_hub.models.backbone import FrozenBackbone

# The backbone's block whose features `structure_change` compares.
_STRUCTURE_BLOCK = 6
# Least probability in a cross-entropy.
_LEAST = 1e-12


def adversarial_generator(prediction: Tensor) -> Tensor:
    """Return the least-squares loss of a generator: mean (D(s') - 1)^2."""
    return (prediction - 1).square().mean()


def adversarial_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return the least-squares loss of a discriminator: half of mean (D(real) - 1)^2 + mean D(fake)^2."""
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def hinge_generator(prediction: Tensor) -> Tensor:
    """Return the hinge loss of a generator: mean -D(s')."""
    return -prediction.mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Return the hinge loss of a discriminator: half of mean (1 - D(real))+ + mean (1 + D(fake))+."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


class Adversarial(NamedTuple):
    """The two losses of adversarial training."""

    generator: Callable[[Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor], Tensor]


ADVERSARIAL: dict[Literal["least_squares", "hinge"], Adversarial] = {
    "least_squares": Adversarial(adversarial_generator, adversarial_discriminator),
    "hinge": Adversarial(hinge_generator, hinge_discriminator),
}


def attention_shortfall(attention: Tensor, floor: float) -> Tensor:
    """Return how far a batch's mean attention is below a floor, relative to it (not in the paper).

    It keeps maps from becoming empty; where attention goes is up to the other losses.

    Args:
        attention: Maps, any shape, in [0, 1].
        floor: The least mean attention, above 0.

    Returns:
        A scalar in [0, 1], 0 at the floor and above.
    """
    return F.relu(1 - attention.mean() / floor)


def mask_loss(attention: Tensor, mask: Tensor) -> Tensor:
    """Return the distance of maps from masks: binary cross-entropy plus Dice (not in the paper).

    It is averaged over all images, those without a mask counting as 0, so that a batch in parts has the
    loss of the whole, however the masks are distributed over the parts.

    Args:
        attention: Maps, (N, 1, H, W) in [0, 1].
        mask: The same shape, in [0, 1]; negative for an image without a mask.

    Returns:
        A scalar, 0 if no image has a mask.
    """
    known = (mask >= 0).flatten(1).all(dim=1).float()
    found, wanted = attention.float().flatten(1), mask.clamp_min(0).flatten(1)
    # Not torch's own: it raises for values that are not finite, which are reported elsewhere.
    objects, background = (each.clamp_min(_LEAST).log() for each in (found, 1 - found))
    entropy = -(wanted * objects + (1 - wanted) * background).mean(dim=1)
    shared = (found * wanted).sum(dim=1)
    # The smoothing of one pixel defines it for an empty mask.
    dice = 1 - (2 * shared + 1) / (found.sum(dim=1) + wanted.sum(dim=1) + 1)
    return ((entropy + dice) * known).mean()


def cycle_consistency(image: Tensor, cycle: Tensor) -> Tensor:
    """Return the L1 distance between an image and its cycle reconstruction: mean |s - s''|."""
    return F.l1_loss(cycle, image)


def structure_change(features: FrozenBackbone, image: Tensor, translation: Tensor) -> Tensor:
    """Return how far the similarities between an image's positions change in its translation.

    After the spatially-correlative loss (Zheng et al., 2021), on a classifier's features: one pass of
    a small network where a cycle takes a second pass of both generators.

    Args:
        features: Frozen.
        image: (N, 3, H, W), in [-1, 1].
        translation: The same shape and range.

    Returns:
        A scalar in [0, 2], 0 if no similarity changes.
    """
    with torch.no_grad():
        expected = _self_similarity(features, image)
    return F.l1_loss(_self_similarity(features, translation), expected)


def _self_similarity(features: FrozenBackbone, image: Tensor) -> Tensor:
    (output,) = features(image, (_STRUCTURE_BLOCK,))
    positions = F.normalize(output.flatten(2), dim=1)
    return positions.transpose(1, 2) @ positions
