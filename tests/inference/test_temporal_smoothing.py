"""Temporal smoothing: still pixels are averaged, moving ones are not."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from agit_hub.data.shapes import draw
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.inference.prediction import Prediction, Rendering
from agit_hub.inference.temporal_smoothing import TemporalSmoother, motion
from tests.conftest import MakeModel

ROOT = Path(__file__).parents[2]
FRAMES, SIDE = 24, 64


def _frame(attention: float, change: float, grey: float = 0.0, side: int = 16) -> Prediction:
    """Return an even frame whose network input is one grey in [-1, 1]."""
    return Prediction(
        Image.new("RGB", (side, side)),
        torch.full((1, 3, side, side), grey),
        torch.full((1, 1, side, side), attention),
        torch.full((1, 3, side, side), change),
        threshold=0.1,
    )


def _assert_even(found: torch.Tensor, value: float) -> None:
    torch.testing.assert_close(found, torch.full_like(found, value))


@pytest.mark.parametrize(
    ("difference", "expected"),
    [(0, 0), (0.06, 0), (0.0125 + 0.095, 0.25), (0.155, 0.5), (0.25, 1), (2, 1)],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_motion_is_largest_difference_over_colours(
    difference: float, expected: float, sign: int
) -> None:
    before, now = torch.zeros(1, 3, 12, 14), torch.zeros(1, 3, 12, 14)
    now[:, 1] = sign * difference
    found = motion(before, now)
    assert found.shape == (1, 1, 12, 14)
    torch.testing.assert_close(found, torch.full_like(found, expected), atol=1e-6, rtol=0)


def test_motion_single_pixel_affects_neighbours() -> None:
    """Each is averaged with the eight around it; 0.9 / 9 = 0.1."""
    before, now = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    now[0, 2, 8, 7] = 0.9
    expected = torch.zeros(1, 1, 16, 16)
    expected[..., 7:10, 6:9] = (0.1 - 0.06) / (0.25 - 0.06)
    torch.testing.assert_close(motion(before, now), expected)
    # In a corner four pixels are averaged.
    now = torch.zeros(1, 3, 16, 16)
    now[0, 0, 0, 0] = 0.4
    assert motion(before, now)[0, 0, 0, 0] == pytest.approx((0.1 - 0.06) / (0.25 - 0.06))


def test_smoother_averages_still_pixels() -> None:
    smoother = TemporalSmoother(0.75)
    first = smoother.smooth(_frame(1, 0.5))
    _assert_even(first.attention, 1)
    second = smoother.smooth(_frame(0, 0))
    _assert_even(second.attention, 0.75)
    _assert_even(second.change, 0.375)
    third = smoother.smooth(_frame(0.25, 0))
    _assert_even(third.attention, 0.75 * 0.75 + 0.25 * 0.25)
    _assert_even(third.change, 0.75 * 0.375)
    assert third.threshold == 0.1


def test_smoother_moving_pixels_are_new() -> None:
    smoother = TemporalSmoother(0.75)
    smoother.smooth(_frame(1, 0.5, grey=-1))
    moved = smoother.smooth(_frame(0, 0, grey=0))
    _assert_even(moved.attention, 0)
    _assert_even(moved.change, 0)
    half = smoother.smooth(_frame(1, 1, grey=0.155))  # motion 0.5: 0.375 is kept
    _assert_even(half.attention, 0.625)
    _assert_even(half.change, 0.625)


def test_smoother_resets_moving_region_only() -> None:
    smoother = TemporalSmoother(0.75)
    smoother.smooth(_frame(1, 0.5))
    frame = _frame(0, 0)
    frame.network_input[..., :4] = 1
    attention = smoother.smooth(frame).attention[0, 0]
    _assert_even(attention[:, :4], 0)
    _assert_even(attention[:, 8:], 0.75)


def test_smoother_amount_0_returns_predictions_unchanged() -> None:
    smoother = TemporalSmoother(0)
    for frame in (_frame(1, 0.5), _frame(0, 0)):
        assert smoother.smooth(frame) is frame


def test_smoother_other_frame_size_resets() -> None:
    smoother = TemporalSmoother(0.75)
    smoother.smooth(_frame(1, 0.5))
    larger = smoother.smooth(_frame(0, 0, side=20))
    _assert_even(larger.attention, 0)
    _assert_even(smoother.smooth(_frame(1, 0, side=20)).attention, 0.25)


def test_smoother_does_not_modify_predictions() -> None:
    smoother = TemporalSmoother(0.75)
    frames = [_frame(1, 0.5), _frame(0, 0), _frame(0.5, 1)]
    before = [(f.network_input.clone(), f.attention.clone(), f.change.clone()) for f in frames]
    for frame in frames:
        smoother.smooth(frame)
    for frame, kept in zip(frames, before, strict=True):
        now = (frame.network_input, frame.attention, frame.change)
        assert all(torch.equal(a, b) for a, b in zip(now, kept, strict=True))


@pytest.mark.parametrize("amount", [-0.1, 1, 1.5, float("nan")])
def test_smoother_amount_out_of_range_is_refused(amount: float, make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match=f"smoothing is {amount}"):
        TemporalSmoother(amount)
    with pytest.raises(ValueError, match=f"smoothing is {amount}"):
        next(AGITPipeline(make_model()).stream([Image.new("RGB", (16, 16))], smoothing=amount))


@dataclass
class Clip:
    frames: list[Image.Image]
    still: list[npt.NDArray[np.bool_]]
    """Where the moving object is neither in this frame nor in the previous one."""


def _clip(label: str, index: int) -> Clip:
    """Return a still drawing that another's objects pass, two pixels a frame."""
    backdrop = np.asarray(draw(label, index, SIDE)[0])
    drawing, mask = draw(label, index + 1, SIDE)
    rows, columns = np.nonzero(mask)
    colours = np.asarray(drawing)[rows, columns]
    frames, covers = [], []
    for number in range(FRAMES):
        across = columns + 2 * (number - FRAMES // 2)
        inside = (across >= 0) & (across < SIDE)
        frame, cover = backdrop.copy(), np.zeros((SIDE, SIDE), np.bool_)
        frame[rows[inside], across[inside]] = colours[inside]
        cover[rows[inside], across[inside]] = True
        frames.append(Image.fromarray(frame))
        covers.append(cover)
    return Clip(frames, [~(a | b) for a, b in pairwise(covers)])


def _pairs(clip: Clip, renderings: list[Rendering]) -> tuple[list[float], list[float]]:
    """Return frame differences of still pixels: outside both final maps, and inside both."""
    outside: list[float] = []
    inside: list[float] = []
    for still, a, b in zip(clip.still, renderings, renderings[1:], strict=False):
        before, after = (np.asarray(each.image, dtype=int) for each in (a, b))
        difference = np.abs(after - before).mean(axis=-1)
        outside += difference[still & (a.attention == 0) & (b.attention == 0)].tolist()
        inside += difference[still & (a.attention > 0) & (b.attention > 0)].tolist()
    return outside, inside


@pytest.mark.parametrize("label", ["plain", "striped"])
def test_stream_smoothing_halves_flicker(label: str) -> None:
    pipeline = AGITPipeline.from_pretrained(ROOT / "space" / "models" / "agit-shapes", device="cpu")
    to = {"plain": "striped", "striped": "plain"}[label]
    flicker: dict[float, list[float]] = {0.0: [], 0.9: []}
    for clip in (_clip(label, index) for index in (0, 2, 4)):
        for amount, found in flicker.items():
            outside, inside = _pairs(
                clip, list(pipeline.stream(clip.frames, to=to, smoothing=amount))
            )
            assert len(outside) > 10_000 and not any(outside)
            assert len(inside) > 1_000
            found += inside
    without, smoothed = (float(np.mean(flicker[amount])) for amount in (0.0, 0.9))
    assert without > 1  # the test is meaningful
    assert smoothed <= without / 2
