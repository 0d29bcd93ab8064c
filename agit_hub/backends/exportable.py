"""One direction of a model as a network of its own, which is what an exported file holds."""

from typing import Any

import torch
from torch import Tensor, nn

from agit_hub.backends.split_wide_convs import split_wide_convs
from agit_hub.config import SIZE_MULTIPLE, AGITConfig
from agit_hub.models.agit import AGITModel

INPUT = "picture"
OUTPUTS = ("image", "attention", "generated")


class Direction(nn.Module):
    """Pictures in; translations by Eq. 1, attention and the generator's pictures out.

    Args:
        model: Both directions.
        to: The label that this one leads to.
    """

    def __init__(self, model: AGITModel, to: str) -> None:
        super().__init__()
        self.model, self.to_label = model, to

    def forward(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) in [-1, 1] -> (N, 3, H, W), (N, 1, H, W) and (N, 3, H, W)."""
        image, attention, generated = self.model(picture, self.to_label)
        return image, attention, generated

    def exported(self) -> torch.export.ExportedProgram:
        """The traced network, for any number of pictures of any size that the networks take."""
        batch = torch.export.Dim("batch")
        height, width = (SIZE_MULTIPLE * torch.export.Dim(f"quarter_{n}", min=4) for n in "hw")
        # Of three unlike sizes, none of them 1: what is alike in the example is taken to be so always.
        example = torch.zeros(2, 3, 24, 32)
        shapes: Any = ({0: batch, 2: height, 3: width},)
        lean = split_wide_convs(self).eval()
        with torch.no_grad():
            return torch.export.export(lean, (example,), dynamic_shapes=shapes, strict=False)


def stem(config: AGITConfig, to: str) -> str:
    """The file name of one direction, without its ending; labels may not do as file names."""
    return "source_to_target" if to == config.target_label else "target_to_source"


def facts(config: AGITConfig, to: str) -> dict[str, str]:
    """What someone with the file alone has to know, as text."""
    source, target = config.labels
    return {
        "from": source if to == target else target,
        "to": to,
        "attention_threshold": f"{config.attention_threshold:g}",
        "image_size": str(config.image_size),
        "size_multiple": str(SIZE_MULTIPLE),
        "picture": "RGB, (batch, 3, height, width), -1 to 1",
        "image": "the translation, as picture: attention * generated + (1 - attention) * picture",
        "attention": "(batch, 1, height, width), 0 to 1; below attention_threshold it is background",
        "generated": "what the generator draws, as picture",
        "format_version": str(config.format_version),
    }
