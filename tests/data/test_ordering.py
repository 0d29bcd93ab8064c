"""Where each position of a domain's stream lies."""

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
    """Blocks whose lengths are known, as those of parquet shards are."""

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
    """Blocks that must be counted one by one, as those of webdataset shards must."""

    @property
    def length(self) -> int | None:
        return sum(self._lengths) if len(self.asked) == self.blocks else None


KINDS = (Known, Lazy)


def _stream(domain: Known, count: int, *, shuffle: bool = True) -> list[Location]:
    order = ShuffledIndex(domain, KEY, shuffle)
    return [order.locate(position) for position in range(count)]


def _places(lengths: tuple[int, ...]) -> list[Location]:
    """Every place, in the domain's own order."""
    return [Location(block, row) for block, length in enumerate(lengths) for row in range(length)]


def _blocks_in_order(places: list[Location]) -> list[int]:
    return list(dict.fromkeys(place.block for place in places))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("window", [*WINDOWS, 5, 8])
@pytest.mark.parametrize("kind", KINDS)
def test_every_epoch_holds_every_place_once(kind: type[Known], window: int, shuffle: bool) -> None:
    stream = _stream(kind(window=window), 3 * TOTAL, shuffle=shuffle)
    epochs = [stream[start : start + TOTAL] for start in range(0, 3 * TOTAL, TOTAL)]
    assert [sorted(epoch) for epoch in epochs] == [_places(LENGTHS)] * 3
    assert all((one != other) == shuffle for one, other in pairwise(epochs))


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_without_shuffle_the_order_is_the_domains_own(kind: type[Known], window: int) -> None:
    stream = _stream(kind(window=window), 2 * TOTAL, shuffle=False)
    assert stream == 2 * _places(LENGTHS)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_place_depends_on_key_and_position_alone(kind: type[Known], window: int) -> None:
    expected = _stream(Known(window=window), 4 * TOTAL)
    assert _stream(kind(window=window), 4 * TOTAL) == expected
    used = ShuffledIndex(kind(window=window), KEY)
    for position in np.random.default_rng(0).integers(4 * TOTAL, size=200).tolist():
        assert used.locate(position) == expected[position]
    for position in (0, TOTAL - 1, TOTAL, 3 * TOTAL + 7):
        assert ShuffledIndex(kind(window=window), KEY).locate(position) == expected[position]


def test_positions_far_into_a_run_are_found_at_once() -> None:
    order = ShuffledIndex(Lazy(window=2), KEY)
    far = range(1_000_000 * TOTAL, 1_000_001 * TOTAL)
    assert sorted(order.locate(position) for position in far) == _places(LENGTHS)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_images_of_a_window_lie_in_its_blocks(kind: type[Known], window: int) -> None:
    for epoch in range(3):
        stream = _stream(kind(window=window), 3 * TOTAL)[epoch * TOTAL : (epoch + 1) * TOTAL]
        blocks: list[int] = []
        while stream:
            # The whole of the first `window` blocks comes before anything else.
            chosen: list[Location] = []
            while len(_blocks_in_order(chosen)) < min(window, len(LENGTHS) - len(blocks)):
                chosen.append(stream[len(chosen)])
            whole = sum(LENGTHS[block] for block in _blocks_in_order(chosen))
            window_blocks = {place.block for place in stream[:whole]}
            assert window_blocks == set(_blocks_in_order(chosen))
            blocks += sorted(window_blocks)
            stream = stream[whole:]
        assert sorted(blocks) == list(range(len(LENGTHS)))


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("window", WINDOWS)
def test_a_stream_counts_no_block_before_it_is_needed(window: int, shuffle: bool) -> None:
    domain = Lazy(window=window)
    order = ShuffledIndex(domain, KEY, shuffle)
    first = order.locate(0)
    assert len(domain.asked) == window and first.block in domain.asked
    counted = sum(LENGTHS[block] for block in domain.asked)
    asked = set(domain.asked)
    places = [order.locate(position) for position in range(counted)]
    assert domain.asked == asked == {place.block for place in places}
    order.locate(counted)
    assert len(domain.asked) == min(2 * window, len(LENGTHS))


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_shuffled_anew_each_epoch(kind: type[Known]) -> None:
    lengths = (2,) * 8
    stream = _stream(kind(lengths), 10 * 16)
    orders = [tuple(_blocks_in_order(stream[k : k + 16])) for k in range(0, 160, 16)]
    assert len(set(orders)) == 10


