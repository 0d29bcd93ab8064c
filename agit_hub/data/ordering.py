"""Where the picture at each position of an endless stream lies: a pure function, with no state.

A domain's pictures lie in blocks, decompressed at once, and blocks lie in shards, fetched at once. Each
epoch shuffles the blocks, cuts their sequence into windows of a few blocks, and shuffles the pictures
within each window, so that a process never goes back and forth between many blocks. The first epoch
takes shard after shard, in an order of its own, and so begins as soon as one has arrived. Any
position's picture can be found without those before it.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt


class Place(NamedTuple):
    """Where a picture lies in its domain."""

    block: int
    row: int


class Blocks(Protocol):
    """The part of a domain that an order needs to know."""

    blocks: int
    """How many there are."""
    window: int
    """How many are shuffled together."""
    shards: Sequence[int]
    """The shard in which each lies, numbered from 0."""

    @property
    def length(self) -> int | None:
        """Pictures in all; None as long as some blocks have not been counted."""
        ...

    def block_length(self, block: int) -> int:
        """Pictures in a block, which may have to be fetched for it."""
        ...

    def prepare(self, block: int) -> None:
        """A hint that a block's pictures are wanted soon."""
        ...


class ShuffledIndex:
    """The order of one domain's endless stream.

    Args:
        domain: Its blocks.
        key: Numbers that tell this stream from others, the seed first.
        shuffle: False keeps every epoch in the domain's own order.
    """

    def __init__(self, domain: Blocks, key: tuple[int, ...], shuffle: bool = True) -> None:
        self._domain = domain
        self._key = key
        self._shuffle = shuffle
        self._starts: dict[int, list[int]] = {}
        self._current = (-1, -1)

    def place(self, position: int) -> Place:
        """Where the picture at a position of the stream lies."""
        epoch, offset = self._epoch(position)
        starts = self._starts_up_to(epoch, offset)
        window = bisect_right(starts, offset) - 1
        within = offset - starts[window]
        self._look_ahead(epoch, window)
        blocks = self._window(epoch, window)
        lengths = [self._domain.block_length(block) for block in blocks]
        if self._shuffle:
            within = int(_permutation(sum(lengths), self._window_key(epoch, window))[within])
        for block, length in zip(blocks, lengths, strict=True):
            if within < length:
                return Place(block, within)
            within -= length
        raise AssertionError("a window holds every offset that it is asked for")

    def _epoch(self, position: int) -> tuple[int, int]:
        if self._domain.length is None:
            starts = self._starts_up_to(0, position)
            if position < starts[-1]:
                return 0, position
        assert self._domain.length is not None  # the whole first epoch has been walked
        return divmod(position, self._domain.length)

    def _starts_up_to(self, epoch: int, offset: int) -> list[int]:
        """Where the epoch's windows begin and end, as far as needed to hold an offset."""
        if epoch not in self._starts:
            self._starts = {e: s for e, s in self._starts.items() if e == epoch - 1} | {epoch: [0]}
        starts = self._starts[epoch]
        while starts[-1] <= offset and (blocks := self._window(epoch, len(starts) - 1)):
            starts.append(starts[-1] + sum(map(self._domain.block_length, blocks)))
        return starts

    def _look_ahead(self, epoch: int, window: int) -> None:
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
