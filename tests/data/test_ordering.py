"""ShuffledIndex: the location of each position of a domain's stream."""

from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np
import pytest

from agit_hub.data.domains.base import Location
from agit_hub.data.ordering import ShuffledIndex

LENGTHS = (5, 1, 7, 3, 4)
TOTAL = 20
KEY = (3, 1)
WINDOWS = (1, 2, 3)


class Known:
    """Blocks of known length, like those of parquet shards."""

    def __init__(
        self,
        lengths: tuple[int, ...] = LENGTHS,
        window: int = 1,
        shards: Sequence[int] | None = None,
    ) -> None:
        self._lengths = lengths
        self.blocks = len(lengths)
        self.shards: Sequence[int] = range(self.blocks) if shards is None else shards
        self.window = window
        self.asked: set[int] = set()
        self.prepared: list[int] = []

    @property
    def length(self) -> int | None:
        return sum(self._lengths)

    def block_length(self, block: int) -> int:
        self.asked.add(block)
        return self._lengths[block]

    def prepare(self, block: int) -> None:
        self.prepared.append(block)


class Lazy(Known):
    """Blocks that must be counted one by one, like those of webdataset shards."""

    @property
    def length(self) -> int | None:
        return sum(self._lengths) if len(self.asked) == self.blocks else None


KINDS = (Known, Lazy)


def _stream(domain: Known, count: int, *, shuffle: bool = True) -> list[Location]:
    order = ShuffledIndex(domain, KEY, shuffle)
    return [order.locate(position) for position in range(count)]


def _locations(lengths: tuple[int, ...]) -> list[Location]:
    """Return every location, in the domain's own order."""
    return [Location(block, row) for block, length in enumerate(lengths) for row in range(length)]


