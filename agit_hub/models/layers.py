"""Layers that the networks share, and their initialization.

Values are those of the authors' code (see the README's table of deviations).
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.config import Upsampling

PaddingMode = Literal["zeros", "reflect"]


class SamePad(nn.Module):
    """Zero padding of TensorFlow's SAME for a 3x3 stride-2 convolution: right and bottom only."""

    def forward(self, x: Tensor) -> Tensor:
        """Pad (N, C, H, W) to (N, C, H + 1, W + 1)."""
        return F.pad(x, (0, 1, 0, 1))


class TransposedConv2d(nn.ConvTranspose2d):
    """3x3 stride-2 transposed convolution, the adjoint of `SamePad` and a convolution.

    The last of 2H + 1 rows and of 2W + 1 columns is dropped.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, stride=2)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Upsample (N, C, H, W) to (N, C', 2H, 2W)."""
        # PyTorch's transposed convolution in bf16 takes four times as long on a CPU.
        if x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            return self.forward_by_phases(x)
        return super().forward(x)[..., :-1, :-1]

    def forward_by_phases(self, x: Tensor) -> Tensor:
        """Compute the same as one 2x2 convolution, a phase for each output row and column parity."""
        inputs, outputs = self.weight.shape[:2]
        taps = F.pad(self.weight, (0, 1, 0, 1)).view(inputs, outputs, 2, 2, 2, 2)
        kernel = taps.flip(2, 4).permute(1, 3, 5, 0, 2, 4).reshape(4 * outputs, inputs, 2, 2)
        bias = None if self.bias is None else self.bias.repeat_interleave(4)
        return F.pixel_shuffle(F.conv2d(F.pad(x, (1, 0, 1, 0)), kernel, bias), 2)


