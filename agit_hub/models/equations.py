"""What attention does to a picture: the equations of the method as pure functions."""

import torch
import torch.nn.functional as F
from torch import Tensor


def composite(image: Tensor, generated: Tensor, attention: Tensor) -> Tensor:
    """Blend a translation into its input by attention (Eq. 1 of Mejjati et al., 2018).

    s' = s_a * F(s) + (1 - s_a) * s. Where attention is 0 the input comes through untouched;
    where it is 1 the generator decides alone.

    Args:
        image: Source s, (N, 3, H, W), in [-1, 1].
        generated: The generator's output F(s), (N, 3, H, W), in [-1, 1].
        attention: Map s_a, (N, 1, H, W), in [0, 1].

    Returns:
        s', (N, 3, H, W), in [-1, 1].

    Raises:
        ValueError: If the shapes do not belong together.
    """
    _check_shapes(image, attention)
    if generated.shape != image.shape:
        raise ValueError(
            f"The generated picture is {tuple(generated.shape)}, its input {tuple(image.shape)}: "
            "they must have the same shape."
        )
    return attention * generated + (1 - attention) * image


def foreground(image: Tensor, attention: Tensor, threshold: float) -> Tensor:
    """Keep the attended region of a picture and set the rest to 0 (Eqs. 6-7).

    This is what the discriminators see after the switch. The mask is hard, so no gradient reaches
    attention through it; with `threshold` 0 every pixel passes.

    Args:
        image: A picture, (N, 3, H, W), in [-1, 1].
        attention: The map that goes with it, (N, 1, H, W), in [0, 1].
        threshold: tau, in [0, 1]: pixels whose attention is below it become 0.

    Returns:
        (N, 3, H, W), in [-1, 1].

    Raises:
        ValueError: If the shapes do not belong together.
    """
    _check_shapes(image, attention)
    if threshold == 0:  # no map is below it
        return image
    return image * (attention >= threshold).to(image.dtype)


def soft_mask(attention: Tensor, threshold: float, margin: int = 0) -> Tensor:
    """0 where a map is below a threshold, rising to 1 at five times that, with a margin around it."""
    mask = ((attention - threshold) / (4 * threshold)).clamp(0, 1)
    window = 2 * margin + 1
    for side in ((window, 1), (1, window)) if margin else ():  # a square's maximum, in two
        mask = F.max_pool2d(mask, side, stride=1, padding=(side[0] // 2, side[1] // 2))
    return mask


def _check_shapes(image: Tensor, attention: Tensor) -> None:
    expected = torch.Size((image.shape[0], 1, *image.shape[2:]))
    if attention.shape != expected:
        raise ValueError(
            f"A picture of shape {tuple(image.shape)} needs an attention map of shape "
            f"{tuple(expected)}, not {tuple(attention.shape)}."
        )