def _blocks_in_order(locations: list[Location]) -> list[int]:
    return list(dict.fromkeys(location.block for location in locations))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("window", [*WINDOWS, 5, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_index_epoch_holds_every_location_once(
    kind: type[Known], window: int, shuffle: bool
) -> None:
    stream = _stream(kind(window=window), 3 * TOTAL, shuffle=shuffle)
    epochs = [stream[start : start + TOTAL] for start in range(0, 3 * TOTAL, TOTAL)]
    assert [sorted(epoch) for epoch in epochs] == [_locations(LENGTHS)] * 3
    assert all((one != other) == shuffle for one, other in pairwise(epochs))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_index_without_shuffle_keeps_the_domain_order(
    kind: type[Known], window: int
) -> None:
    stream = _stream(kind(window=window), 2 * TOTAL, shuffle=False)
    assert stream == 2 * _locations(LENGTHS)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_index_location_depends_on_key_and_position_only(
    kind: type[Known], window: int
) -> None:
    expected = _stream(Known(window=window), 4 * TOTAL)
    assert _stream(kind(window=window), 4 * TOTAL) == expected
    used = ShuffledIndex(kind(window=window), KEY)
    for position in np.random.default_rng(0).integers(4 * TOTAL, size=200).tolist():
        assert used.locate(position) == expected[position]
    for position in (0, TOTAL - 1, TOTAL, 3 * TOTAL + 7):
        assert ShuffledIndex(kind(window=window), KEY).locate(position) == expected[position]


def test_shuffled_index_far_position_is_found_directly() -> None:
    order = ShuffledIndex(Lazy(window=2), KEY)
    far = range(1_000_000 * TOTAL, 1_000_001 * TOTAL)
    assert sorted(order.locate(position) for position in far) == _locations(LENGTHS)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_index_window_contains_whole_blocks(kind: type[Known], window: int) -> None:
    for epoch in range(3):
        stream = _stream(kind(window=window), 3 * TOTAL)[epoch * TOTAL : (epoch + 1) * TOTAL]
        blocks: list[int] = []
        while stream:
            # The first `window` blocks come completely before any other block.
            chosen: list[Location] = []
            while len(_blocks_in_order(chosen)) < min(window, len(LENGTHS) - len(blocks)):
                chosen.append(stream[len(chosen)])
            whole = sum(LENGTHS[block] for block in _blocks_in_order(chosen))
            window_blocks = {location.block for location in stream[:whole]}
            assert window_blocks == set(_blocks_in_order(chosen))
            blocks += sorted(window_blocks)
            stream = stream[whole:]
        assert sorted(blocks) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("window", WINDOWS)
def test_shuffled_index_counts_blocks_only_when_needed(window: int, shuffle: bool) -> None:
    domain = Lazy(window=window)
    order = ShuffledIndex(domain, KEY, shuffle)
    first = order.locate(0)
    assert len(domain.asked) == window and first.block in domain.asked
    counted = sum(LENGTHS[block] for block in domain.asked)
    asked = set(domain.asked)
    locations = [order.locate(position) for position in range(counted)]
    assert domain.asked == asked == {location.block for location in locations}
    order.locate(counted)
    assert len(domain.asked) == min(2 * window, len(LENGTHS))


@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_index_shuffles_blocks_again_each_epoch(kind: type[Known]) -> None:
    lengths = (2,) * 8
    stream = _stream(kind(lengths), 10 * 16)
    orders = [tuple(_blocks_in_order(stream[k : k + 16])) for k in range(0, 160, 16)]
    assert len(set(orders)) == 10


def test_shuffled_index_equal_blocks_have_different_row_orders() -> None:
    stream = _stream(Known((10,) * 6), 60)
    orders = {tuple(location.row for location in stream[k : k + 10]) for k in range(0, 60, 10)}
    assert len(orders) == 6


# Three shards of four, one and three blocks.
SHARDS = (0, 0, 0, 0, 1, 2, 2, 2)


def _shards_in_order(locations: list[Location]) -> list[int]:
    return [shard for shard, _ in groupby(SHARDS[place.block] for place in locations)]


@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_index_first_epoch_is_shard_by_shard_and_later_ones_mix(
    kind: type[Known],
) -> None:
    lengths = (2, 1, 3, 2, 4, 1, 1, 2)
    total = sum(lengths)
    firsts = set()
    for seed in range(20):
        order = ShuffledIndex(kind(lengths, shards=SHARDS), (seed, 0))
        stream = [order.locate(position) for position in range(4 * total)]
        epochs = [stream[start : start + total] for start in range(0, 4 * total, total)]
        assert all(sorted(epoch) == _locations(lengths) for epoch in epochs)
        first, *later = map(_shards_in_order, epochs)
        assert sorted(first) == [0, 1, 2]
        assert any(len(shards) > 3 for shards in later)
        firsts.add(tuple(first))
    assert len(firsts) > 3  # of six possible orders: the first shard depends on the seed


def test_shuffled_index_first_epoch_shuffles_blocks_of_a_shard() -> None:
    orders = {
        tuple(_blocks_in_order([order.locate(position) for position in range(12)]))
        for order in (
            ShuffledIndex(Known((2,) * 6, shards=(0,) * 6), (seed, 0)) for seed in range(10)
        )
    }
    assert len(orders) > 5


@pytest.mark.parametrize("window", [*WINDOWS, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_index_with_shards_location_depends_on_key_and_position_only(
    kind: type[Known], window: int
) -> None:
    lengths = (2, 1, 3, 2, 4, 1, 1, 2)
    total = sum(lengths)
    order = ShuffledIndex(Known(lengths, window, SHARDS), KEY)
    expected = [order.locate(position) for position in range(3 * total)]
    for position in reversed(range(3 * total)):
        assert (
            ShuffledIndex(kind(lengths, window, SHARDS), KEY).locate(position) == expected[position]
        )
    epochs = [expected[start : start + total] for start in range(0, 3 * total, total)]
    assert all(sorted(epoch) == _locations(lengths) for epoch in epochs)


def test_shuffled_index_mixes_blocks_of_a_window() -> None:
    stream = _stream(Known((20, 20), window=2), 40)
    changes = sum(one.block != other.block for one, other in pairwise(stream))
    assert changes > 10  # expected: 19.5; 1 if the blocks were not mixed


@pytest.mark.parametrize("lengths", [LENGTHS, (40,)])
def test_shuffled_index_other_keys_give_other_orders(lengths: tuple[int, ...]) -> None:
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 1)]
    orders = [ShuffledIndex(Known(lengths, window=2), key) for key in keys]
    streams = {tuple(order.locate(position) for position in range(20)) for order in orders}
    assert len(streams) == len(keys)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_index_prepares_blocks_of_the_next_window_once(
    kind: type[Known], window: int, shuffle: bool
) -> None:
    domain = kind(window=window)
    order = ShuffledIndex(domain, KEY, shuffle)
    announced: list[tuple[int, list[int]]] = []
    stream = []
    for position in range(TOTAL):
        stream.append(order.locate(position))
        if domain.prepared:
            announced.append((position, domain.prepared))
            domain.prepared = []
    # All blocks except those of the first window, each once and before its first image.
    blocks = [block for _, some in announced for block in some]
    assert len(blocks) == len(set(blocks)) == len(LENGTHS) - window
    assert announced[0][0] == 0 and all(len(some) <= window for _, some in announced)
    firsts = {block: [p.block for p in stream].index(block) for block in blocks}
    assert all(at < firsts[block] for at, some in announced for block in some)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("lengths", [(0, 3, 0, 0, 2, 0), (0, 0, 0, 4), (4, 0, 0, 0), (0, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_index_empty_blocks_are_skipped(
    kind: type[Known], lengths: tuple[int, ...], window: int, shuffle: bool
) -> None:
    total = sum(lengths)
    stream = _stream(kind(lengths, window), 3 * total, shuffle=shuffle)
    for start in range(0, 3 * total, total):
        epoch = stream[start : start + total]
        assert sorted(epoch) == _locations(lengths)
        assert shuffle or epoch == _locations(lengths)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_index_single_block_uses_the_published_permutation(
    kind: type[Known], window: int
) -> None:
    for seed, side in ((0, 0), (0, 1), (7, 0)):
        order = ShuffledIndex(kind((30,), window), (seed, side))
        for epoch in range(3):
            rows = np.random.default_rng((seed, side, 0, epoch)).permutation(30)
            locations = [order.locate(epoch * 30 + offset) for offset in range(30)]
            assert locations == [Location(0, int(row)) for row in rows]


def test_shuffled_index_published_order_is_unchanged() -> None:
    # Literal values, so that a change in numpy is noticed too.
    order = ShuffledIndex(Known((8,)), (0, 0))
    rows = [order.locate(position).row for position in range(16)]
    assert rows == [2, 4, 3, 6, 5, 0, 1, 7, 6, 4, 2, 7, 0, 5, 3, 1]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("shuffle", [True, False])
def test_beginning_is_that_of_the_stream_within_its_first_window(
    kind: type[Known], window: int, shuffle: bool
) -> None:
    domain = kind((0, *LENGTHS), window)
    found = ShuffledIndex(domain, KEY, shuffle).beginning(6)
    assert domain.prepared == [] and found
    assert found == _stream(kind((0, *LENGTHS), window), len(found), shuffle=shuffle)
    whole = ShuffledIndex(domain, KEY, shuffle).beginning(TOTAL)
    assert len({at.block for at in whole}) <= window and found == whole[:6]
