"""Measures worked out by hand, and a witness that must be right about real drawings."""

import numpy as np
import pytest
import torch
from PIL import Image

from agit_hub.data import shapes
from agit_hub.evaluation.judge import ObjectJudge
from agit_hub.evaluation.measures import background_change, iou

MASK = np.array([[True, True, False], [False, False, False]])


@pytest.mark.parametrize(
    ("attention", "threshold", "expected"),
    [
        ([[1, 1, 0], [0, 0, 0]], 0.5, 1),
        ([[0, 0, 1], [1, 1, 1]], 0.5, 0),
        ([[1, 0, 1], [0, 0, 0]], 0.5, 1 / 3),
        ([[1, 1, 1], [1, 1, 1]], 0.5, 2 / 6),
        ([[0, 0, 0], [0, 0, 0]], 0.5, 0),
        # What lies at the threshold is not above it.
        ([[0.5, 0.6, 0.5], [0, 0, 0]], 0.5, 1 / 2),
        ([[0.3, 0.1, 0.3], [0.2, 0, 0]], 0.2, 1 / 3),
        ([[0.1, 0.1, 0], [0, 0, 0.1]], 0, 2 / 3),
    ],
)
def test_intersection_over_union(
    attention: list[list[float]], threshold: float, expected: float
) -> None:
    assert iou(np.array(attention, np.float32), MASK, threshold) == pytest.approx(expected)


def test_two_empty_maps_agree() -> None:
    nothing = np.zeros((2, 3), np.float32)
    assert iou(nothing, nothing > 0) == 1
    assert iou(nothing + 1, nothing > 0) == 0


def test_background_change_is_a_share_of_the_full_range_outside_the_objects() -> None:
    before = np.full((2, 3, 3), 100, np.uint8)
    after = before.copy()
    assert background_change(before, after, MASK) == 0
    after[MASK] = 255  # what happens to the objects does not count
    assert background_change(before, after, MASK) == 0
    after[0, 2] = (90, 100, 130)
    after[1, 0] = (0, 255, 100)
    # Four background pixels of three channels.
    expected = (10 + 0 + 30 + 100 + 155) / 12 / 255
    assert background_change(before, after, MASK) == pytest.approx(expected)
    assert background_change(after, before, MASK) == pytest.approx(expected)
    black, white = np.zeros_like(before), np.full_like(before, 255)
    assert background_change(black, white, MASK) == background_change(white, black, MASK) == 1


@pytest.fixture(scope="module")
def judge() -> ObjectJudge:
    torch.set_num_threads(1)
    state = torch.get_rng_state()
    made = ObjectJudge(64)
    assert torch.equal(torch.get_rng_state(), state)
    return made


def test_the_judge_is_right_about_drawings_it_has_never_seen(judge: ObjectJudge) -> None:
    assert judge.accuracy >= 0.98
    for label, other in (shapes.LABELS, shapes.LABELS[::-1]):
        drawn = [shapes.draw(label, index, 64, seed=7) for index in range(40)]
        pictures, masks = [p for p, _ in drawn], [m for _, m in drawn]
        assert judge.share(label, pictures, masks) >= 0.95
        share = judge.share(other, pictures, masks)
        assert share == pytest.approx(1 - judge.share(label, pictures, masks))


def test_the_judge_looks_at_the_objects_alone(judge: ObjectJudge) -> None:
    """Stripes painted on the background turn no plain object into a striped one."""
    stripes = Image.fromarray(np.tile(np.arange(64) // 3 % 2 * 255, (64, 1)).astype(np.uint8))
    drawn = [shapes.draw("plain", index, 64, seed=7) for index in range(20)]
    pictures, masks = [p for p, _ in drawn], [m for _, m in drawn]
    on_stripes = [
        Image.composite(picture, stripes.convert("RGB"), Image.fromarray(mask))
        for picture, mask in drawn
    ]
    assert judge.share("plain", on_stripes, masks) == judge.share("plain", pictures, masks)
    everywhere = [np.ones_like(mask) for mask in masks]
    assert judge.share("striped", [stripes.convert("RGB")] * 20, everywhere) == 1
