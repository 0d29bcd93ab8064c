"""One direction of a model as a module of its own, which is what an exported file holds."""

from typing import Any

import torch
from torch import Tensor, nn

from agit_hub import __version__
from agit_hub.backends.split_wide_convs import split_wide_convs
from agit_hub.config import SIZE_MULTIPLE, AGITConfig
from agit_hub.models.agit import AGITModel

# Tensor names of exported files.
INPUT = "input"
OUTPUTS = ("image", "attention", "generated")


class ExportableDirection(nn.Module):
    """Computes translations by Eq. 1, attention and generated images.

    Args:
        model: Both directions.
        to: The label that this direction translates to.
    """

    def __init__(self, model: AGITModel, to: str) -> None:
        super().__init__()
        self.model, self.to_label = model, to

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map (N, 3, H, W) in [-1, 1] to (N, 3, H, W), (N, 1, H, W) and (N, 3, H, W)."""
        image, attention, generated = self.model(images, self.to_label)
        return image, attention, generated

    def export_program(self) -> torch.export.ExportedProgram:
        """Trace the module for any number of images of any size that the networks accept."""
        batch = torch.export.Dim("batch")
        height, width = (SIZE_MULTIPLE * torch.export.Dim(f"quarter_{n}", min=4) for n in "hw")
        # Three different sizes, none of them 1: equal ones would be assumed equal in general.
        example = torch.zeros(2, 3, 24, 32)
        shapes: Any = ({0: batch, 2: height, 3: width},)
        module = split_wide_convs(self).eval()
        with torch.no_grad():
            return torch.export.export(module, (example,), dynamic_shapes=shapes, strict=False)

    def metadata(self) -> dict[str, str]:
        """Return what a user of the file alone has to know, as text."""
        config, to = self.model.config, self.to_label
        source, target = config.labels
        return {
            "from": source if to == target else target,
            "to": to,
            "attention_threshold": f"{config.attention_threshold:g}",
            "image_size": str(config.image_size),
            "size_multiple": str(SIZE_MULTIPLE),
            "input": "RGB, (batch, 3, height, width), -1 to 1",
            "image": "the translation, as input: attention * generated + (1 - attention) * input",
            "attention": "(batch, 1, height, width), 0 to 1; background below attention_threshold",
            "generated": "the generator's output, as input",
            "format_version": str(config.format_version),
            "agit_hub": __version__,
        }


def file_stem(config: AGITConfig, to: str) -> str:
    """Return the file name of one direction without a suffix; labels may not be valid file names."""
    return "source_to_target" if to == config.target_label else "target_to_source"
