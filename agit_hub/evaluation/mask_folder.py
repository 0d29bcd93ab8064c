"""Masks in a folder, found by the paths of their images."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from agit_hub.data.images import UNREADABLE, image_extensions
from agit_hub.errors import EvaluationError
from agit_hub.evaluation.image_metrics import Mask

# Up to here the values of a mask are numbers of classes, and not a scale from black to white.
_MAX_CLASS = 63


class MaskFolder:
    """The masks of a domain's images.

    A mask has its image's name, with any ending. Where several masks have one name, or several images, it
    also has the image's folders, as many as it takes (`a/1.png` for `photos/a/1.jpg`). Masks in the
    subfolder named like the label take precedence.

    Args:
        folder: Searched with its subfolders.
        label: The domain's.
        images: Paths of the images.

    Raises:
        EvaluationError: If an image has no mask, or several that fit equally well.
    """

    def __init__(self, folder: Path, label: str, images: Sequence[Path]) -> None:
        self._folder = folder
        own = _by_name(folder / label)
        others = _by_name(folder, without=folder / label)
        self._masks: dict[Path, Path] = {}
        for image in images:
            found = self._best(own.get(image.stem, []), image)
            found = found or self._best(others.get(image.stem, []), image)
            if not found:
                name = f"{image.stem}.png"
                raise EvaluationError(
                    f"{folder} has no mask for {image.name}: add {name} there or to {folder / label}."
                )
            self._masks[image] = self._only(found, image)
        self._check_shared()

    def _best(self, masks: Sequence[Path], image: Path) -> list[Path]:
        """Return the masks that share most of the image's folders, and have the fewest others."""

        def fit(mask: Path) -> tuple[int, int]:
            folders = mask.relative_to(self._folder).parent.parts
            shared = _shared_at_end(folders, image.parent.parts)
            return shared, shared - len(folders)

        best = max(map(fit, masks), default=None)
        return [mask for mask in masks if fit(mask) == best]

    def _only(self, found: Sequence[Path], image: Path) -> Path:
        if len(found) > 1:
            listed = " and ".join(str(path.relative_to(self._folder)) for path in found[:2])
            raise EvaluationError(
                f"{self._folder} has {len(found)} masks for {image.name}, {listed} among them: give "
                f"one the folders of its image, {image.parent.name}/{image.stem}.png."
            )
        return found[0]

    def _check_shared(self) -> None:
        seen: dict[Path, Path] = {}
        for image, mask in self._masks.items():
            if mask in seen:
                name = mask.relative_to(self._folder)
                raise EvaluationError(
                    f"{name} would be the mask of both {seen[mask]} and {image}: give masks the "
                    f"folders of their images, {image.parent.name}/{image.stem}.png."
                )
            seen[mask] = image

    def __str__(self) -> str:
        """Name the masks by what they hold, so that reports tell one set from another."""
        digest = hashlib.sha256()
        for path in self._masks.values():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
        return f"masks {self._folder.resolve().name}, {digest.hexdigest()[:12]}"

    def read(self, image_path: Path, image: Image.Image) -> Mask:
        """Read the mask of an image, (H, W) of the image's size, True on objects.

        Raises:
            EvaluationError: If it cannot be read, or has another aspect ratio.
        """
        path = self._masks[image_path]
        try:
            with Image.open(path) as file:
                objects = _objects(file)
        except UNREADABLE as error:
            raise EvaluationError(f"The mask {path} cannot be read: {error}") from error
        height, width = objects.shape
        if abs(width * image.height - height * image.width) > max(width, height, *image.size):
            raise EvaluationError(
                f"The mask {path} is {width} x {height} pixels and its image {image.width} x "
                f"{image.height}: their aspect ratios differ."
            )
        resized = Image.fromarray(objects).resize(image.size, Image.Resampling.NEAREST)
        mask: Mask = np.asarray(resized)
        return mask


def _by_name(folder: Path, without: Path | None = None) -> dict[str, list[Path]]:
    """Return the images below a folder by their stem."""
    endings = image_extensions()
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        inside = without is not None and path.is_relative_to(without)
        if path.suffix.lower() in endings and path.is_file() and not inside:
            found.setdefault(path.stem, []).append(path)
    return found


def _shared_at_end(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _objects(file: Image.Image) -> Mask:
    """Return where a mask shows an object: any class but 0, or the brighter half of its type's range."""
    if file.mode == "P":
        classes: Mask = np.asarray(file) != 0
        return classes
    if file.mode == "1":
        bits: Mask = np.asarray(file)
        return bits
    values: npt.NDArray[Any] = np.asarray(file if file.mode[0] in "IF" else file.convert("L"))
    peak = float(values.max())
    # A black JPEG holds values near 0 too.
    if file.mode != "F" and file.format != "JPEG" and 0 < peak <= _MAX_CLASS:
        objects: Mask = np.not_equal(values, 0)
        return objects
    full = next((most for most in (1, 255) if peak <= most), 65535)
    bright: Mask = np.greater(values, full / 2)
    return bright
