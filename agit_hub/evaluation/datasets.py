"""Evaluation images: each one once and whole, with an object mask where there is one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from PIL import Image

from agit_hub.config import MIN_SIZE
from agit_hub.data import shapes
from agit_hub.data.config import DomainConfig
from agit_hub.data.domains.base import locations
from agit_hub.data.images import UNREADABLE, Range, fitted_size, image_extensions
from agit_hub.data.load import LoadedDomain, load_domains
from agit_hub.data.views import EVALUATION_SPLITS
from agit_hub.errors import DatasetError, EvaluationError
from agit_hub.evaluation.image_metrics import Mask

# Training draws shapes with seed 0, so these scenes are unseen.
SHAPES_SEED = 1
SHAPES_VALIDATION_SEED = 2
SHAPES_COUNT = 200
MIN_IMAGES = 4
"""The fewest images of a domain that can be measured: the KID reference splits them in halves of two."""
_HUB_TIMEOUT = 300
# Mask values from here on count as object.
_OBJECT = 128

Item = TypeVar("Item")


def evenly_spaced(items: Sequence[Item], limit: int | None) -> Sequence[Item]:
    """Select at most `limit` items, evenly spaced; None selects all."""
    if limit is None or limit >= len(items):
        return items
    return [items[number * len(items) // limit] for number in range(limit)]


class EvalImage(NamedTuple):
    """One image of a domain."""

    name: str
    image: Image.Image
    """RGB."""
    mask: Mask | None
    """True on the objects, of the image's size."""


