"""The picture of a run: input, attention, translation and cycle, both ways, side by side."""

import torch
from PIL import Image
from torch import Tensor

from agit_hub.inference.image_processor import to_map, to_pil
from agit_hub.models.agit import AGITModel
from agit_hub.visualization import heat_map, labelled_grid


@torch.inference_mode()
def sample_grid(model: AGITModel, source: Tensor, target: Tensor) -> Image.Image:
    """Translate a few pictures there and back.

    Args:
        model: The networks to show.
        source: (N, 3, H, W) in [-1, 1], on the model's device.
        target: Likewise.

    Returns:
        One row per pair of pictures: four columns for a source, four for a target picture.
    """
    model.eval()
    source_label, target_label = model.config.labels
    there, back = model.source_to_target, model.target_to_source
    s_prime, t_prime = there(source), back(target)
    s_cycle, t_cycle = back(s_prime.image), there(t_prime.image)
    rows = [
        [
            *(to_pil(source[n]), heat_map(to_map(s_prime.attention[n]))),
            *(to_pil(s_prime.image[n]), to_pil(s_cycle.image[n])),
            *(to_pil(target[n]), heat_map(to_map(t_prime.attention[n]))),
            *(to_pil(t_prime.image[n]), to_pil(t_cycle.image[n])),
        ]
        for n in range(len(source))
    ]
    columns = [
        *(source_label, "attention", f"to {target_label}", "and back"),
        "",
        *(target_label, "attention", f"to {source_label}", "and back"),
    ]
    size = source.shape[-1]
    return labelled_grid(columns, rows, tile=size * max(1, round(128 / size)))
