"""The three losses of the method, and one of ours, each a pure function of tensors."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from agit_hub.models.backbone import FrozenBackbone


def adversarial_generator(prediction: Tensor) -> Tensor:
    """Least-squares adversarial loss of a generator: mean (D(s') - 1)^2.

    Args:
        prediction: The discriminator's patch scores of translated pictures, any shape.

    Returns:
        A scalar, 0 where the discriminator takes every patch for real.
    """
    return (prediction - 1).square().mean()


def adversarial_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Least-squares loss of a discriminator: half of mean (D(real) - 1)^2 + mean D(fake)^2.

    Args:
        real: Patch scores of real pictures, any shape.
        fake: Patch scores of translated pictures, any shape.

    Returns:
        A scalar, 0 for a discriminator that is never wrong.
    """
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def hinge_generator(prediction: Tensor) -> Tensor:
    """Hinge loss of a generator: mean -D(s')."""
    return -prediction.mean()


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of a discriminator: half of mean (1 - D(real))+ + mean (1 + D(fake))+."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


class Adversarial(NamedTuple):
    """The two sides of a game."""

    generator: Callable[[Tensor], Tensor]
    discriminator: Callable[[Tensor, Tensor], Tensor]


ADVERSARIAL: dict[Literal["least_squares", "hinge"], Adversarial] = {
    "least_squares": Adversarial(adversarial_generator, adversarial_discriminator),
    "hinge": Adversarial(hinge_generator, hinge_discriminator),
}


def attention_shortfall(attention: Tensor, floor: float) -> Tensor:
    """How far a batch's attention falls short of a floor, as a share of it (not in the paper).

    It keeps maps from emptying, and leaves to the other losses where attention is paid.

    Args:
        attention: Maps, any shape, in [0, 1].
        floor: The least mean they are to have, above 0.

    Returns:
        A scalar in [0, 1], 0 at the floor and above.
    """
    return F.relu(1 - attention.mean() / floor)


def cycle_consistency(image: Tensor, cycle: Tensor) -> Tensor:
    """L1 distance between a picture and its translation there and back: mean |s - s''|.

    Args:
        image: s, (N, 3, H, W), in [-1, 1].
        cycle: s'', the same shape and range.

    Returns:
        A scalar in [0, 2].
    """
    return F.l1_loss(cycle, image)


_BLOCK = 6


def structure_change(features: FrozenBackbone, before: Tensor, after: Tensor) -> Tensor:
    """How far the likenesses between a picture's places have changed.

    After the spatially-correlative loss (Zheng et al., 2021), on a classifier's features: one pass of
    a small network where a cycle takes a second pass of both generators.

    Args:
        features: Frozen.
        before: A picture, (N, 3, H, W), in [-1, 1].
        after: Its translation.

    Returns:
        A scalar in [0, 2], 0 if nothing has changed.
    """
    with torch.no_grad():
        wanted = _likeness(features, before)
    return F.l1_loss(_likeness(features, after), wanted)


def _likeness(features: FrozenBackbone, image: Tensor) -> Tensor:
    (found,) = features(image, (_BLOCK,))
    places = F.normalize(found.flatten(2), dim=1)
    return places.transpose(1, 2) @ places
