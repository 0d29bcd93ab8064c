"""Split wide convolutions to few channels in two: processors compute 16 at once, heads have 1 or 3."""

import copy
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

_MAX_CHANNELS = 3


def split_wide_convs(network: Network) -> Network:
    """Return a copy of a network that is equal up to rounding and faster on most processors.

    A k x k convolution to few channels becomes one of 1 x k to k times as many, one per kernel row, and
    one of k x 1 that adds them up.
    """
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            if (
                isinstance(layer, nn.Conv2d)
                and layer.kernel_size[0] > 3
                and layer.out_channels <= _MAX_CHANNELS
                and layer.stride == (1, 1)
            ):
                setattr(parent, name, _split(layer))
    return network


def _split(layer: nn.Conv2d) -> nn.Sequential:
    channels, (height, width) = layer.out_channels, layer.kernel_size
    assert isinstance(layer.padding, tuple)
    vertical, horizontal = layer.padding
    mode = layer.padding_mode
    rows = nn.Conv2d(
        *(layer.in_channels, channels * height, (1, width)),
        padding=(0, horizontal),
        padding_mode=mode,
        bias=False,
    )
    total = nn.Conv2d(
        channels * height, channels, (height, 1), padding=(vertical, 0), padding_mode=mode
    )
    with torch.no_grad():
        # (channels, in, height, width) -> (channels * height, in, 1, width)
        rows.weight.copy_(layer.weight.transpose(1, 2).reshape(rows.weight.shape))
        total.weight.zero_()
        for channel in range(channels):
            for row in range(height):
                total.weight[channel, channel * height + row, row] = 1
        assert layer.bias is not None and total.bias is not None
        total.bias.copy_(layer.bias)
    return nn.Sequential(rows, total)
