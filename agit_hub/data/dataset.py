"""Unpaired training samples whose order depends only on the seed and the position in the run."""

from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from itertools import chain, count
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from agit_hub.data.domains.base import Domain, Location
from agit_hub.data.images import UNREADABLE, random_crop
from agit_hub.data.masks import fits
from agit_hub.data.ordering import ShuffledIndex
from agit_hub.errors import DataError, DatasetError

NO_MASK = -1.0
"""The value of a mask's pixels if an image has no mask."""


class UnpairedBatch(NamedTuple):
    """Source and target images: of one sample, (3, size, size) each, or of N stacked samples."""

    source: Tensor
    """(N, 3, size, size), uint8."""
    target: Tensor
    """(N, 3, size, size), uint8."""
    unreadable: list[str]
    """Damaged images and masks that were skipped."""
    source_mask: Tensor | None = None
    """(N, 1, size, size), float32 in [0, 1], and -1 where an image has no mask; None if no source image
    has one."""
    target_mask: Tensor | None = None


@dataclass(eq=False)
class UnpairedDataset(Dataset[UnpairedBatch]):
    """Map a position in the run to one randomly cropped and flipped image of each domain.

    Each domain is an endless stream of its own length: every image once in random order, then every
    image again in another order. A damaged image is replaced by the next readable one.
    """

    source: Domain
    target: Domain
    size: int
    """Side of a sample in pixels."""
    _: KW_ONLY
    crop_margin: float = 1.0
    """Images are resized to `size` times this before the crop."""
    zoom: float = 1.0
    """Largest random enlargement on top of `crop_margin`, log-uniform from 1."""
    flip: bool = True
    """Flip half of the samples horizontally."""
    shuffle: bool = True
    """False keeps both domains in order and begins both again in each epoch, the shorter one also within
    it, so that the same images are always paired."""
    seed: int = 0
    """Seed of the order and the augmentation."""

    def __post_init__(self) -> None:
        self._domains = self.source, self.target
        self._orders = [
            ShuffledIndex(domain, (self.seed, side), self.shuffle)
            for side, domain in enumerate(self._domains)
        ]

    @property
    def epoch(self) -> int | None:
        """Number of images of the longer domain; None if a domain is not counted yet."""
        source, target = (domain.length for domain in self._domains)
        return None if source is None or target is None else max(source, target)

    def __getitem__(self, position: int) -> UnpairedBatch:
        unreadable: list[str] = []
        (source, source_mask), (target, target_mask) = (
            self._sample(side, position, unreadable) for side in (0, 1)
        )
        return UnpairedBatch(source, target, unreadable, source_mask, target_mask)

    def _sample(
        self, side: int, position: int, unreadable: list[str]
    ) -> tuple[Tensor, Tensor | None]:
        location = self._orders[side].locate(self._in_stream(position))
        domain = self._domains[side]
        location, image = _readable(domain, location, unreadable)
        random = np.random.default_rng((self.seed, side, 1, position))
        zoom = self.zoom ** random.random() if self.zoom > 1 else 1.0
        resized = round(self.size * self.crop_margin * zoom)
        crop = random_crop(image, self.size, self.flip, random, resized)
        pixels = torch.from_numpy(np.array(crop.of(image))).permute(2, 0, 1)
        if not domain.has_masks:
            return pixels, None
        mask = _mask(domain, location, image, unreadable)
        if mask is None:
            return pixels, torch.full((1, self.size, self.size), NO_MASK)
        return pixels, torch.from_numpy(np.array(crop.of(mask))).unsqueeze(0) / 255

    def _in_stream(self, position: int) -> int:
        if self.shuffle or self.epoch is None:
            return position
        return position % self.epoch


def _readable(
    domain: Domain, location: Location, unreadable: list[str]
) -> tuple[Location, Image.Image]:
    """Return the image at a location or, if it is damaged, the next readable one, and its location."""
    for block, row in _locations_from(domain, location):
        try:
            return Location(block, row), domain.image(block, row)
        except DatasetError:
            raise
        except UNREADABLE as error:
            unreadable.append(f"{domain.describe(block, row)} ({error})")
    raise DataError(f"None of the {domain.length} images can be read; the first: {unreadable[0]}.")


def _mask(
    domain: Domain, location: Location, image: Image.Image, unreadable: list[str]
) -> Image.Image | None:
    """Return the mask of an image; None if it has none that is readable and has its shape."""
    try:
        mask = domain.mask(*location)
        if mask is not None and not fits(mask.size, image.size):
            raise ValueError(f"{mask.width} x {mask.height} pixels, another aspect ratio")
    except DatasetError:
        raise
    except UNREADABLE as error:
        unreadable.append(f"the mask of {domain.describe(*location)} ({error})")
        return None
    return mask


def _locations_from(domain: Domain, start: Location) -> Iterator[Location]:
    """Yield every location once, from `start` to the last, then from the first."""
    for block in chain(range(start.block, domain.blocks), range(start.block)):
        first = start.row if block == start.block else 0
        yield from (Location(block, row) for row in range(first, domain.block_length(block)))
    yield from (Location(start.block, row) for row in range(start.row))


@dataclass(frozen=True)
class InfiniteBatchSampler:
    """Yield the run positions of each batch of one rank, endlessly."""

    batch_size: int
    rank: int
    processes: int
    """Number of ranks; consecutive batches go to consecutive ranks."""
    start: int
    """Number of batches of this rank to skip, as a resumed run does."""

    def __iter__(self) -> Iterator[list[int]]:
        for batch in count(self.start):
            first = (batch * self.processes + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


def collate(samples: list[UnpairedBatch]) -> UnpairedBatch:
    """Stack samples into a batch."""
    return UnpairedBatch(
        torch.stack([sample.source for sample in samples]),
        torch.stack([sample.target for sample in samples]),
        [name for sample in samples for name in sample.unreadable],
        _stack([sample.source_mask for sample in samples]),
        _stack([sample.target_mask for sample in samples]),
    )


def _stack(masks: list[Tensor | None]) -> Tensor | None:
    found = [mask for mask in masks if mask is not None]
    return torch.stack(found) if found else None


def make_loader(
    dataset: UnpairedDataset,
    sampler: InfiniteBatchSampler,
    num_workers: int,
    worker_init_fn: Callable[[int], None] | None = None,
) -> DataLoader[UnpairedBatch]:
    """Create a loader of batches, in order.

    The loader draws the seeds of its workers from a generator of its own, so that iterating does not
    advance the global random state.
    """
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=num_workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=worker_init_fn,
        generator=torch.Generator(),
    )
