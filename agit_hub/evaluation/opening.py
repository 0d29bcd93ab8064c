"""Finds the pictures on which a model is measured, in folders and on the Hub, and their masks."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from agit_hub.config import MIN_SIZE
from agit_hub.data import shapes
from agit_hub.data.config import DomainConfig
from agit_hub.data.domains.base import Location, locations
from agit_hub.data.images import UNREADABLE, fitted_size, image_extensions
from agit_hub.data.load import LoadedDomain, load_domains
from agit_hub.errors import DatasetError, EvaluationError
from agit_hub.evaluation.datasets import (
    FEWEST,
    SHAPES_COUNT,
    SHAPES_SEED,
    EvalDataset,
    EvalImage,
    ShapesEvalDataset,
    evenly,
)
from agit_hub.evaluation.image_metrics import Mask

_PATIENCE = 300
# A grey of a mask's file that counts as object.
_OBJECT = 128


class DomainEvalDataset:
    """A domain's pictures. One that cannot be read is named in `unreadable` and left out.

    Args:
        opened: The domain.
        label: What it shows.
        masks: A folder of masks named like the pictures.
        limit: The most pictures that are taken, evenly spaced; None takes all.
        side: Pixels to which a picture's shorter side is scaled first; None leaves it as it is.

    Raises:
        EvaluationError: If there are fewer than four, or a picture has no mask.
    """

    def __init__(
        self,
        opened: LoadedDomain,
        label: str,
        masks: Path | None = None,
        limit: int | None = None,
        side: int | None = None,
    ) -> None:
        config = opened.config
        self.label = label
        folder = Path(config.path).expanduser().resolve().name
        self.dataset = config.path if config.revision else f"{folder} (a folder)"
        self.split = config.split or config.data_dir or "all"
        self.size = "at their own size" if side is None else f"scaled to {side} pixels"
        self.masked = masks is not None
        self.unreadable: Sequence[str] = ()
        self._side = side
        self._domain = opened.domain
        self._places = evenly(list(locations(opened.domain)), limit)
        if len(self._places) < FEWEST:
            raise EvaluationError(
                f"{len(self._places)} {label} picture(s) are too few to measure anything by: "
                f"{FEWEST} or more are needed."
            )
        self._masks = None if masks is None else self._find_masks(masks)

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[EvalImage]:
        unreadable: list[str] = []
        self.unreadable = unreadable
        for place in self._places:
            name = self._name(place)
            try:
                picture = self._scaled(self._domain.image(*place))
            except DatasetError:
                raise
            except UNREADABLE as error:
                # Pillow's messages hold the whole path, which is nobody's business but the machine's.
                unreadable.append(f"{name} ({type(error).__name__})")
                continue
            yield EvalImage(name, picture, self._mask(name, picture))

    def _scaled(self, picture: Image.Image) -> Image.Image:
        if self._side is None:
            return picture
        size = fitted_size(picture, self._side)
        return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)

    def _name(self, place: Location) -> str:
        return Path(self._domain.describe(*place)).name

    def _find_masks(self, folder: Path) -> dict[str, Path]:
        found = _masks_by_stem(folder, self.label)
        masks = {}
        for place in self._places:
            name = self._name(place)
            if Path(name).stem not in found:
                raise EvaluationError(
                    f"{folder} holds no mask for {name}: one named {Path(name).stem}.png is needed, "
                    f"there or in {folder / self.label}."
                )
            masks[name] = found[Path(name).stem]
        return masks

    def _mask(self, name: str, picture: Image.Image) -> Mask | None:
        if self._masks is None:
            return None
        path = self._masks[name]
        try:
            with Image.open(path) as file:
                grey = file.convert("L")
        except UNREADABLE as error:
            raise EvaluationError(f"The mask {path} cannot be read: {error}") from error
        if abs(grey.width * picture.height - grey.height * picture.width) > max(
            *grey.size, *picture.size
        ):
            raise EvaluationError(
                f"The mask {path} is {grey.width} x {grey.height} pixels, and its picture "
                f"{picture.width} x {picture.height}: their shapes differ."
            )
        fitted = grey.resize(picture.size, Image.Resampling.NEAREST)
        return np.asarray(fitted) >= _OBJECT


def load_eval_datasets(
    source: DomainConfig,
    target: DomainConfig,
    labels: tuple[str, str],
    size: int,
    masks: Path | None = None,
    limit: int | None = None,
    side: int | None = None,
    shapes_seed: int = SHAPES_SEED,
) -> tuple[EvalDataset, EvalDataset]:
    """Find the pictures to measure on.

    Args:
        source: Where the source pictures lie; `shapes` draws unseen ones.
        target: Likewise. Both may name one place that holds two domains.
        labels: What they show: the model's source and target label.
        size: At which `shapes` are drawn.
        masks: A folder of masks named like the pictures, white on objects; those of one domain may
            lie in a subfolder named like its label. `shapes` has its own.
        limit: The most pictures of a domain that are taken, evenly spaced.
        side: Pixels to which a picture's shorter side is scaled first; None leaves it as it is. Drawings
            have the networks' size.
        shapes_seed: Of the drawings.

    Raises:
        EvaluationError: If the pictures or masks cannot be used.
        DataError: If a place holds nothing usable, or several readings are.
        FetchError: If the network stays bad.
    """
    if limit is not None and limit < FEWEST:
        raise EvaluationError(
            f"{limit} picture(s) are too few to measure anything by: take {FEWEST} or more."
        )
    if "shapes" in (source.path, target.path) and source.path != target.path:
        raise EvaluationError(
            "shapes is one domain and a place of your own the other: measure on shapes for both, or on "
            "none."
        )
    if source.path == "shapes":
        if set(labels) != set(shapes.LABELS):
            raise EvaluationError(
                f"The model translates between {' and '.join(labels)}; shapes has "
                f"{' and '.join(shapes.LABELS)}."
            )
        count = limit or SHAPES_COUNT
        drawn = (ShapesEvalDataset(label, count, size, shapes_seed) for label in labels)
        return next(drawn), next(drawn)
    if side is not None and side < MIN_SIZE:
        raise EvaluationError(
            f"Pictures of {side} pixels a side are too small: {MIN_SIZE} are the least."
        )
    if masks is not None and not masks.is_dir():
        raise EvaluationError(f"There is no folder of masks {masks}.")
    opened = load_domains(source, target, None, _PATIENCE)
    one, other = (
        DomainEvalDataset(domain, label, masks, limit, side)
        for domain, label in zip(opened, labels, strict=True)
    )
    return one, other


def _masks_by_stem(folder: Path, label: str) -> dict[str, Path]:
    endings = image_extensions()
    own = folder / label
    places = [folder, own] if own.is_dir() else [folder]  # a label's own are preferred
    return {
        path.stem: path
        for place in places
        for path in sorted(place.iterdir())
        if path.suffix.lower() in endings
    }
