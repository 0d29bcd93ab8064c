"""The equations of the method (Mejjati et al., 2018) as pure functions of tensors."""

import torch
from torch import Tensor


def composite(image: Tensor, generated: Tensor, attention: Tensor) -> Tensor:
    """Blend a generated image into its input by attention (Eq. 1): s' = s_a * F(s) + (1 - s_a) * s.

    Args:
        image: Source s, (N, 3, H, W), in [-1, 1].
        generated: The generator's output F(s), same shape and range.
        attention: Map s_a, (N, 1, H, W), in [0, 1].

    Returns:
        s', (N, 3, H, W), in [-1, 1].

    Raises:
        ValueError: If the shapes do not match.
    """
    _check_shapes(image, attention)
    if generated.shape != image.shape:
        raise ValueError(
            f"The generated image has shape {tuple(generated.shape)} and its input "
            f"{tuple(image.shape)}: they must be equal."
        )
    return attention * generated + (1 - attention) * image


def foreground(image: Tensor, attention: Tensor, threshold: float) -> Tensor:
    """Keep the attended region of an image and set the rest to 0 (Eqs. 6-7).

    This is the discriminators' input after the switch. The mask is hard, so no gradient reaches
    attention through it; with `threshold` 0 every pixel passes.

    Args:
        image: (N, 3, H, W), in [-1, 1].
        attention: Its map, (N, 1, H, W), in [0, 1].
        threshold: tau, in [0, 1]: pixels with attention below it become 0.

    Raises:
        ValueError: If the shapes do not match.
    """
    _check_shapes(image, attention)
    if threshold == 0:  # no value is below it
        return image
    return image * (attention >= threshold).to(image.dtype)


def soft_mask(attention: Tensor, threshold: float) -> Tensor:
    """Map attention below a threshold to 0, rising to 1 at five times it."""
    return ((attention - threshold) / (4 * threshold)).clamp(0, 1)


def _check_shapes(image: Tensor, attention: Tensor) -> None:
    expected = torch.Size((image.shape[0], 1, *image.shape[2:]))
    if attention.shape != expected:
        raise ValueError(
            f"An image of shape {tuple(image.shape)} needs an attention map of shape "
            f"{tuple(expected)}, not {tuple(attention.shape)}."
        )
