"""Evaluation images: each one once and whole, with an object mask where there is one."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from PIL import Image

from agit_hub.config import MIN_SIZE
from agit_hub.data import shapes
from agit_hub.data.config import DomainConfig
from agit_hub.data.domains.base import locations
from agit_hub.data.images import UNREADABLE, Range, fitted_size
from agit_hub.data.load import LoadedDomain, load_domains
from agit_hub.data.views import EVALUATION_SPLITS
from agit_hub.errors import DatasetError, EvaluationError
from agit_hub.evaluation.image_metrics import Mask
from agit_hub.evaluation.mask_folder import MaskFolder

# Training draws shapes with seed 0, so these scenes are unseen.
SHAPES_SEED = 1
SHAPES_VALIDATION_SEED = 2
SHAPES_COUNT = 200
MIN_IMAGES = 4
"""The fewest images of a domain that can be measured: the KID reference splits them in halves of two."""
_HUB_TIMEOUT = 300
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
    masks: str | None
    """Which masks the images have, for protocols; None if they have none."""
    empty_masks: int
    """Number of images of the last iteration whose mask shows no object."""
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
    masks: str | None = "the drawings' own masks"
    empty_masks = 0
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
        self.unreadable: Sequence[str] = ()
        self.empty_masks = 0
        self.notes: Sequence[str] = loaded.notes
        self._side = side
        self._domain = loaded.domain
        self._locations = evenly_spaced(list(locations(loaded.domain)), limit)
        if len(self._locations) < MIN_IMAGES:
            raise EvaluationError(
                f"{len(self._locations)} {label} image(s) are too few to evaluate on: "
                f"{MIN_IMAGES} or more are required."
            )
        self._masks = None
        if masks is not None:
            self._masks = MaskFolder(masks, label, [self._path(place) for place in self._locations])
        self.masks = None if self._masks is None else str(self._masks)

    def __len__(self) -> int:
        return len(self._locations)

    def __iter__(self) -> Iterator[EvalImage]:
        unreadable: list[str] = []
        self.unreadable = unreadable
        self.empty_masks = 0
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
            mask = None
            if self._masks is not None:
                mask = self._masks.read(self._path(location), image)
                self.empty_masks += not mask.any()
            yield EvalImage(name, image, mask)
        if self._masks is not None and self.empty_masks == len(self._locations) - len(unreadable):
            raise EvaluationError(
                f"None of the {self.label} masks shows an object: objects are white, the rest black."
            )

    def _path(self, location: tuple[int, int]) -> Path:
        return Path(self._domain.describe(*location))

    def _name(self, location: tuple[int, int]) -> str:
        return self._path(location).name


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
        masks: A folder of masks; see `MaskFolder`. `shapes` has its own.
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
