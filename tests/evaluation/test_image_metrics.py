"""Metrics against values computed by hand, and the accuracy of the shapes classifier."""

import numpy as np
import pytest
import torch
from PIL import Image

from agit_hub.data import shapes
from agit_hub.evaluation.image_metrics import (
    THRESHOLDS,
    Change,
    Mask,
    Pixels,
    average_precision,
    centre_box,
    change_outside,
    identical_share,
    image_metrics,
    iou,
    iou_curve,
    points_at_object,
)
from agit_hub.evaluation.shapes_classifier import ShapesClassifier

MASK = np.array([[True, True, False], [False, False, False]])


@pytest.mark.parametrize(
    ("attention", "threshold", "expected"),
    [
        ([[1, 1, 0], [0, 0, 0]], 0.5, 1),
        ([[0, 0, 1], [1, 1, 1]], 0.5, 0),
        ([[1, 0, 1], [0, 0, 0]], 0.5, 1 / 3),
        ([[1, 1, 1], [1, 1, 1]], 0.5, 2 / 6),
        ([[0, 0, 0], [0, 0, 0]], 0.5, 0),
        # A value at the threshold is not above it.
        ([[0.5, 0.6, 0.5], [0, 0, 0]], 0.5, 1 / 2),
        ([[0.3, 0.1, 0.3], [0.2, 0, 0]], 0.2, 1 / 3),
        ([[0.1, 0.1, 0], [0, 0, 0.1]], 0, 2 / 3),
    ],
)
def test_iou_of_known_maps(attention: list[list[float]], threshold: float, expected: float) -> None:
    assert iou(np.array(attention, np.float32), MASK, threshold) == pytest.approx(expected)


def test_iou_of_two_empty_maps_is_1() -> None:
    nothing = np.zeros((2, 3), np.float32)
    assert iou(nothing, nothing > 0) == 1
    assert iou(nothing + 1, nothing > 0) == 0


HALF = np.zeros((16, 16), bool)
HALF[:8] = True


def _change(before: Pixels, after: Pixels) -> Change:
    found = change_outside(before, after, HALF)
    assert found is not None
    return found


def test_change_outside_is_a_share_of_the_full_range() -> None:
    before = np.full((16, 16, 3), 100, np.uint8)
    after = before.copy()
    assert _change(before, after) == Change(0, 100, pytest.approx(1))
    after[HALF] = 255  # changes of the objects do not count
    assert _change(before, after).error == 0
    after[8, 2] = (90, 100, 130)
    after[15, 0] = (0, 255, 100)
    # 128 background pixels of three channels.
    steps = (10, 0, 30, 100, 155)
    assert _change(before, after).error == pytest.approx(sum(steps) / 384 / 255)
    squared = sum(step**2 for step in steps) / 384
    assert _change(before, after).psnr == pytest.approx(10 * np.log10(255**2 / squared))
    assert _change(after, before).error == _change(before, after).error
    black, white = np.zeros_like(before), np.full_like(before, 255)
    assert _change(black, white).error == _change(white, black).error == 1
    assert change_outside(black, white, np.ones_like(HALF)) is None


def test_change_outside_ssim_drops_with_the_backgrounds_structure() -> None:
    random = np.random.default_rng(0)
    before = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mask = np.zeros((32, 32), bool)
    mask[:8] = True
    after = before.copy()
    after[:2] = 0  # outside the reach of the window, which is five pixels
    unchanged = change_outside(before, after, mask)
    assert unchanged is not None and unchanged.ssim == pytest.approx(1, abs=1e-6)
    after[16:] = 255 - after[16:]
    changed = change_outside(before, after, mask)
    assert changed is not None and changed.ssim < 0.5


def test_iou_curve_equals_iou_at_each_threshold() -> None:
    random = np.random.default_rng(0)
    attention = (random.integers(0, 101, (9, 7)) / 100).astype(np.float32)
    mask = random.random((9, 7)) < 0.3
    expected = [iou(attention, mask, np.float32(t)) for t in THRESHOLDS]
    assert iou_curve(attention, mask).tolist() == pytest.approx(expected)
    nothing = np.zeros_like(mask)
    assert iou_curve(np.zeros_like(attention), nothing).tolist() == [1] * len(THRESHOLDS)