class ReflectConv2d(nn.Conv2d):
    """Reflection-padded convolution with a deterministic backward pass on a GPU when requested."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
    ) -> None:
        padding = kernel_size // 2
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, padding_mode="reflect"
        )

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if not (x.is_cuda and torch.are_deterministic_algorithms_enabled()):
            convolved: Tensor = super()._conv_forward(x, weight, bias)
            return convolved
        return F.conv2d(reflection_pad(x, int(self.padding[0])), weight, bias, self.stride)


class UpsampleConv2d(nn.Conv2d):
    """3x3 convolution of an image upsampled 2x by nearest neighbours, without building that image.

    A pixel of the upsampled image sees two rows and two columns of the image itself, so its nine weights
    are summed into four: 4/9 of the arithmetic, and half of the time on a CPU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        padding_mode: Padding of the upsampled image: "zeros" or "reflect".
    """

    def __init__(
        self, in_channels: int, out_channels: int, padding_mode: PaddingMode = "zeros"
    ) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1, padding_mode=padding_mode)

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        n, _, h, w = x.shape
        # (O, I, 3, 3) -> (O, 2, 2, I, 2, 2): for even and odd rows and columns of the output.
        kernel = _phases(_phases(weight, 2), 3).permute(2, 1, 0, 3, 4, 5).flatten(0, 2)
        biases = None if bias is None else bias.repeat_interleave(4)
        # The upsampled image's reflected row is a copy of its outermost one.
        padded = F.pad(x, (1, 1, 1, 1)) if self.padding_mode == "zeros" else _replication_pad(x)
        phases = F.conv2d(padded, kernel, biases)
        phases = phases.view(n, self.out_channels, 2, 2, h + 1, w + 1)
        rows = [
            torch.stack([phases[:, :, a, b, a : a + h, b : b + w] for b in (0, 1)], dim=-1)
            for a in (0, 1)
        ]
        return torch.stack(rows, dim=3).view(n, self.out_channels, 2 * h, 2 * w)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with instance norm; ReLU after the addition, as in the authors' code."""

    def __init__(self, channels: int, padding_mode: PaddingMode) -> None:
        super().__init__()
        conv = ReflectConv2d if padding_mode == "reflect" else partial(nn.Conv2d, padding=1)
        self.body = nn.Sequential(
            *(conv(channels, channels, 3), instance_norm(channels), nn.ReLU()),
            *(conv(channels, channels, 3), instance_norm(channels)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return F.relu(x + self.body(x))


def instance_norm(channels: int) -> nn.Module:
    """Return an instance norm with a learned scale and shift."""
    return nn.InstanceNorm2d(channels, affine=True)


def generator_upsample(
    in_channels: int, out_channels: int, upsampling: Upsampling
) -> tuple[nn.Module, nn.Module]:
    """Return the two layers with which a generator doubles height and width."""
    if upsampling == "nearest":
        # Weights are saved by layer index, and upsampling was a layer of its own.
        return nn.Identity(), UpsampleConv2d(in_channels, out_channels)
    return TransposedConv2d(in_channels, out_channels), nn.Identity()


def attention_upsample(
    in_channels: int, out_channels: int, kernel_size: int
) -> tuple[nn.Module, nn.Module]:
    """Return the two layers with which an attention network doubles height and width."""
    if kernel_size == 1:
        return nn.Upsample(scale_factor=2), ReflectConv2d(in_channels, out_channels, kernel_size)
    assert kernel_size == 3
    return nn.Identity(), UpsampleConv2d(in_channels, out_channels, "reflect")


def box_blur(logits: Tensor, window: int) -> Tensor:
    """Average (N, 1, H, W) over an odd window around each pixel; a window of 1 is the identity."""
    if window == 1:
        return logits
    # Zero padding would pull the border's attention towards a half.
    edge = window // 2
    padded = F.pad(logits, (edge, edge, edge, edge), mode="replicate")
    return F.avg_pool2d(padded, window, stride=1)


def gaussian_blur(image: Tensor, sigma: float) -> Tensor:
    """Blur (N, C, H, W) by a Gaussian cut at 2.5 standard deviations, in its own dtype.

    Args:
        image: Sides longer than 2.5 sigma; it is reflected at its borders.
        sigma: Standard deviation in pixels.
    """
    edge = int(2.5 * sigma)
    # Computed on the device: a copy to a GPU would wait for it.
    places = torch.arange(-edge, edge + 1, device=image.device, dtype=torch.float32)
    weights = torch.exp(-((places / sigma) ** 2) / 2)
    kernel = (weights / weights.sum()).to(image.dtype)
    channels = image.shape[1]
    if image.is_cuda and torch.are_deterministic_algorithms_enabled():
        padded = reflection_pad(image, edge)
    else:
        padded = F.pad(image, (edge,) * 4, mode="reflect")
    # bfloat16 has only 8 bits for a colour.
    with torch.autocast(image.device.type, enabled=False):
        rows = F.conv2d(padded, kernel.expand(channels, 1, 1, -1), groups=channels)
        return F.conv2d(rows, kernel[:, None].expand(channels, 1, -1, 1), groups=channels)


def reflection_pad(x: Tensor, edge: int) -> Tensor:
    """Pad (N, C, H, W) on all sides by reflection, with copies.

    On a GPU, the gradient of PyTorch's own padding is accumulated in nondeterministic order.
    """
    if edge == 0:
        return x
    for dim in (2, 3):
        size = x.shape[dim]
        before = x.narrow(dim, 1, edge).flip(dim)
        after = x.narrow(dim, size - 1 - edge, edge).flip(dim)
        x = torch.cat([before, x, after], dim)
    return x


def initialize_weights(network: nn.Module) -> None:
    """Draw weights as the authors do: normal of std 0.02 truncated at two sigma, biases 0.

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


def _replication_pad(x: Tensor) -> Tensor:
    """Repeat the outermost rows and columns by copies: torch.compile fails on PyTorch's own padding."""
    for dim in (2, 3):
        first, last = x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
        x = torch.cat([first, x, last], dim)
    return x


def _phases(weight: Tensor, dim: int) -> Tensor:
    """Sum a kernel along `dim` into those for even and odd upsampled positions, stacked in front."""
    dim += weight.ndim - 4
    first, second, third = weight.unbind(dim)
    even, odd = (first, second + third), (first + second, third)
    return torch.stack([torch.stack(even, dim), torch.stack(odd, dim)])
