"""The masks of an evaluation's images in a folder."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from agit_hub.data.masks import fits, match_masks, read_mask
from agit_hub.errors import EvaluationError
from agit_hub.evaluation.image_metrics import Mask


class MaskFolder:
    """The masks of a domain's images, found by their names: see `match_masks`.

    Args:
        folder: Searched with its subfolders.
        label: The domain's. Masks in the subfolder of this name take precedence.
        images: Paths of the images.

    Raises:
        EvaluationError: If an image has no mask.
        MaskError: If an image has several masks that fit equally well, or two images have one.
    """

    def __init__(self, folder: Path, label: str, images: Sequence[Path]) -> None:
        self._folder = folder
        self._masks, missing = match_masks(folder, images, label, strict=False)
        if missing:
            first = missing[0]
            raise EvaluationError(
                f"{folder} has no mask for {first.name}: add {first.stem}.png there or to "
                f"{folder / label}."
            )

    def __str__(self) -> str:
        """Name the masks by what they hold, so that reports tell one set from another."""
        digest = hashlib.sha256()
        for path in self._masks.values():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return f"masks {self._folder.resolve().name}, {digest.hexdigest()[:12]}"

    def read(self, image_path: Path, image: Image.Image) -> Mask:
        """Read the mask of an image, (H, W) of the image's size, True on objects.

        Raises:
            EvaluationError: If it has another aspect ratio.
            MaskError: If it cannot be read.
        """
        path = self._masks[image_path]
        objects = read_mask(path) > 0.5
        height, width = objects.shape
        if not fits((width, height), image.size):
            raise EvaluationError(
                f"The mask {path} is {width} x {height} pixels and its image {image.width} x "
                f"{image.height}: their aspect ratios differ."
            )
        resized = Image.fromarray(objects).resize(image.size, Image.Resampling.NEAREST)
        mask: Mask = np.asarray(resized)
        return mask