class EvalDataset(Protocol):
    """Images of one domain, in a fixed order."""

    label: str
    dataset: str
    """Where the images come from, without paths of this machine."""
    split: str
    size: str
    """How images were resized, for reports."""
    masked: bool
    """Whether every image has a mask."""
    unreadable: Sequence[str]
    """Images that the last iteration skipped because they could not be read."""
    notes: Sequence[str]
    """What is left out, for the screen: with paths of this machine."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[EvalImage]: ...


class ShapesEvalDataset:
    """Built-in `shapes` drawings of `size` pixels a side, with their true masks.

    No training has seen them as long as `seed` differs from the training's.
    """

    dataset = "shapes (built in)"
    split = "unseen"
    masked = True
    unreadable: Sequence[str] = ()
    notes: Sequence[str] = ()

    def __init__(self, label: str, count: int, size: int, seed: int = SHAPES_SEED) -> None:
        self.label = label
        self.size = f"drawn at {size} pixels"
        self._count = count
        self._side = size
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[EvalImage]:
        for number in range(self._count):
            image, mask = shapes.draw(self.label, number, self._side, self._seed)
            yield EvalImage(f"{self.label} {number}", image, mask)


class DomainEvalDataset:
    """A domain's images; images that cannot be read are skipped and listed in `unreadable`.

    The arguments are those of `load_eval_datasets`.

    Raises:
        EvaluationError: If there are fewer than `MIN_IMAGES` images, or an image has no mask.
    """

    def __init__(
        self,
        loaded: LoadedDomain,
        label: str,
        masks: Path | None = None,
        limit: int | None = None,
        side: int | None = None,
    ) -> None:
        config = loaded.config
        folder = Path(config.path).expanduser().resolve().name
        self.label = label
        self.dataset = config.path if config.revision else f"{folder} (a folder)"
        self.split = config.split or config.data_dir or "all"
        self.size = "at their own size" if side is None else f"scaled to {side} pixels"
        self.masked = masks is not None
        self.unreadable: Sequence[str] = ()
        self.notes: Sequence[str] = loaded.notes
        self._side = side
        self._domain = loaded.domain
        self._locations = evenly_spaced(list(locations(loaded.domain)), limit)
        if len(self._locations) < MIN_IMAGES:
            raise EvaluationError(
                f"{len(self._locations)} {label} image(s) are too few to evaluate on: "
                f"{MIN_IMAGES} or more are required."
            )
        self._masks = None if masks is None else self._find_masks(masks)

    def __len__(self) -> int:
        return len(self._locations)

    def __iter__(self) -> Iterator[EvalImage]:
        unreadable: list[str] = []
        self.unreadable = unreadable
        for location in self._locations:
            name = self._name(location)
            try:
                image = self._domain.image(*location)
            except DatasetError:
                raise
            except UNREADABLE as error:
                # Pillow's messages contain the full path, which must not be published.
                unreadable.append(f"{name} ({type(error).__name__})")
                continue
            if self._side is not None:
                size = fitted_size(image, self._side)
                image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
            mask = None if self._masks is None else _read_mask(self._masks[name], image)
            yield EvalImage(name, image, mask)

    def _name(self, location: tuple[int, int]) -> str:
        return Path(self._domain.describe(*location)).name

    def _find_masks(self, folder: Path) -> dict[str, Path]:
        own, endings = folder / self.label, image_extensions()
        found = {
            path.stem: path
            for place in (folder, own)  # masks in the label's subfolder take precedence
            if place.is_dir()
            for path in sorted(place.iterdir())
            if path.suffix.lower() in endings
        }
        names = [self._name(location) for location in self._locations]
        for name in names:
            if Path(name).stem not in found:
                raise EvaluationError(
                    f"{folder} has no mask for {name}: add {Path(name).stem}.png there or to {own}."
                )
        return {name: found[Path(name).stem] for name in names}


def _read_mask(path: Path, image: Image.Image) -> Mask:
    try:
        with Image.open(path) as file:
            grey = file.convert("L")
    except UNREADABLE as error:
        raise EvaluationError(f"The mask {path} cannot be read: {error}") from error
    mismatch = abs(grey.width * image.height - grey.height * image.width)
    if mismatch > max(*grey.size, *image.size):
        raise EvaluationError(
            f"The mask {path} is {grey.width} x {grey.height} pixels and its image {image.width} x "
            f"{image.height}: their aspect ratios differ."
        )
    return np.asarray(grey.resize(image.size, Image.Resampling.NEAREST)) >= _OBJECT


def load_eval_datasets(
    source: DomainConfig,
    target: DomainConfig,
    labels: tuple[str, str],
    size: int,
    masks: Path | None = None,
    limit: int | None = None,
    side: int | None = None,
    shapes_seed: int = SHAPES_SEED,
    splits: Sequence[str] = EVALUATION_SPLITS,
    ranges: tuple[Range | None, Range | None] = (None, None),
) -> tuple[EvalDataset, EvalDataset]:
    """Load the evaluation images of both domains.

    Args:
        source: The source images; `shapes` draws unseen ones.
        target: The target images. Both may name one dataset that holds two domains.
        labels: The model's source and target label.
        size: Side of the `shapes` drawings in pixels.
        masks: A folder of masks named like the images, white on objects; those of one domain may be
            in a subfolder named like its label. `shapes` has its own.
        limit: Maximum number of images of each domain, evenly spaced.
        side: Pixels to which the shorter side is resized first; None keeps the image's own size.
            Drawings are never resized.
        shapes_seed: Seed of the drawings.
        splits: Splits to prefer where none is set, the best first.
        ranges: Black and white of each domain's images of more than 8 bits; None for their type's.

    Raises:
        EvaluationError: If the images or masks cannot be used.
        DataError: If a dataset holds nothing usable, or its layout is ambiguous.
        FetchError: If the network fails for too long.
    """
    if limit is not None and limit < MIN_IMAGES:
        raise EvaluationError(
            f"limit is {limit}: too few to evaluate on, {MIN_IMAGES} or more are required."
        )
    if "shapes" in (source.path, target.path) and source.path != target.path:
        raise EvaluationError(
            "shapes is one domain and a dataset of your own the other: use shapes for both or neither."
        )
    if source.path == "shapes":
        if set(labels) != set(shapes.LABELS):
            raise EvaluationError(
                f"The model translates between {' and '.join(labels)}; shapes has "
                f"{' and '.join(shapes.LABELS)}."
            )
        count = limit or SHAPES_COUNT
        drawn_s, drawn_t = (ShapesEvalDataset(label, count, size, shapes_seed) for label in labels)
        return drawn_s, drawn_t
    if side is not None and side < MIN_SIZE:
        raise EvaluationError(f"side is {side}: too small, {MIN_SIZE} pixels are the minimum.")
    if masks is not None and not masks.is_dir():
        raise EvaluationError(f"The masks folder {masks} does not exist.")
    loaded = load_domains(source, target, None, _HUB_TIMEOUT, splits, ranges)
    images_s, images_t = (
        DomainEvalDataset(domain, label, masks, limit, side)
        for domain, label in zip(loaded, labels, strict=True)
    )
    return images_s, images_t
