"""A domain parted in two: what is trained on, and what is kept from training to measure on."""

from collections.abc import Sequence

from PIL import Image

from agit_hub.data.domains.base import Domain
from agit_hub.data.loading import LoadedDomain


class Subset:
    """Some of each block's pictures.

    Args:
        whole: The domain.
        every: One in so many pictures of a block is held out.
        held_out: Whether this part is those, or the rest.
    """

    def __init__(self, whole: Domain, every: int, held_out: bool) -> None:
        self._whole = whole
        self._every = every
        self._held_out = held_out
        self.blocks: int = whole.blocks
        self.window: int = whole.window
        self.shards: Sequence[int] = whole.shards
        self._length: int | None = None

    @property
    def length(self) -> int | None:
        """Pictures in this part; None as long as the whole is not counted."""
        if self._length is None and self._whole.length is not None:  # each sample asks for it
            self._length = sum(map(self.block_length, range(self.blocks)))
        return self._length

    def block_length(self, block: int) -> int:
        """Pictures of this part in a block."""
        count = self._whole.block_length(block)
        held_out = count // self._every
        return held_out if self._held_out else count - held_out

    def prepare(self, block: int) -> None:
        """A hint that a block's pictures are wanted soon."""
        self._whole.prepare(block)

    def image(self, block: int, row: int) -> Image.Image:
        """The picture as RGB."""
        return self._whole.image(block, self._row(row))

    def describe(self, block: int, row: int) -> str:
        """Where the picture comes from."""
        return self._whole.describe(block, self._row(row))

    def _row(self, row: int) -> int:
        """Rows n - 1, 2n - 1, ... are held out; between two of them lie n - 1 others."""
        if self._held_out:
            return (row + 1) * self._every - 1
        return row + row // (self._every - 1)


def held_out(opened: LoadedDomain, every: int) -> LoadedDomain:
    """The pictures of a domain that are kept from training."""
    return opened._replace(domain=Subset(opened.domain, every, held_out=True))


def kept(opened: LoadedDomain, every: int | None) -> LoadedDomain:
    """The pictures of a domain that are trained on; all of them if none is held out."""
    if every is None:
        return opened
    return opened._replace(domain=Subset(opened.domain, every, held_out=False))
