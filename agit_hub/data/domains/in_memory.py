"""A domain whose decoded images are kept in memory."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import psutil
from PIL import Image

from agit_hub.data.domains.base import Domain, DomainWrapper, Location, locations
from agit_hub.data.images import UNREADABLE
from agit_hub.errors import DatasetError

# Share of the free memory that both domains may take together by default.
_SHARE = 0.25
_SAMPLED = 16


class InMemoryDomain(DomainWrapper):
    """The images of a domain, all decoded in advance.

    Loader workers that are forked afterwards share the memory. Access returns the same images and, for
    damaged images, raises the same exceptions as the domain itself.

    Args:
        domain: A domain whose length is known.

    Raises:
        DatasetError: If images are unavailable, for example because of the network.
    """

    def __init__(self, domain: Domain) -> None:
        super().__init__(domain)
        places = list(locations(domain))
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            images = threads.map(lambda place: _decode(domain.image, place), places)
            self._images = dict(zip(places, images, strict=True))
            masked = places if domain.has_masks else []
            masks = threads.map(lambda place: _decode(domain.mask, place), masked)
            self._masks = dict(zip(masked, masks, strict=True))

    def prepare(self, block: int) -> None:
        """Do nothing: all images are in memory."""

    def image(self, block: int, row: int) -> Image.Image:
        """Return an image as RGB."""
        image = self._images[Location(block, row)]
        if isinstance(image, Exception):
            raise image
        assert image is not None
        return image

    def mask(self, block: int, row: int) -> Image.Image | None:
        """Return the mask of an image; None if it has none."""
        mask = self._masks.get(Location(block, row))
        if isinstance(mask, Exception):
            raise mask
        return mask

    @property
    def megabytes(self) -> float:
        """Size of the decoded images."""
        return sum(map(_bytes, [*self._images.values(), *self._masks.values()])) / 1e6


def fit_in_memory(domains: Sequence[Domain]) -> bool:
    """Return whether all images, decoded, are estimated to take at most a quarter of the free memory.

    The estimate decodes a few images of each domain; a domain that is not counted yet does not fit.
    """
    return sum(map(_estimate, domains)) <= _SHARE * psutil.virtual_memory().available


def _estimate(domain: Domain) -> float:
    if domain.length is None:
        return float("inf")
    stride = max(1, domain.length // _SAMPLED)
    sampled = [_decode(domain.image, place) for place in islice(locations(domain), 0, None, stride)]
    sizes = [size for size in map(_bytes, sampled) if size]
    return domain.length * sum(sizes) / max(len(sizes), 1)


def _decode(
    decode: Callable[[int, int], Image.Image | None], place: Location
) -> Image.Image | Exception | None:
    try:
        return decode(*place)
    except DatasetError:
        raise
    except UNREADABLE as error:
        return error


def _bytes(image: Image.Image | Exception | None) -> int:
    if not isinstance(image, Image.Image):
        return 0
    return len(image.getbands()) * image.width * image.height
