"""Split a domain into a training subset and a held-out subset."""

from PIL import Image

from agit_hub.data.domains.base import Domain, DomainWrapper


class Subset(DomainWrapper):
    """Every n-th image of each block, or all others.

    Args:
        domain: The whole domain.
        every: One of so many images of a block is held out.
        held_out: Whether this subset is the held-out images, or the rest.
    """

    def __init__(self, domain: Domain, every: int, held_out: bool) -> None:
        super().__init__(domain)
        self._every = every
        self._held_out = held_out
        self._length: int | None = None

    @property
    def length(self) -> int | None:
        """Number of images in this subset; None until the whole domain is counted."""
        if self._length is None and self._domain.length is not None:  # needed for each sample
            self._length = sum(map(self.block_length, range(self.blocks)))
        return self._length

    def block_length(self, block: int) -> int:
        """Return the number of images of this subset in a block."""
        count = self._domain.block_length(block)
        held_out = count // self._every
        return held_out if self._held_out else count - held_out

    def image(self, block: int, row: int) -> Image.Image:
        """Return an image as RGB."""
        return self._domain.image(block, self._row(row))

    def describe(self, block: int, row: int) -> str:
        """Return where an image comes from."""
        return self._domain.describe(block, self._row(row))

    def _row(self, row: int) -> int:
        """Return the row in the whole domain: rows n - 1, 2n - 1, ... of each block are held out."""
        if self._held_out:
            return (row + 1) * self._every - 1
        return row + row // (self._every - 1)
