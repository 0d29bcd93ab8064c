"""The generator: an encoder, residual blocks and a decoder."""

import torch
from torch import Tensor, nn

from agit_hub.config import Upsampling
from agit_hub.models.layers import ResidualBlock, SamePad, doubling, initialise, norm

# Of a generator: three convolutions, each with its norm and ReLU, and two paddings.
ENCODER_LAYERS = 11


# Where tanh still has a slope: white and black of a residual generator's input.
_BRIGHTEST = 0.97


class ResnetGenerator(nn.Module):
    """F_ST or F_TS: translates a whole picture.

    7x7, two 3x3 stride-2 convolutions, residual blocks, two 3x3 stride-2 transposed convolutions,
    7x7, tanh; instance norm on all but the last.

    Args:
        channels: Width of the first layer; the residual blocks have four times as many.
        blocks: Number of residual blocks.
        upsampling: "transposed", or "nearest" for doubled pixels before a 3x3 convolution: transposed
            convolutions overlap unevenly, and draw checkers (Odena et al., 2016).
        residual: Add what the layers find to the picture, before the last tanh: they begin near identity.
    """

    def __init__(
        self,
        channels: int = 32,
        blocks: int = 9,
        upsampling: Upsampling = "transposed",
        residual: bool = False,
    ) -> None:
        super().__init__()
        c = channels
        self.residual = residual
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, c, 7, padding=3), norm(c), nn.ReLU()),
            *(SamePad(), nn.Conv2d(c, 2 * c, 3, stride=2), norm(2 * c), nn.ReLU()),
            *(SamePad(), nn.Conv2d(2 * c, 4 * c, 3, stride=2), norm(4 * c), nn.ReLU()),
            *(ResidualBlock(4 * c, "zeros") for _ in range(blocks)),
            *(*doubling(4 * c, 2 * c, upsampling), norm(2 * c), nn.ReLU()),
            *(*doubling(2 * c, c, upsampling), norm(c), nn.ReLU()),
            nn.Conv2d(c, 3, 7, padding=3),
            nn.Tanh(),
        )
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Translate pictures: (N, 3, H, W) in [-1, 1] -> the same shape and range."""
        if not self.residual:
            return self.layers(image)  # type: ignore[no-any-return]
        return self.decode(self.encode(image), image)

    def encode(self, image: Tensor) -> Tensor:
        """What enters the residual blocks, (N, 4 * channels, H / 4, W / 4)."""
        encoded: Tensor = self.layers[:ENCODER_LAYERS](image)
        return encoded

    def decode(self, encoded: Tensor, image: Tensor) -> Tensor:
        """The translation of an image, (N, 3, H, W), from what `encode` made of it."""
        if not self.residual:
            return self.layers[ENCODER_LAYERS:](encoded)  # type: ignore[no-any-return]
        # All layers but tanh, on top of the image as it is before a tanh.
        found: Tensor = self.layers[ENCODER_LAYERS:-1](encoded)
        return torch.tanh(torch.atanh(image.clamp(-_BRIGHTEST, _BRIGHTEST)) + found.to(image.dtype))
