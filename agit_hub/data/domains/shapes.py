"""The built-in images of one label as a domain."""

from collections.abc import Sequence

from PIL import Image

from agit_hub.data import shapes
from agit_hub.errors import DataError

# `shapes` draws at this seed for training; evaluation draws at another, so that it sees no scene twice.
SHAPES_TRAINING_SEED = 0


SHAPES_LENGTH = 2000


_SHAPES_CACHE_BYTES = 64 * 2**20


class ShapesDomain:
    """The built-in pictures of one label, drawn when first asked for.

    Args:
        label: `plain` or `striped`.
        size: Side in pixels at which they are drawn.

    Raises:
        DataError: If the label is neither.
    """

    blocks = 1
    window = 1
    shards: Sequence[int] = (0,)
    length = SHAPES_LENGTH

    def __init__(self, label: str | None, size: int) -> None:
        if label not in shapes.LABELS:
            given = "none is given" if label is None else f"{label!r} is given"
            raise DataError(f"shapes needs a name, {' or '.join(shapes.LABELS)}, and {given}.")
        self._label = label
        self._size = size
        self._keep = 3 * size * size * SHAPES_LENGTH <= _SHAPES_CACHE_BYTES
        self._drawn: dict[int, Image.Image] = {}

    def block_length(self, block: int) -> int:
        """Pictures in the only block."""
        return SHAPES_LENGTH

    def prepare(self, block: int) -> None:
        """Nothing lies elsewhere."""

    def image(self, block: int, row: int) -> Image.Image:
        """The picture, RGB, `size` by `size`."""
        if row in self._drawn:
            return self._drawn[row]
        picture, _ = shapes.draw(self._label, row, self._size, SHAPES_TRAINING_SEED)
        if self._keep:
            self._drawn[row] = picture
        return picture

    def describe(self, block: int, row: int) -> str:
        """Which drawing it is."""
        return f"shapes {self._label} {row}"
