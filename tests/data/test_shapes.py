"""draw: the built-in plain and striped image domains."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agit_hub.data.shapes import LABELS, draw

COUNT = 200
ROOT = Path(__file__).resolve().parents[2]


@cache
def _images(label: str, start: int) -> tuple[np.ndarray, np.ndarray]:
    drawn = [draw(label, index) for index in range(start, start + COUNT)]
    return np.stack([np.asarray(image) for image, _ in drawn]), np.stack([m for _, m in drawn])


def _mean_iou(guess: np.ndarray, mask: np.ndarray) -> float:
    both = (guess & mask).sum((1, 2))
    return float(np.mean(both / np.maximum((guess | mask).sum((1, 2)), 1)))


def _best_iou(score: np.ndarray, mask: np.ndarray) -> float:
    cuts = np.unique(np.quantile(score, np.linspace(0, 0.98, 50)))
    return max(_mean_iou(score >= cut, mask) for cut in cuts)


def _quadratic(pixels: np.ndarray) -> np.ndarray:
    r, g, b = (pixels.reshape(-1, 3) / 255).T
    return np.stack([np.ones_like(r), r, g, b, r * r, g * g, b * b, r * g, r * b, g * b], 1)


def _bins(pixels: np.ndarray) -> np.ndarray:
    return (pixels.reshape(-1, 3) // 16).astype(np.intp) @ np.array([256, 16, 1])


def _luma(pixels: np.ndarray) -> np.ndarray:
    return pixels @ np.array([0.299, 0.587, 0.114]) / 255


@pytest.mark.parametrize("label", LABELS)
def test_draw_image_and_mask_have_documented_form(label: str) -> None:
    for size in (16, 50, 64):
        image, mask = draw(label, 3, size)
        assert image.mode == "RGB" and image.size == (size, size)
        assert mask.dtype == np.bool_ and mask.shape == (size, size)


def test_draw_depends_on_its_arguments_only() -> None:
    keys = [(label, index, seed) for label in LABELS for index in range(3) for seed in (0, 5)]
    there = {key: draw(key[0], key[1], seed=key[2]) for key in keys}
    np.random.seed(1)
    for key in reversed(keys):
        image, mask = draw(key[0], key[1], seed=key[2])
        assert image.tobytes() == there[key][0].tobytes()
        assert mask.tobytes() == there[key][1].tobytes()
    assert len({image.tobytes() for image, _ in there.values()}) == len(keys)


@pytest.mark.parametrize("label", LABELS)
def test_draw_any_size_shows_the_same_scene(label: str) -> None:
    for index in range(12):
        small, mask = draw(label, index, 64)
        for size in (128, 192):
            large, wide = draw(label, index, size)
            factor = size // 64
            cover = wide.reshape(64, factor, 64, factor).mean((1, 3)) > 0.5
            assert _mean_iou(cover[None], mask[None]) > 0.95
            reduced = np.asarray(large.reduce(factor), dtype=float)
            assert np.abs(reduced - np.asarray(small, dtype=float)).mean() < 4
    tiny, _ = draw(label, 0, 16)
    reduced = np.asarray(draw(label, 0, 64)[0].reduce(4), dtype=float)
    assert np.abs(reduced - np.asarray(tiny, dtype=float)).mean() < 8


def test_draw_mask_covers_the_objects() -> None:
    extreme = {}
    for label in LABELS:
        pixels, masks = _images(label, 0)
        luma = _luma(pixels)
        extreme[label] = np.mean((luma < 0.27) | (luma > 0.66), where=masks)
        assert 0.3 < np.mean(luma > 0.45, where=masks) < 0.65
    # Stripes are light or dark; plain objects are medium except for their highlight and rim.
    assert extreme["striped"] > 0.65
    assert extreme["plain"] < 0.3
    pixels, masks = _images("plain", 0)
    # The image changes more across an outline than between neighbors elsewhere.
    across = np.abs(np.diff(pixels.astype(float), axis=2)).sum(3)
    border = masks[:, :, 1:] != masks[:, :, :-1]
    assert across[border].mean() > 3 * across[~border].mean()


def test_draw_striped_objects_alternate_light_and_dark() -> None:
    for index in range(20):
        image, mask = draw("striped", index)
        luma = _luma(np.asarray(image))[mask]
        assert 0.25 < np.mean(luma > 0.5) < 0.75


def test_draw_backgrounds_share_a_distribution_but_no_scene() -> None:
    (plain, on_plain), (striped, on_striped) = _images("plain", 0), _images("striped", 0)
    for one, other in zip(range(40), range(40), strict=True):
        free = ~on_plain[one] & ~on_striped[other]
        gap = np.abs(plain[one][free].astype(float) - striped[other][free].astype(float))
        assert gap.mean() > 5
        assert not np.array_equal(on_plain[one], on_striped[other])
    marks = np.linspace(0.05, 0.95, 10)
    ours, theirs = plain[~on_plain], striped[~on_striped]
    for channel in range(3):
        gap = np.quantile(ours[:, channel], marks) - np.quantile(theirs[:, channel], marks)
        assert np.abs(gap).max() < 40


@pytest.mark.parametrize("label", LABELS)
def test_draw_object_area_is_in_range(label: str) -> None:
    area = _images(label, 0)[1].mean((1, 2))
    assert 0.25 < area.mean() < 0.31
    assert area.min() > 0.10 and area.max() < 0.45


@pytest.mark.parametrize("label", LABELS)
def test_draw_full_mask_or_center_box_does_not_find_objects(label: str) -> None:
    masks = _images(label, 0)[1]
    assert _mean_iou(np.ones_like(masks), masks) <= 0.35
    for half in range(4, 33):
        box = np.zeros((64, 64), np.bool_)
        box[32 - half : 32 + half, 32 - half : 32 + half] = True
        assert _mean_iou(np.broadcast_to(box, masks.shape), masks) <= 0.35


@pytest.mark.parametrize("label", LABELS)
def test_draw_color_alone_does_not_find_objects(label: str) -> None:
    seen, truth = _images(label, 1000)
    pixels, masks = _images(label, 0)
    target = truth.ravel().astype(float)
    features = _quadratic(seen)
    weights = np.linalg.solve(features.T @ features, features.T @ target)
    linear = (_quadratic(pixels) @ weights).reshape(masks.shape)
    assert _best_iou(linear, masks) <= 0.55
    total = np.bincount(_bins(seen), minlength=4096)
    posterior = np.bincount(_bins(seen), target, minlength=4096) / np.maximum(total, 1)
    assert _best_iou(posterior[_bins(pixels)].reshape(masks.shape), masks) <= 0.55


def test_draw_invalid_argument_raises() -> None:
    with pytest.raises(ValueError, match=r"spotted.*plain.*striped"):
        draw("spotted", 0)
    with pytest.raises(ValueError, match="at least 16"):
        draw("plain", 0, 15)
    with pytest.raises(ValueError, match="not be negative"):
        draw("plain", -1)
    with pytest.raises(ValueError, match="not be negative"):
        draw("plain", 0, seed=-1)


def test_draw_image_can_be_saved_and_reopened(tmp_path: Path) -> None:
    image, _ = draw("striped", 1)
    image.save(tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as again:
        assert again.tobytes() == image.tobytes()


def test_shapes_import_needs_numpy_and_pillow_only() -> None:
    code = (
        "import sys, agit_hub.data.shapes\n"
        "heavy = {'torch', 'torchvision', 'datasets', 'huggingface_hub', 'scipy', 'matplotlib'}\n"
        "sys.exit(' '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
