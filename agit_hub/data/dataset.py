"""Training samples whose order is a pure function of the seed and of their position in the run."""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from agit_hub.data.domains.base import Domain
from agit_hub.data.images import UNREADABLE, random_crop
from agit_hub.data.ordering import Place, ShuffledIndex
from agit_hub.errors import DataError, DatasetError


class Samples(NamedTuple):
    """A batch as it leaves the workers."""

    source: Tensor
    """(N, 3, size, size), uint8."""
    target: Tensor
    """(N, 3, size, size), uint8."""
    unreadable: list[str]
    """Damaged pictures that were passed over on the way."""


class UnpairedDataset(Dataset[Samples]):
    """Position in the run -> one source and one target picture, cropped and perhaps mirrored.

    Each domain is an endless stream of its own length: every picture once, in an order of its own,
    then every picture again in another order. A damaged picture's place is taken by the next good one.

    Args:
        source: Pictures to translate from.
        target: Pictures to translate to.
        size: Side of a sample in pixels.
        crop_margin: Pictures are resized to `size` times this before the crop.
        zoom: Largest factor by which they are enlarged further at random, evenly on a logarithmic scale.
        flip: Mirror half of the samples.
        shuffle: False keeps both domains in order, which pairs them for good.
        seed: Of order and augmentation.
    """

    def __init__(
        self,
        source: Domain,
        target: Domain,
        size: int,
        *,
        crop_margin: float = 1.0,
        zoom: float = 1.0,
        flip: bool = True,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        self._domains = (source, target)
        self._orders = tuple(
            ShuffledIndex(domain, (seed, side), shuffle)
            for side, domain in enumerate(self._domains)
        )
        self._size = size
        self._margin = crop_margin
        self._zoom = zoom
        self._flip = flip
        self._seed = seed

    @property
    def epoch(self) -> int | None:
        """As many samples as the longer domain has pictures; None if a domain is not counted yet."""
        source, target = (domain.length for domain in self._domains)
        return None if source is None or target is None else max(source, target)

    def __getitem__(self, position: int) -> Samples:
        unreadable: list[str] = []
        source, target = (self._sample(side, position, unreadable) for side in (0, 1))
        return Samples(source, target, unreadable)

    def _sample(self, side: int, position: int, unreadable: list[str]) -> Tensor:
        place = self._orders[side].place(position)
        picture = _readable(self._domains[side], place, unreadable)
        random = np.random.default_rng((self._seed, side, 1, position))
        zoom = self._zoom ** random.random() if self._zoom > 1 else 1.0
        resized = round(self._size * self._margin * zoom)
        crop = random_crop(picture, self._size, self._flip, random, resized)
        return torch.from_numpy(np.array(crop)).permute(2, 0, 1)


def _readable(domain: Domain, place: Place, unreadable: list[str]) -> Image.Image:
    """The picture at a place or, if it is damaged, the next good one."""
    for block, row in _from(domain, place):
        try:
            return domain.image(block, row)
        except DatasetError:
            raise
        except UNREADABLE as error:
            unreadable.append(f"{domain.describe(block, row)} ({error})")
    raise DataError(
        f"None of {domain.length} pictures can be read any more, {unreadable[0]} first."
    )


def _from(domain: Domain, place: Place) -> Iterator[Place]:
    """Every place from one on, to the last and then from the first."""
    blocks = chain(range(place.block, domain.blocks), range(place.block))
    for block in blocks:
        first = place.row if block == place.block else 0
        yield from (Place(block, row) for row in range(first, domain.block_length(block)))
    yield from (Place(place.block, row) for row in range(place.row))


class InfiniteBatchSampler:
    """Which positions of the run make up each batch of this rank, from any step on, without end.

    Args:
        batch_size: Positions in a batch.
        rank: This process's number.
        processes: How many there are: neighbouring batches go to neighbouring ranks.
        start: Batches that this rank has had already.
    """

    def __init__(self, batch_size: int, rank: int, processes: int, start: int) -> None:
        self._batch_size = batch_size
        self._rank = rank
        self._processes = processes
        self._start = start

    def __iter__(self) -> Iterator[list[int]]:
        batch = self._start
        while True:
            first = (batch * self._processes + self._rank) * self._batch_size
            yield list(range(first, first + self._batch_size))
            batch += 1


def collate(samples: list[Samples]) -> Samples:
    """Stack samples into a batch."""
    return Samples(
        torch.stack([sample.source for sample in samples]),
        torch.stack([sample.target for sample in samples]),
        [name for sample in samples for name in sample.unreadable],
    )


def load(
    samples: UnpairedDataset,
    positions: InfiniteBatchSampler,
    workers: int,
    prepare_worker: Callable[[int], None] | None = None,
) -> DataLoader[Samples]:
    """Batches of samples, decoded by worker processes beside the training, in order.

    The loader draws its workers' seeds from a generator of its own, so that iterating leaves the
    training's random stream alone.
    """
    return DataLoader(
        samples,
        batch_sampler=positions,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=prepare_worker,
        generator=torch.Generator(),
    )
