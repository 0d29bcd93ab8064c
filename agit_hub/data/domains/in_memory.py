"""A domain whose images were decoded once and are kept in memory."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import psutil
from PIL import Image

from agit_hub.data.domains.base import Domain
from agit_hub.data.images import UNREADABLE
from agit_hub.errors import DatasetError

# Of the free memory, what both domains may take together where nobody asked for it.
_SHARE = 0.25
_SAMPLED = 16


class InMemoryDomain:
    """The images of a domain, decoded when it is made.

    Loader workers that are forked afterwards share the memory. What an access returns, or raises for a
    damaged image, is what the domain itself would.

    Args:
        domain: Any that knows its length.

    Raises:
        DatasetError: If images are unavailable, such as for want of a network.
    """

    def __init__(self, domain: Domain) -> None:
        self._domain = domain
        self.blocks: int = domain.blocks
        self.window: int = domain.window
        self.shards: Sequence[int] = domain.shards
        self.length: int | None = domain.length
        places = list(_places(domain))
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            images = threads.map(lambda place: _decoded(domain, *place), places)
            self._images = dict(zip(places, images, strict=True))

    def block_length(self, block: int) -> int:
        """Images in a block."""
        return self._domain.block_length(block)

    def prepare(self, block: int) -> None:
        """Nothing lies elsewhere."""

    def image(self, block: int, row: int) -> Image.Image:
        """The image as RGB."""
        image = self._images[block, row]
        if isinstance(image, Exception):
            raise image
        return image

    def describe(self, block: int, row: int) -> str:
        """Where the image comes from."""
        return self._domain.describe(block, row)

    @property
    def megabytes(self) -> float:
        """What the decoded images take."""
        images = (each for each in self._images.values() if isinstance(each, Image.Image))
        return sum(_bytes(image) for image in images) / 1e6


def fit_in_memory(domains: Sequence[Domain]) -> bool:
    """Whether all images, decoded, are likely to take a quarter of the free memory at most.

    A few images of each domain are decoded for the estimate; one that is not counted yet does not fit.
    """
    return sum(map(_estimate, domains)) <= _SHARE * psutil.virtual_memory().available


def _estimate(domain: Domain) -> float:
    if domain.length is None:
        return float("inf")
    stride = max(1, domain.length // _SAMPLED)
    sampled = [_decoded(domain, *place) for place in islice(_places(domain), 0, None, stride)]
    sizes = [_bytes(image) for image in sampled if isinstance(image, Image.Image)]
    return domain.length * sum(sizes) / max(len(sizes), 1)


def _places(domain: Domain) -> Iterator[tuple[int, int]]:
    for block in range(domain.blocks):
        for row in range(domain.block_length(block)):
            yield block, row


def _decoded(domain: Domain, block: int, row: int) -> Image.Image | Exception:
    try:
        return domain.image(block, row)
    except DatasetError:
        raise
    except UNREADABLE as error:
        return error


def _bytes(image: Image.Image) -> int:
    return 3 * image.width * image.height