def test_blocks_of_one_length_are_each_in_an_order_of_their_own() -> None:
    stream = _stream(Known((10,) * 6), 60)
    orders = {tuple(place.row for place in stream[k : k + 10]) for k in range(0, 60, 10)}
    assert len(orders) == 6


# Three shards of four, one and three blocks.
SHARDS = (0, 0, 0, 0, 1, 2, 2, 2)


def _shards_in_order(places: list[Location]) -> list[int]:
    return [shard for shard, _ in groupby(SHARDS[place.block] for place in places)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_epoch_takes_shard_after_shard_and_later_ones_mix_them(
    kind: type[Known],
) -> None:
    lengths = (2, 1, 3, 2, 4, 1, 1, 2)
    total = sum(lengths)
    firsts = set()
    for seed in range(20):
        order = ShuffledIndex(kind(lengths, shards=SHARDS), (seed, 0))
        stream = [order.locate(position) for position in range(4 * total)]
        epochs = [stream[start : start + total] for start in range(0, 4 * total, total)]
        assert all(sorted(epoch) == _places(lengths) for epoch in epochs)
        first, *later = map(_shards_in_order, epochs)
        assert sorted(first) == [0, 1, 2]
        assert any(len(shards) > 3 for shards in later)
        firsts.add(tuple(first))
    assert len(firsts) > 3  # of six orders: which shard is the first depends on the seed


def test_blocks_of_a_shard_are_shuffled_in_the_first_epoch_too() -> None:
    orders = {
        tuple(_blocks_in_order([order.locate(position) for position in range(12)]))
        for order in (
            ShuffledIndex(Known((2,) * 6, shards=(0,) * 6), (seed, 0)) for seed in range(10)
        )
    }
    assert len(orders) > 5


@pytest.mark.parametrize("window", [*WINDOWS, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_with_shards_too_a_place_depends_on_key_and_position_alone(
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
    assert all(sorted(epoch) == _places(lengths) for epoch in epochs)


def test_images_of_blocks_that_share_a_window_are_mixed() -> None:
    stream = _stream(Known((20, 20), window=2), 40)
    changes = sum(one.block != other.block for one, other in pairwise(stream))
    assert changes > 10  # 19.5 are to be expected; one, if the blocks came one after the other


@pytest.mark.parametrize("lengths", [LENGTHS, (40,)])
def test_other_keys_are_other_orders(lengths: tuple[int, ...]) -> None:
    keys = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 1)]
    orders = [ShuffledIndex(Known(lengths, window=2), key) for key in keys]
    streams = {tuple(order.locate(position) for position in range(20)) for order in orders}
    assert len(streams) == len(keys)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_next_windows_blocks_are_announced_once(
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
    # All but the first window's blocks, each once, and each before its first image.
    blocks = [block for _, some in announced for block in some]
    assert len(blocks) == len(set(blocks)) == len(LENGTHS) - window
    assert announced[0][0] == 0 and all(len(some) <= window for _, some in announced)
    firsts = {block: [p.block for p in stream].index(block) for block in blocks}
    assert all(at < firsts[block] for at, some in announced for block in some)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("lengths", [(0, 3, 0, 0, 2, 0), (0, 0, 0, 4), (4, 0, 0, 0), (0, 1)])
@pytest.mark.parametrize("kind", KINDS)
def test_empty_blocks_do_no_harm(
    kind: type[Known], lengths: tuple[int, ...], window: int, shuffle: bool
) -> None:
    total = sum(lengths)
    stream = _stream(kind(lengths, window), 3 * total, shuffle=shuffle)
    for start in range(0, 3 * total, total):
        epoch = stream[start : start + total]
        assert sorted(epoch) == _places(lengths)
        assert shuffle or epoch == _places(lengths)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_blocks_order_is_the_permutation_that_published_results_rest_on(
    kind: type[Known], window: int
) -> None:
    for seed, side in ((0, 0), (0, 1), (7, 0)):
        order = ShuffledIndex(kind((30,), window), (seed, side))
        for epoch in range(3):
            rows = np.random.default_rng((seed, side, 0, epoch)).permutation(30)
            places = [order.locate(epoch * 30 + offset) for offset in range(30)]
            assert places == [Location(0, int(row)) for row in rows]


def test_an_order_once_published_stays() -> None:
    # Written down, so that not even numpy may change them unnoticed.
    order = ShuffledIndex(Known((8,)), (0, 0))
    rows = [order.locate(position).row for position in range(16)]
    assert rows == [2, 4, 3, 6, 5, 0, 1, 7, 6, 4, 2, 7, 0, 5, 3, 1]
