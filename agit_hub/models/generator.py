"""The generator: an encoder, residual blocks and a decoder."""

import torch
from torch import Tensor, nn

from agit_hub.config import Upsampling
from agit_hub.models.layers import (
    ResidualBlock,
    SamePad,
    gaussian_blur,
    generator_upsample,
    initialize_weights,
    instance_norm,
)

# Three convolutions, each with its norm and ReLU, and two paddings.
ENCODER_LAYERS = 11
# White and black of a residual generator's input: beyond it tanh is too flat.
_MAX_INPUT = 0.97


class ResnetGenerator(nn.Module):
    """F_ST or F_TS: translates a whole image.

    7x7, two 3x3 stride-2 convolutions, residual blocks, two 3x3 stride-2 transposed convolutions,
    7x7, tanh; instance norm on all but the last.

    Args:
        channels: Width of the first layer; the residual blocks have four times as many.
        blocks: Number of residual blocks.
        upsampling: "transposed", or "nearest" for 2x nearest-neighbour upsampling before a 3x3
            convolution: transposed convolutions leave checkerboard artifacts (Odena et al., 2016).
        residual: Add the layers' output to the image before the last tanh, so training starts near
            the identity.
        blur: Blur the image that the output is added to, by a Gaussian of this standard deviation in
            pixels.
    """

    def __init__(
        self,
        channels: int = 32,
        blocks: int = 9,
        upsampling: Upsampling = "transposed",
        residual: bool = False,
        blur: float | None = None,
    ) -> None:
        super().__init__()
        c = channels
        self.residual = residual
        self.blur = blur
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, c, 7, padding=3), instance_norm(c), nn.ReLU()),
            *(SamePad(), nn.Conv2d(c, 2 * c, 3, stride=2), instance_norm(2 * c), nn.ReLU()),
            *(SamePad(), nn.Conv2d(2 * c, 4 * c, 3, stride=2), instance_norm(4 * c), nn.ReLU()),
            *(ResidualBlock(4 * c, "zeros") for _ in range(blocks)),
            *(*generator_upsample(4 * c, 2 * c, upsampling), instance_norm(2 * c), nn.ReLU()),
            *(*generator_upsample(2 * c, c, upsampling), instance_norm(c), nn.ReLU()),
            nn.Conv2d(c, 3, 7, padding=3),
            nn.Tanh(),
        )
        initialize_weights(self)

    def forward(self, image: Tensor) -> Tensor:
        """Translate images: (N, 3, H, W) in [-1, 1] -> the same shape and range."""
        return self.decode(self.encode(image), image)

    def encode(self, image: Tensor) -> Tensor:
        """Compute the input of the residual blocks, (N, 4 * channels, H / 4, W / 4)."""
        return self.layers[:ENCODER_LAYERS](image)  # type: ignore[no-any-return]

    def decode(self, encoded: Tensor, image: Tensor) -> Tensor:
        """Compute the translation of an image, (N, 3, H, W), from its encoding."""
        # In the image's dtype, float32 even under autocast: bfloat16 has only 8 bits for a colour.
        output: Tensor = self.layers[ENCODER_LAYERS:-1](encoded).to(image.dtype)
        if self.residual:  # of the image's inverse tanh
            base = image if self.blur is None else gaussian_blur(image, self.blur)
            output = torch.atanh(base.clamp(-_MAX_INPUT, _MAX_INPUT)) + output
        return torch.tanh(output)
