"""The pictures on which a model is measured: each once, whole, with its mask if there is one."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, TypeVar

from PIL import Image

from agit_hub.data import shapes
from agit_hub.evaluation.image_metrics import Mask

# Training draws at seed 0, and validation during it at 2: at this one no scene has been seen.
SHAPES_SEED = 1
SHAPES_VALIDATION_SEED = 2
SHAPES_COUNT = 200
FEWEST = 4
"""Pictures of a domain by which anything can be measured: a floor needs two halves of two."""


Item = TypeVar("Item")


def evenly(items: Sequence[Item], limit: int | None) -> Sequence[Item]:
    """At most so many of the items, evenly spaced; None takes all."""
    if limit is None or limit >= len(items):
        return items
    return [items[number * len(items) // limit] for number in range(limit)]


class EvalImage(NamedTuple):
    """One picture."""

    name: str
    picture: Image.Image
    """RGB."""
    mask: Mask | None
    """True on the objects, of the picture's size."""


class EvalDataset(Protocol):
    """Pictures of one domain, in an order that never changes."""

    label: str
    """What they show."""
    dataset: str
    """Where they come from, without paths of the machine."""
    split: str
    size: str
    """In words: at their own size, or scaled to what."""
    masked: bool
    """Whether every image comes with its mask."""
    unreadable: Sequence[str]
    """Pictures that the last walk over them left out."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[EvalImage]: ...


class ShapesEvalDataset:
    """Drawings of `shapes` that no training has seen, with their true masks.

    Args:
        label: `plain` or `striped`.
        count: How many.
        size: Side in pixels.
        seed: Of the drawings; another than training's.
    """

    dataset = "shapes (built in)"
    split = "unseen"
    masked = True
    unreadable: Sequence[str] = ()

    def __init__(self, label: str, count: int, size: int, seed: int = SHAPES_SEED) -> None:
        self.label = label
        self._count = count
        self._size = size
        self._seed = seed
        self.size = f"drawn at {size} pixels"

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[EvalImage]:
        for number in range(self._count):
            picture, mask = shapes.draw(self.label, number, self._size, self._seed)
            yield EvalImage(f"{self.label} {number}", picture, mask)
