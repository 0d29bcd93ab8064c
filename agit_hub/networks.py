"""The three networks of the method: generator, attention network, patch discriminator.

Figures are those of the authors' code (see the README's table of deviations). Every network is fully
convolutional; height and width must be multiples of 4.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.config import AttentionDecoder, Upsampling

# Kernel sizes of the attention decoder's three convolutions. "official" is what the authors' code
# runs: its kernel arguments bind to height and width of one axis only, and come out 1x1.
DECODER_KERNELS: dict[AttentionDecoder, tuple[int, int, int]] = {
    "paper": (3, 3, 7),
    "official": (1, 1, 1),
}


# Where tanh still has a slope: white and black of a residual generator's input.
_BRIGHTEST = 0.97


class SamePad(nn.Module):
    """Zero padding that TensorFlow's SAME gives a 3x3 stride-2 convolution: right and bottom only."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad (N, C, H, W) to (N, C, H + 1, W + 1)."""
        return F.pad(x, (0, 1, 0, 1))


class SameCrop(nn.Module):
    """The adjoint of `SamePad`, behind a transposed 3x3 stride-2 convolution: 2n + 1 -> 2n."""

    def forward(self, x: Tensor) -> Tensor:
        """Drop the last row and column."""
        return x[..., :-1, :-1]


def _norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm; ReLU after the addition, as the authors have it."""

    def __init__(self, channels: int, padding_mode: Literal["zeros", "reflect"]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode=padding_mode),
            _norm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, padding_mode=padding_mode),
            _norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return F.relu(x + self.body(x))


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
            *(nn.Conv2d(3, c, 7, padding=3), _norm(c), nn.ReLU()),
            *(SamePad(), nn.Conv2d(c, 2 * c, 3, stride=2), _norm(2 * c), nn.ReLU()),
            *(SamePad(), nn.Conv2d(2 * c, 4 * c, 3, stride=2), _norm(4 * c), nn.ReLU()),
            *(ResidualBlock(4 * c, "zeros") for _ in range(blocks)),
            *(*_doubling(4 * c, 2 * c, upsampling), _norm(2 * c), nn.ReLU()),
            *(*_doubling(2 * c, c, upsampling), _norm(c), nn.ReLU()),
            nn.Conv2d(c, 3, 7, padding=3),
            nn.Tanh(),
        )
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Translate pictures: (N, 3, H, W) in [-1, 1] -> the same shape and range."""
        if not self.residual:
            return self.layers(image)  # type: ignore[no-any-return]
        # All layers but tanh, on top of the picture as it is before a tanh.
        found: Tensor = self.layers[:-1](image)
        return torch.tanh(torch.atanh(image.clamp(-_BRIGHTEST, _BRIGHTEST)) + found.to(image.dtype))


class AttentionNetwork(nn.Module):
    """A_S or A_T: says where the object is.

    Args:
        channels: Width of the first layer.
        decoder: Kernel sizes of the decoder: "paper" (3x3, 3x3, 7x7, reflection padded) or
            "official" (1x1, the code as run: maps constant in 4x4 blocks of pixels).
        smoothing: Side of the window, odd, over which the head's output is averaged; 1 is none.
    """

    def __init__(
        self, channels: int = 32, decoder: AttentionDecoder = "paper", smoothing: int = 1
    ) -> None:
        super().__init__()
        c = channels
        first, second, last = DECODER_KERNELS[decoder]
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, c, 7, 2, padding=3, padding_mode="reflect"), _norm(c), nn.ReLU()),
            *(SamePad(), nn.Conv2d(c, 2 * c, 3, stride=2), _norm(2 * c), nn.ReLU()),
            ResidualBlock(2 * c, "reflect"),
        )
        self.decoder = nn.Sequential(
            *(
                nn.Upsample(scale_factor=2),
                _reflected(2 * c, 2 * c, first),
                _norm(2 * c),
                nn.ReLU(),
            ),
            *(nn.Upsample(scale_factor=2), _reflected(2 * c, c, second), _norm(c), nn.ReLU()),
        )
        self.head = _reflected(c, 1, last)
        self.smoothing = smoothing
        initialise(self)

    def forward(self, image: Tensor) -> Tensor:
        """Attend: (N, 3, H, W) in [-1, 1] -> (N, 1, H, W) in [0, 1]."""
        logits: Tensor = self.head(self.decoder(self.encoder(image)))
        return torch.sigmoid(smoothed(logits, self.smoothing))


class FullAttention(nn.Module):
    """Attention that is 1 everywhere and holds no weights: it turns the method into CycleGAN."""

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, H, W) -> ones of (N, 1, H, W)."""
        return image.new_ones((image.shape[0], 1, *image.shape[2:]))


class PatchDiscriminator(nn.Module):
    """D_S or D_T: scores overlapping patches, near 1 for real and 0 for translated.

    Args:
        channels: Width of the first layer; each further one has twice as many.
        layers: Stride-2 layers, before one of stride 1 and the head. Three judge patches of 70 pixels
            a side, two patches of 34.
    """

    def __init__(self, channels: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [channels * 2**layer for layer in range(layers + 1)]
        inputs = [3, *widths[:-1]]
        strides = [2] * layers + [1]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(i, o, 4, stride, padding=2)
            for i, o, stride in zip(inputs, widths, strides, strict=True)
        )
        self.norms = nn.ModuleList(_norm(width) for width in widths)
        self.head = nn.Conv2d(widths[-1], 1, 4, padding=2)
        initialise(self)

    def forward(self, image: Tensor, normalise: bool = True) -> Tensor:
        """Score patches: (N, 3, H, W) in [-1, 1] -> (N, 1, h, w), unbounded.

        Args:
            image: Whole pictures, or their foregrounds.
            normalise: False bypasses every instance norm: the zeros of a masked picture would spoil
                its statistics (the authors' code does so after the switch).
        """
        x = image
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = convolution(x)
            x = F.leaky_relu(norm(x) if normalise else x, 0.2)
        return self.head(x)  # type: ignore[no-any-return]


def smoothed(logits: Tensor, window: int) -> Tensor:
    """Average (N, 1, H, W) over a window of an odd side around each pixel; 1 leaves it as it is."""
    if window == 1:
        return logits
    # The border counts on as it is: with zeros around it, it would be pulled towards a half.
    edge = window // 2
    padded = F.pad(logits, (edge, edge, edge, edge), mode="replicate")
    return F.avg_pool2d(padded, window, stride=1)


def initialise(network: nn.Module) -> None:
    """Draw weights as the authors do: normal of std 0.02 cut at two sigma, biases 0.

    Instance norm's scale is drawn around 1 the same way. `trunc_normal_` takes absolute bounds.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.trunc_normal_(module.weight, std=0.02, a=-0.04, b=0.04)
        elif isinstance(module, nn.InstanceNorm2d):
            nn.init.trunc_normal_(module.weight, mean=1.0, std=0.02, a=0.96, b=1.04)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _doubling(inputs: int, outputs: int, upsampling: Upsampling) -> tuple[nn.Module, nn.Module]:
    if upsampling == "nearest":
        return nn.Upsample(scale_factor=2), nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.ConvTranspose2d(inputs, outputs, 3, stride=2), SameCrop()


def _reflected(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode="reflect")