def test_average_precision_of_known_maps() -> None:
    # Sorted by the map: hit, miss, hit, miss. Precision 1 at recall 1/2, 2/3 at recall 1.
    attention = np.array([[0.9, 0.8], [0.7, 0.1]], np.float32)
    mask = np.array([[True, False], [True, False]])
    assert average_precision(attention, mask) == pytest.approx((1 + 2 / 3) / 2)
    even = np.full_like(attention, 0.3)
    assert average_precision(even, mask) == pytest.approx(0.5)
    assert average_precision(attention, np.zeros_like(mask)) is None


def test_points_at_object_needs_most_of_the_maximum() -> None:
    attention = np.array([[0.9, 0.8], [0.7, 0.1]], np.float32)
    assert points_at_object(attention, np.array([[True, False], [False, False]]))
    assert not points_at_object(attention, np.array([[False, True], [True, True]]))
    # A uniform map points at whatever covers most of the image.
    assert not points_at_object(np.ones((2, 2), np.float32), np.eye(2, dtype=bool))


def test_centre_box_covers_half_of_each_side() -> None:
    assert centre_box(4, 8).tolist() == [
        [0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0],
    ]


def test_identical_share_counts_pixels_equal_in_every_byte() -> None:
    before = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    after = before.copy()
    assert identical_share(before, after) == 1
    after[0, 0, 2] += 1  # a single byte of a pixel
    after[1, 3] += 5
    assert identical_share(before, after) == 6 / 8


@pytest.fixture(scope="module")
def classifier() -> ShapesClassifier:
    torch.set_num_threads(1)
    state = torch.get_rng_state()
    made = ShapesClassifier(64)
    assert torch.equal(torch.get_rng_state(), state)
    return made


def _share(
    classifier: ShapesClassifier, label: str, images: list[Image.Image], masks: list[Mask]
) -> float:
    return sum(classifier(images, masks, label)) / len(images)


@pytest.mark.slow
def test_shapes_classifier_is_accurate_on_unseen_drawings(classifier: ShapesClassifier) -> None:
    assert classifier.accuracy >= 0.98
    for label, other in (shapes.LABELS, shapes.LABELS[::-1]):
        drawn = [shapes.draw(label, index, 64, seed=7) for index in range(40)]
        images, masks = [p for p, _ in drawn], [m for _, m in drawn]
        assert _share(classifier, label, images, masks) >= 0.95
        share = _share(classifier, other, images, masks)
        assert share == pytest.approx(1 - _share(classifier, label, images, masks))


def test_shapes_classifier_ignores_the_background(classifier: ShapesClassifier) -> None:
    """Stripes on the background do not change the class of a plain object."""
    stripes = Image.fromarray(np.tile(np.arange(64) // 3 % 2 * 255, (64, 1)).astype(np.uint8))
    drawn = [shapes.draw("plain", index, 64, seed=7) for index in range(20)]
    images, masks = [p for p, _ in drawn], [m for _, m in drawn]
    on_stripes = [
        Image.composite(image, stripes.convert("RGB"), Image.fromarray(mask))
        for image, mask in drawn
    ]
    assert classifier(on_stripes, masks, "plain") == classifier(images, masks, "plain")
    everywhere = [np.ones_like(mask) for mask in masks]
    assert classifier([stripes.convert("RGB")] * 20, everywhere, "striped") == [1] * 20


def test_change_outside_ignores_the_object() -> None:
    """Repainting the object changes no metric of the background, its structural similarity included."""
    random = np.random.default_rng(0)
    before = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    repainted = before.copy()
    repainted[:8] = random.integers(0, 256, (8, 16, 3), dtype=np.uint8)
    assert _change(before, repainted) == Change(0, 100, 1)
    noisy = before.copy()
    noisy[12:] = 255 - noisy[12:]
    both = np.where(HALF[..., None], repainted, noisy)
    assert _change(before, both) == _change(before, noisy)
    assert _change(before, noisy).ssim < 0.9


def test_image_metrics_without_object_have_no_baseline_of_average_precision() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    attention = np.full((16, 16), 0.5, np.float32)
    assert "object_share" not in image_metrics(pixels, pixels, attention, HALF & False, 0.1)
    assert image_metrics(pixels, pixels, attention, HALF, 0.1)["object_share"] == 0.5
