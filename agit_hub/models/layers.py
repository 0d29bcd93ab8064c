"""Layers that the networks share, and how their weights are drawn.

Values are those of the authors' code (see the README's table of deviations).
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.config import Upsampling


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


def norm(channels: int) -> nn.Module:
    """Instance norm with a learned scale and shift."""
    return nn.InstanceNorm2d(channels, affine=True)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm; ReLU after the addition, as the authors have it."""

    def __init__(self, channels: int, padding_mode: Literal["zeros", "reflect"]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _convolution(channels, channels, padding_mode),
            norm(channels),
            nn.ReLU(),
            _convolution(channels, channels, padding_mode),
            norm(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        return F.relu(x + self.body(x))


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


def doubling(inputs: int, outputs: int, upsampling: Upsampling) -> tuple[nn.Module, nn.Module]:
    """The two layers with which a generator doubles height and width."""
    if upsampling == "nearest":
        # Weights are saved by the numbers of layers, of which doubling was one.
        return nn.Identity(), DoublingConv2d(inputs, outputs)
    return TransposedConv2d(inputs, outputs), nn.Identity()


def doubled(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    """The two layers with which an attention network doubles height and width."""
    if kernel == 1:
        return nn.Upsample(scale_factor=2), reflect_conv(inputs, outputs, kernel)
    assert kernel == 3
    return nn.Identity(), DoublingConv2d(inputs, outputs, "reflect")


def reflect_conv(inputs: int, outputs: int, kernel: int) -> nn.Conv2d:
    """A convolution with reflection padding that keeps height and width."""
    return ReflectConv2d(inputs, outputs, kernel, padding=kernel // 2, padding_mode="reflect")
