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

# Of a generator: three convolutions, each with its norm and ReLU, and two paddings.
ENCODER_LAYERS = 11

# Where tanh still has a slope: white and black of a residual generator's input.
_BRIGHTEST = 0.97


class SamePad(nn.Module):
    """Zero padding that TensorFlow's SAME gives a 3x3 stride-2 convolution: right and bottom only."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad (N, C, H, W) to (N, C, H + 1, W + 1)."""
        return F.pad(x, (0, 1, 0, 1))


class TransposedConv2d(nn.ConvTranspose2d):
    """The adjoint of a padded 3x3 convolution of stride 2 (`SamePad`): of 2n + 1 rows the last drops.

    Args:
        inputs: Channels.
        outputs: Channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, C, H, W) -> (N, C', 2H, 2W)."""
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return self.by_phases(x)
        return super().forward(x)[..., :-1, :-1]

    def by_phases(self, x: Tensor) -> Tensor:
        """The same as one 2x2 convolution for even and odd rows and columns of the output.

        In bf16 a CPU's own transposed convolution takes four times as long.
        """
        inputs, outputs = self.weight.shape[:2]
        taps = F.pad(self.weight, (0, 1, 0, 1)).view(inputs, outputs, 2, 2, 2, 2)
        kernel = taps.flip(2, 4).permute(1, 3, 5, 0, 2, 4).reshape(4 * outputs, inputs, 2, 2)
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        return F.pixel_shuffle(F.conv2d(F.pad(x, (1, 0, 1, 0)), kernel, bias), 2)


class ReflectConv2d(nn.Conv2d):
    """A convolution of a reflected image, deterministic on a GPU too where that is asked for."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not (x.is_cuda and torch.are_deterministic_algorithms_enabled()):
            convolved: Tensor = super()._conv_forward(x, weight, bias)
            return convolved
        return F.conv2d(reflected(x, int(self.padding[0])), weight, bias, self.stride)


def reflected(x: Tensor, edge: int) -> Tensor:
    """Pad (N, C, H, W) on all sides by reflection, with copies.

    On a GPU, PyTorch's own padding adds up its gradient in any order.
    """
    if edge == 0:
        return x
    for dim in (2, 3):
        size = x.shape[dim]
        before = x.narrow(dim, 1, edge).flip(dim)
        after = x.narrow(dim, size - 1 - edge, edge).flip(dim)
        x = torch.cat([before, x, after], dim)
    return x


class DoublingConv2d(nn.Conv2d):
    """A 3x3 convolution of an image doubled by nearest neighbours, without the doubled image.

    A pixel of the doubled image sees two rows and two columns of the image itself, so that its nine
    weights are summed into four: 4/9 of the arithmetic, and half of the time on a CPU.

    Args:
        inputs: Channels.
        outputs: Channels.
        padding_mode: Of the doubled image: "zeros" or "reflect".
    """

    def __init__(
        self, inputs: int, outputs: int, padding_mode: Literal["zeros", "reflect"] = "zeros"
    ) -> None:
        super().__init__(inputs, outputs, 3, padding=1, padding_mode=padding_mode)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        n, _, h, w = x.shape
        # (O, I, 3, 3) -> (O, 2, 2, I, 2, 2): for even and odd rows and columns of the output.
        kernel = _phases(_phases(weight, 2), 3).permute(2, 1, 0, 3, 4, 5).flatten(0, 2)
        biases = None if bias is None else bias.repeat_interleave(4)
        # The doubled image's reflected row is a copy of its outermost one.
        padded = F.pad(x, (1, 1, 1, 1)) if self.padding_mode == "zeros" else _replicated(x)
        phases = F.conv2d(padded, kernel, biases)
        phases = phases.view(n, self.out_channels, 2, 2, h + 1, w + 1)
        rows = [
            torch.stack([phases[:, :, a, b, a : a + h, b : b + w] for b in (0, 1)], dim=-1)
            for a in (0, 1)
        ]
        return torch.stack(rows, dim=3).view(n, self.out_channels, 2 * h, 2 * w)


def _replicated(x: Tensor) -> Tensor:
    """Repeat the outermost row and column, by copies: torch.compile trips over PyTorch's own padding."""
    for dim in (2, 3):
        first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
        x = torch.cat([first, x, last], dim)
    return x


def _phases(weight: Tensor, dim: int) -> Tensor:
    """Weights of a doubled image's even and odd places as those of the image, stacked in front."""
    dim += weight.ndim - 4
    first, second, third = weight.unbind(dim)
    even, odd = (first, second + third), (first + second, third)
    return torch.stack([torch.stack(even, dim), torch.stack(odd, dim)])


def _convolution(inputs: int, outputs: int, padding_mode: Literal["zeros", "reflect"]) -> nn.Conv2d:
    kind = ReflectConv2d if padding_mode == "reflect" else nn.Conv2d
    return kind(inputs, outputs, 3, padding=1, padding_mode=padding_mode)


def _norm(channels: int) -> nn.Module:
    return nn.InstanceNorm2d(channels, affine=True)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm; ReLU after the addition, as the authors have it."""

    def __init__(self, channels: int, padding_mode: Literal["zeros", "reflect"]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(channels, channels, padding_mode),
            _norm(channels),
            nn.ReLU(),
            _convolution(channels, channels, padding_mode),
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
            *(ReflectConv2d(3, c, 7, 2, padding=3, padding_mode="reflect"), _norm(c), nn.ReLU()),
            *(SamePad(), nn.Conv2d(c, 2 * c, 3, stride=2), _norm(2 * c), nn.ReLU()),
            ResidualBlock(2 * c, "reflect"),
        )
        self.decoder = nn.Sequential(
            *(
                *_doubled(2 * c, 2 * c, first),
                _norm(2 * c),
                nn.ReLU(),
            ),
            *(*_doubled(2 * c, c, second), _norm(c), nn.ReLU()),
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
        # Weights are saved by the numbers of layers, of which doubling was one.
        return nn.Identity(), DoublingConv2d(inputs, outputs)
    return TransposedConv2d(inputs, outputs), nn.Identity()


def _doubled(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    if kernel == 1:
        return nn.Upsample(scale_factor=2), _reflected(inputs, outputs, kernel)
    assert kernel == 3
    return nn.Identity(), DoublingConv2d(inputs, outputs, "reflect")


def _reflected(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    return ReflectConv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode="reflect")
