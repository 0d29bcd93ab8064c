"""UnpairedDataset, InfiniteBatchSampler and make_loader: order, augmentation, damaged images."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from agit_hub.data.dataset import InfiniteBatchSampler, UnpairedBatch, UnpairedDataset, make_loader
from agit_hub.data.domains.base import Domain
from agit_hub.data.domains.files import FilesDomain
from agit_hub.data.inventory import Inventory
from agit_hub.data.store import FolderStore
from agit_hub.errors import DataError

SIZE = 16


class Numbered:
    """Images that encode their number (blue) and each pixel's position (red x, green y)."""

    blocks = 1
    window = 1
    shards = (0,)

    has_masks = False

    def __init__(self, length: int, side: int = SIZE) -> None:
        self.length = length
        self._side = side

    def block_length(self, block: int) -> int:
        return self.length

    def prepare(self, block: int) -> None:
        pass

    def image(self, block: int, row: int) -> Image.Image:
        assert block == 0 and 0 <= row < self.length
        y, x = np.mgrid[: self._side, : self._side].astype(np.uint8)
        return Image.fromarray(np.stack([x, y, np.full_like(x, row)], axis=-1))

    def mask(self, block: int, row: int) -> None:
        return None

    def describe(self, block: int, row: int) -> str:
        return f"number {row}"


def _folder(path: Path) -> Domain:
    store = FolderStore(path)
    return FilesDomain(store, Inventory(store).items, shorter_side=16)


def _numbers(samples: UnpairedDataset, count: int, start: int = 0) -> list[tuple[int, int]]:
    """Return the image numbers of each domain at each position."""
    drawn = (samples[position] for position in range(start, start + count))
    return [(int(s.source[2, 0, 0]), int(s.target[2, 0, 0])) for s in drawn]


def _samples(source: int = 7, target: int = 5, **changes: object) -> UnpairedDataset:
    return UnpairedDataset(Numbered(source), Numbered(target), SIZE, **changes)  # type: ignore[arg-type]


def test_dataset_each_domain_repeats_permutations_of_its_own_length() -> None:
    samples = _samples()
    assert samples.epoch == 7  # an epoch is as long as the longer domain
    sources, targets = zip(*_numbers(samples, 35), strict=True)
    for stream, length in ((sources, 7), (targets, 5)):
        epochs = [stream[k : k + length] for k in range(0, 35, length)]
        assert all(sorted(epoch) == list(range(length)) for epoch in epochs)
        assert len(set(epochs)) > 1
    # The order does not depend on the length of the other domain.
    assert [s for s, _ in _numbers(_samples(target=30), 35)] == list(sources)
    assert [t for _, t in _numbers(_samples(source=3), 35)] == list(targets)


def test_dataset_order_depends_on_seed_domain_and_position_only() -> None:
    forwards = _numbers(_samples(12, 12, seed=3), 60)
    used = _samples(12, 12, seed=3)
    backwards = [_numbers(used, 1, position)[0] for position in reversed(range(60))]
    assert backwards[::-1] == forwards
    assert _numbers(_samples(12, 12, seed=4), 60) != forwards
    # Domains of equal length have different orders; otherwise the pairs would be permanent.
    assert sum(source == target for source, target in forwards) < 20


def test_dataset_without_shuffle_keeps_pairs_and_repeats_the_shorter_domain() -> None:
    """Row i of the authors' file pairs images i modulo the length of each domain, in every epoch."""
    pairs = _numbers(_samples(4, 3, shuffle=False), 9)
    epoch = [(0, 0), (1, 1), (2, 2), (3, 0)]
    assert pairs == [*epoch, *epoch, epoch[0]]


def _seen(samples: UnpairedDataset, position: int) -> tuple[tuple[int, int, bool], ...]:
    """Return the crop offset and whether the crop was flipped, for each domain."""
    places = []
    for image in samples[position][:2]:
        red = image[0].int()
        mirrored = bool(red[0, 0] > red[0, 1])
        places.append((int(red.min()), int(image[1].min()), mirrored))
    return tuple(places)


def test_dataset_augmentation_depends_on_the_position_and_varies() -> None:
    def make(flip: bool = True, seed: int = 0) -> UnpairedDataset:
        domain = Numbered(5, side=24)  # 16 times the margin of 1.5: nothing is resampled
        return UnpairedDataset(domain, domain, SIZE, crop_margin=1.5, flip=flip, seed=seed)

    first = [_seen(make(), position) for position in range(60)]
    again = make()
    assert [_seen(again, position) for position in reversed(range(60))] == first[::-1]
    assert [_seen(make(seed=1), position) for position in range(60)] != first
    lefts, tops, mirrored = ({place[k] for pair in first for place in pair} for k in range(3))
    assert lefts == tops == set(range(9)) and mirrored == {True, False}
    assert sum(source == target for source, target in first) < 10
    assert not any(place[2] for k in range(60) for place in _seen(make(flip=False), k))


def test_dataset_sample_has_documented_shape_and_type() -> None:
    sample = UnpairedDataset(Numbered(2, 40), Numbered(2, 9), SIZE)[0]
    for image in (sample.source, sample.target):
        assert image.shape == (3, SIZE, SIZE) and image.dtype == torch.uint8
    assert sample.unreadable == []


