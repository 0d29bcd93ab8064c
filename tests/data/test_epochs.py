"""Each image of an epoch is loaded once, over all processes and workers."""

import math
from collections.abc import Sequence
from itertools import islice

import pytest
from PIL import Image

from agit_hub.data.dataset import InfiniteBatchSampler, UnpairedDataset, make_loader

SIZE = 16


class Numbered:
    """Images in shards of a few blocks, whose red value is their number."""

    window = 2

    has_masks = False

    def __init__(self, shards: int) -> None:
        lengths = [(3, 3, 1), (2,), (1, 4), (3,), (2, 2)][:shards]
        self._lengths = [length for shard in lengths for length in shard]
        self.shards: Sequence[int] = [n for n, shard in enumerate(lengths) for _ in shard]
        self.blocks = len(self._lengths)
        self.length = sum(self._lengths)

    def block_length(self, block: int) -> int:
        return self._lengths[block]

    def prepare(self, block: int) -> None:
        pass

    def image(self, block: int, row: int) -> Image.Image:
        number = sum(self._lengths[:block]) + row
        return Image.new("RGB", (SIZE, SIZE), (number, 0, 0))

    def mask(self, block: int, row: int) -> None:
        return None

    def describe(self, block: int, row: int) -> str:
        return f"{block} {row}"


def _seen(shards: int, processes: int, batch: int, workers: int) -> dict[int, tuple[int, int]]:
    """Return the source and target numbers at each position of three epochs."""
    source, target = Numbered(shards), Numbered(6 - shards)
    samples = UnpairedDataset(source, target, SIZE)
    longest = max(source.length, target.length)
    batches = math.ceil(3 * longest / (processes * batch))
    seen: dict[int, tuple[int, int]] = {}
    for rank in range(processes):
        positions = InfiniteBatchSampler(batch, rank, processes, 0)
        loaded = make_loader(samples, positions, workers)
        for wanted, given in zip(positions, islice(loaded, batches), strict=False):
            numbers = zip(given.source[:, 0, 0, 0], given.target[:, 0, 0, 0], strict=True)
            for position, (s, t) in zip(wanted, numbers, strict=True):
                assert position not in seen
                seen[position] = (int(s), int(t))
    return seen


def _assert_each_once(shards: int, processes: int, batch: int, workers: int) -> None:
    seen = _seen(shards, processes, batch, workers)
    assert sorted(seen) == list(range(len(seen)))
    for side, domain in enumerate((Numbered(shards), Numbered(6 - shards))):
        shown = [seen[position][side] for position in sorted(seen)]
        epochs = [
            shown[start : start + domain.length]
            for start in range(0, 3 * domain.length, domain.length)
        ]
        assert all(sorted(epoch) == list(range(domain.length)) for epoch in epochs)
        assert domain.length < 4 or epochs[0] != epochs[1]


@pytest.mark.parametrize("processes", range(1, 9))
def test_epoch_each_image_is_loaded_by_exactly_one_process(processes: int) -> None:
    for shards in range(1, 6):
        for batch in (1, 3):
            _assert_each_once(shards, processes, batch, workers=0)


@pytest.mark.parametrize(("processes", "shards"), [(1, 3), (2, 1), (3, 2)])
def test_epoch_each_image_is_loaded_by_exactly_one_worker(processes: int, shards: int) -> None:
    _assert_each_once(shards, processes, 2, workers=2)
