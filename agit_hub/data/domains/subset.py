"""Split a domain into a training subset and a held-out subset."""

from itertools import accumulate

from PIL import Image

from agit_hub.data.domains.base import Domain, DomainWrapper


class Subset(DomainWrapper):
    """Every n-th image of a domain, or all others.

    Shards that are counted when they are fetched cannot be numbered through: there it is every n-th image
    of a block, from another row in each block, so that small blocks give their share too.

    Args:
        domain: The whole domain.
        every: One of so many images is held out.
        held_out: Whether this subset is the held-out images, or the rest.
    """

    def __init__(self, domain: Domain, every: int, held_out: bool) -> None:
        super().__init__(domain)
        self._every = every
        self._held_out = held_out
        self._length: int | None = None
        self._counts: list[int] | None = None
        """Images before each block."""
        if domain.length is not None:
            lengths = map(domain.block_length, range(domain.blocks))
            self._counts = list(accumulate(lengths, initial=0))

    @property
    def length(self) -> int | None:
        """Number of images in this subset; None until the whole domain is counted."""
        if self._length is None and self._domain.length is not None:  # needed for each sample
            self._length = sum(map(self.block_length, range(self.blocks)))
        return self._length

    def block_length(self, block: int) -> int:
        """Return the number of images of this subset in a block."""
        before, count = self._before(block), self._domain.block_length(block)
        held_out = (before + count) // self._every - before // self._every
        return held_out if self._held_out else count - held_out

    def image(self, block: int, row: int) -> Image.Image:
        """Return an image as RGB."""
        return self._domain.image(block, self._row(block, row))

    def mask(self, block: int, row: int) -> Image.Image | None:
        """Return the mask of an image; None if it has none."""
        return self._domain.mask(block, self._row(block, row))

    def describe(self, block: int, row: int) -> str:
        """Return where an image comes from."""
        return self._domain.describe(block, self._row(block, row))

    def _row(self, block: int, row: int) -> int:
        """Return the row in the whole domain, whose images n - 1, 2n - 1, ... are held out."""
        before = self._before(block) % self._every
        if self._held_out:
            return (row + 1) * self._every - 1 - before
        # As the image of that number in a block that begins with `before` more, which are all kept.
        return row + (row + before) // (self._every - 1)

    def _before(self, block: int) -> int:
        """Return the number of images before a block, or another number below `every` for each block."""
        return block % self._every if self._counts is None else self._counts[block]
