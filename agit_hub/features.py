"""What a classifier of photographs sees: frozen features for discriminators and attention to judge by."""

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

# Channels that leave those of EfficientNet-Lite1's blocks that are asked for.
WIDTHS = {3: 24, 4: 40, 6: 40, 7: 80, 14: 112}
_BLOCKS = 15


class PhotographFeatures(nn.Module):
    """The first fifteen blocks of EfficientNet-Lite1 (Google, 2020), frozen.

    What it holds are buffers: they are saved, and never trained. It begins with weights drawn at random;
    see `agit_hub.training.imagenet`. Of the deeper blocks, which see whole pictures, nothing is needed.
    """

    def __init__(self) -> None:
        # Imported where it is needed, for few models need what it imports.
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__()
        network: Any = EfficientNet.from_name("efficientnet-lite1")
        self.stem, self.norm, self.activation = network._conv_stem, network._bn0, network._swish
        self.blocks = network._blocks[:_BLOCKS]
        for module in list(self.modules()):
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach())
            if isinstance(module, nn.BatchNorm2d):
                # It counts no batches; else loading would ask for their number.
                module.num_batches_tracked, module.track_running_stats = None, False
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode: batch norms go by what they have learnt."""
        return super().train(False)

    def forward(self, image: Tensor, wanted: Sequence[int]) -> list[Tensor]:
        """(N, 3, H, W) in [-1, 1] -> what leaves the wanted blocks, at strides 4, 8, 8, 16 and 16.

        At every place it has a mean square of 1 over the channels: blocks differ widely in scale.
        """
        # Channels innermost: on a CPU, there and back in bf16, three quarters of the time.
        image = image.contiguous(memory_format=torch.channels_last)
        x = self.activation(self.norm(self.stem(image)))
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in wanted:
                found.append(_unit(x))
        return found


def _unit(features: Tensor) -> Tensor:
    features = features.float() if features.dtype != torch.float64 else features
    return features * (features.square().mean(dim=1, keepdim=True) + 1e-2).rsqrt()
