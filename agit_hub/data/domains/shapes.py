"""The built-in images of one label as a domain."""

from collections.abc import Sequence

from PIL import Image

from agit_hub.data import shapes
from agit_hub.errors import DataError

# Training draws with this seed; evaluation uses another, so that it never sees a training scene.
SHAPES_TRAINING_SEED = 0
SHAPES_LENGTH = 2000
_CACHE_BYTES = 64 * 2**20


class ShapesDomain:
    """The built-in images of one label, drawn when first needed.

    Args:
        label: `plain` or `striped`.
        size: Side of the images in pixels.

    Raises:
        DataError: If the label is neither.
    """

    blocks = 1
    window = 1
    shards: Sequence[int] = (0,)
    length = SHAPES_LENGTH
    has_masks = False

    def __init__(self, label: str | None, size: int) -> None:
        if label not in shapes.LABELS:
            raise DataError(
                f"The name of shapes is {label!r}; expected {' or '.join(shapes.LABELS)}."
            )
        self._label = label
        self._size = size
        self._use_cache = 3 * size * size * SHAPES_LENGTH <= _CACHE_BYTES
        self._cache: dict[int, Image.Image] = {}

    def block_length(self, block: int) -> int:
        """Return the number of images in the only block."""
        return SHAPES_LENGTH

    def prepare(self, block: int) -> None:
        """Do nothing: the images are drawn here."""

    def image(self, block: int, row: int) -> Image.Image:
        """Return an RGB image of `size` by `size`."""
        if row in self._cache:
            return self._cache[row]
        image, _ = shapes.draw(self._label, row, self._size, SHAPES_TRAINING_SEED)
        if self._use_cache:
            self._cache[row] = image
        return image

    def mask(self, block: int, row: int) -> None:
        """Return None: the drawings are trained on without masks."""

    def describe(self, block: int, row: int) -> str:
        """Return the label and the number of an image."""
        return f"shapes {self._label} {row}"