def _batches(positions: InfiniteBatchSampler, count: int) -> list[list[int]]:
    return list(islice(positions, count))


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_batch_sampler_ranks_cover_every_position_once(processes: int) -> None:
    ranks = [
        _batches(InfiniteBatchSampler(4, rank, processes, start=0), 5) for rank in range(processes)
    ]
    assert all(len(batch) == 4 for rank in ranks for batch in rank)
    # Over all steps and ranks the positions are consecutive.
    together = [p for step in zip(*ranks, strict=True) for batch in step for p in batch]
    assert together == list(range(4 * 5 * processes))
    for rank in range(processes):
        later = _batches(InfiniteBatchSampler(4, rank, processes, start=3), 2)
        assert later == ranks[rank][3:]


def _loaded(
    samples: UnpairedDataset, workers: int, count: int, start: int = 0
) -> list[UnpairedBatch]:
    return list(islice(make_loader(samples, InfiniteBatchSampler(3, 0, 1, start), workers), count))


def _as_lists(batches: list[UnpairedBatch]) -> Iterator[object]:
    for batch in batches:
        yield batch.source.tolist(), batch.target.tolist(), batch.unreadable


def test_loader_workers_give_same_batches_and_keep_the_random_state(tmp_path: Path) -> None:
    _write(tmp_path, good=3, damaged=[1])
    folder = _folder(tmp_path)
    samples = UnpairedDataset(folder, Numbered(5, 24), SIZE, crop_margin=1.25, seed=2)
    state = torch.get_rng_state()
    alone = list(_as_lists(_loaded(samples, 0, 6)))
    assert list(_as_lists(_loaded(samples, 2, 6))) == alone
    assert torch.equal(torch.get_rng_state(), state)
    assert list(_as_lists(_loaded(samples, 2, 3, start=3))) == alone[3:]
    first, *_ = _loaded(samples, 0, 1)
    assert first.source.shape == (3, 3, SIZE, SIZE) and first.source.dtype == torch.uint8
    singly = torch.stack([samples[position].source for position in range(3)])
    assert torch.equal(first.source, singly)


def _write(folder: Path, good: int, damaged: list[int]) -> None:
    """Write images a.png, b.png, ... whose blue is their number; damaged ones are truncated."""
    for index in range(good + len(damaged)):
        path = folder / f"{'abcdefgh'[index]}.png"
        Numbered(8).image(0, index).save(path)
        if index in damaged:
            path.write_bytes(path.read_bytes()[:-60])


def test_dataset_damaged_image_is_replaced_by_the_next_and_named(tmp_path: Path) -> None:
    _write(tmp_path, good=3, damaged=[1, 2, 4])
    samples = UnpairedDataset(_folder(tmp_path), Numbered(6), SIZE, shuffle=False)
    assert [source for source, _ in _numbers(samples, 6)] == [0, 3, 3, 3, 5, 5]
    named = [[Path(n.split(" (")[0]).name for n in samples[k].unreadable] for k in range(6)]
    assert named == [[], ["b.png", "c.png"], ["c.png"], [], ["e.png"], []]
    assert str(tmp_path / "b.png") in samples[1].unreadable[0]
    batch = _loaded(samples, 0, 1)[0]
    assert len(batch.unreadable) == 3


def test_dataset_damaged_last_image_is_replaced_by_the_first(tmp_path: Path) -> None:
    _write(tmp_path, good=2, damaged=[2])
    samples = UnpairedDataset(_folder(tmp_path), Numbered(3), SIZE, shuffle=False)
    assert _numbers(samples, 3)[2][0] == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_dataset_no_readable_image_left_raises(workers: int, tmp_path: Path) -> None:
    _write(tmp_path, good=2, damaged=[])
    samples = UnpairedDataset(_folder(tmp_path), Numbered(2), SIZE)
    for file in tmp_path.iterdir():
        file.write_bytes(b"overwritten while training")
    with pytest.raises(DataError, match="None of the 2 images") as raised:
        _loaded(samples, workers, 1)
    assert str(tmp_path) in str(raised.value)


def test_dataset_zoom_enlarges_each_sample_by_its_own_factor() -> None:
    """A sample of 16 pixels shows between half and all of an image of 128 pixels."""
    samples = UnpairedDataset(Numbered(1, 128), Numbered(1, 128), SIZE, zoom=2.0, flip=False)
    shown = []
    for position in range(200):
        for sample in samples[position][:2]:
            columns = sample[0].float().mean(dim=0)  # where each column comes from
            shown.append(((columns[-1] - columns[0]) / 15 * 16).item())
    assert min(shown) == pytest.approx(64, rel=0.06) and max(shown) == pytest.approx(128, rel=0.06)
    # The median of a log-uniform factor is the square root of its maximum.
    assert np.median(shown) == pytest.approx(128 / 2**0.5, rel=0.06)
    first = UnpairedDataset(Numbered(1, 128), Numbered(1, 128), SIZE, flip=False)[0]
    assert torch.equal(
        UnpairedDataset(Numbered(1, 128), Numbered(1, 128), SIZE, zoom=1.0, flip=False)[0].source,
        first.source,
    )
