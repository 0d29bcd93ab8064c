"""Subset: the held-out images and the rest."""

import pytest
from PIL import Image

from agit_hub.data.domains.subset import Subset

LENGTHS = (1, 2, 3, 7, 9, 10, 11, 20, 21)


class Known:
    """A domain whose images encode their location in their color."""

    window = 2

    has_masks = False

    def __init__(self, lengths: tuple[int, ...], counted: bool = True) -> None:
        self._lengths = lengths
        self.blocks = len(lengths)
        self.shards = tuple(block // 2 for block in range(self.blocks))
        self.length = sum(lengths) if counted else None
        self.prepared: list[int] = []

    def block_length(self, block: int) -> int:
        return self._lengths[block]

    def prepare(self, block: int) -> None:
        self.prepared.append(block)

    def image(self, block: int, row: int) -> Image.Image:
        assert 0 <= row < self._lengths[block]
        return Image.new("RGB", (1, 1), (block, row, 0))

    def mask(self, block: int, row: int) -> None:
        return None

    def describe(self, block: int, row: int) -> str:
        return f"{block}/{row}"


def _rows(part: Subset) -> list[tuple[int, int]]:
    """Return the location in the whole domain of each image, in the subset's order."""
    found = []
    for block in range(part.blocks):
        for row in range(part.block_length(block)):
            red, green, _ = part.image(block, row).getpixel((0, 0))  # type: ignore[misc]
            assert part.describe(block, row) == f"{red}/{green}"
            found.append((red, green))
    return found


@pytest.mark.parametrize("every", [2, 3, 10])
def test_subset_both_parts_together_are_the_whole(every: int) -> None:
    whole = Known(LENGTHS)
    held_out, kept = Subset(whole, every, held_out=True), Subset(whole, every, held_out=False)
    one, other = _rows(held_out), _rows(kept)
    everything = [(b, row) for b, length in enumerate(LENGTHS) for row in range(length)]
    # Sorted lists, so that duplicates are detected.
    assert sorted(one + other) == everything
    assert one == sorted(one) and other == sorted(other)
    assert len(one) == sum(LENGTHS) // every
    assert (held_out.length, kept.length) == (len(one), len(other))


def test_subset_holds_out_every_nth_image_of_the_domain() -> None:
    whole = Known((8, 2))
    assert _rows(Subset(whole, 3, held_out=True)) == [(0, 2), (0, 5), (1, 0)]
    assert _rows(Subset(whole, 3, held_out=False)) == [
        *((0, row) for row in (0, 1, 3, 4, 6, 7)),
        (1, 1),
    ]
    assert _rows(Subset(whole, 2, held_out=True)) == [(0, 1), (0, 3), (0, 5), (0, 7), (1, 1)]


@pytest.mark.parametrize("counted", [True, False])
def test_subset_of_blocks_smaller_than_every_holds_out_its_share(counted: bool) -> None:
    whole = Known((9,) * 10, counted)
    one, other = (_rows(Subset(whole, 10, held_out)) for held_out in (True, False))
    assert len(one) == 9
    assert sorted(one + other) == [(block, row) for block in range(10) for row in range(9)]


def test_subset_keeps_blocks_shards_and_window() -> None:
    whole = Known(LENGTHS)
    for held_out in (True, False):
        part = Subset(whole, 3, held_out)
        assert (part.blocks, part.window) == (len(LENGTHS), 2)
        assert tuple(part.shards) == (0, 0, 1, 1, 2, 2, 3, 3, 4)
        part.prepare(4)
    assert whole.prepared == [4, 4]


def test_subset_length_of_uncounted_domain_is_none() -> None:
    """Reading the length must not fetch all shards to count them."""
    whole = Known((5, 5), counted=False)
    part = Subset(whole, 2, held_out=False)
    assert part.length is None
    whole.length = 10
    assert part.length == 5  # rows 1 and 3 of the first block, 0, 2 and 4 of the second
