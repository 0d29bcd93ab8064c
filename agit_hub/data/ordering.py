"""Map each position of an endless stream of images to a location, without state.

Each epoch shuffles a domain's blocks, divides their sequence into windows of a few blocks, and shuffles
the images within each window, so that a process never alternates between many blocks. The first epoch
takes one shard after the other, in random order, so that it can begin as soon as one has been fetched.
The location of any position is found without visiting the positions before it.
"""

from bisect import bisect_right
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from agit_hub.data.domains.base import Domain, Location


class Order(NamedTuple):
    """The order in which a training takes the images of both domains."""

    seed: int = 0
    shuffle: bool = True


class ShuffledIndex:
    """The order of one domain's endless stream.

    Args:
        domain: The domain; its images are not decoded.
        key: Numbers that distinguish this stream from others, the seed first.
        shuffle: False keeps every epoch in the domain's own order.
    """

    def __init__(self, domain: Domain, key: tuple[int, ...], shuffle: bool = True) -> None:
        self._domain = domain
        self._key = key
        self._shuffle = shuffle
        self._starts: dict[int, list[int]] = {}
        self._current = (-1, -1)

    def locate(self, position: int) -> Location:
        """Return the location of the image at a position of the stream."""
        epoch, offset = self._epoch(position)
        starts = self._starts_up_to(epoch, offset)
        window = bisect_right(starts, offset) - 1
        self._prefetch(epoch, window)
        return self._in_window(epoch, window, offset - starts[window])

    def beginning(self, count: int) -> list[Location]:
        """Return the first locations of the stream, at most `count`, all in its first window.

        They are needed first, so that looking at them fetches nothing that is not; nor is anything
        prefetched, which would leave a thread running.
        """
        starts = self._starts_up_to(0, 0)
        window = bisect_right(starts, 0) - 1
        return [self._in_window(0, window, n) for n in range(min(count, starts[window + 1]))]

    def _in_window(self, epoch: int, window: int, within: int) -> Location:
        """Return the location of an image by its number in a window."""
        blocks = self._window(epoch, window)
        lengths = [self._domain.block_length(block) for block in blocks]
        if self._shuffle:
            within = int(_permutation(sum(lengths), self._window_key(epoch, window))[within])
        for block, length in zip(blocks, lengths, strict=True):
            if within < length:
                return Location(block, within)
            within -= length
        raise AssertionError("the offset is outside its window")

    def _epoch(self, position: int) -> tuple[int, int]:
        if self._domain.length is None:
            starts = self._starts_up_to(0, position)
            if position < starts[-1]:
                return 0, position
        assert self._domain.length is not None  # every block of the first epoch has been counted
        return divmod(position, self._domain.length)

    def _starts_up_to(self, epoch: int, offset: int) -> list[int]:
        """Return the offsets at which an epoch's windows begin, up to the window of an offset."""
        if epoch not in self._starts:
            self._starts = {e: s for e, s in self._starts.items() if e == epoch - 1} | {epoch: [0]}
        starts = self._starts[epoch]
        while starts[-1] <= offset and (blocks := self._window(epoch, len(starts) - 1)):
            starts.append(starts[-1] + sum(map(self._domain.block_length, blocks)))
        return starts

    def _prefetch(self, epoch: int, window: int) -> None:
        """Prepare the blocks of the next window, once."""
        if (epoch, window) != self._current:
            self._current = (epoch, window)
            for block in self._window(epoch, window + 1):
                self._domain.prepare(block)

    def _window(self, epoch: int, window: int) -> list[int]:
        size, blocks = self._domain.window, self._domain.blocks
        numbers = range(window * size, min((window + 1) * size, blocks))
        if not self._shuffle or blocks == 1:
            return list(numbers)
        order = self._block_order(epoch)
        return [int(order[number]) for number in numbers]

    def _block_order(self, epoch: int) -> npt.NDArray[np.int64]:
        order = _permutation(self._domain.blocks, (*self._key, 2, epoch))
        if epoch > 0:
            return order
        shards = np.asarray(self._domain.shards)
        rank = _permutation(int(shards.max()) + 1, (*self._key, 3))
        return order[np.argsort(rank[shards[order]], kind="stable")]

    def _window_key(self, epoch: int, window: int) -> tuple[int, ...]:
        return (*self._key, 0, epoch, window) if window else (*self._key, 0, epoch)


@lru_cache(maxsize=16)
def _permutation(length: int, key: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.random.default_rng(key).permutation(length)
