"""What holds for every image, whatever its mode, size and metadata: tried on generated ones."""

import io
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from agit_hub.inference.compositing import composite_image, to_upright
from agit_hub.inference.edits import AttentionEdits, apply_edits
from agit_hub.inference.image_io import lossless_suffix, save_image
from tests.modes import MODES, noise

FAST = settings(max_examples=150, deadline=None, derandomize=True, print_blob=True)
LONG = settings(
    FAST,
    max_examples=2000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
SIZES = st.tuples(st.integers(1, 48), st.integers(1, 48))


class Case(NamedTuple):
    """An image, and what a network says of it."""

    image: Image.Image
    change: torch.Tensor
    attention: npt.NDArray[np.float32]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Generate images of all modes with metadata, and maps of which a part is exactly 0."""
    mode, size, seed = draw(st.sampled_from([*MODES])), draw(SIZES), draw(st.integers(0, 2**31))
    image = noise(mode, size, seed)
    if draw(st.booleans()):
        image.info["dpi"] = draw(st.sampled_from([(72, 72), (300, 150), (96.5, 96.5)]))
    if draw(st.booleans()) and mode in ("L", "RGB"):
        image.info["transparency"] = image.getpixel((0, 0))
    random = np.random.default_rng(seed)
    height, width = size[::-1]
    attention = random.random((height, width)).astype(np.float32)
    attention[random.random((height, width)) < draw(st.sampled_from([0, 0.3, 0.9, 1]))] = 0
    if draw(st.booleans()):
        attention = np.rint(attention)
    change = torch.from_numpy(random.uniform(-2, 2, (1, 3, 8, 8))).float()
    return Case(image, change, attention)


def _values(image: Image.Image) -> npt.NDArray[Any]:
    values = np.asarray(image)
    return values.astype(int) if values.dtype == bool else values.astype(np.float64)


def _check_laws(case: Case) -> None:
    upright = to_upright(case.image)
    before = _values(upright)
    result = composite_image(upright, case.change, case.attention)
    after = _values(result)
    assert (result.size, result.mode, result.info) == (upright.size, upright.mode, upright.info)
    assert np.array_equal(after[case.attention == 0], before[case.attention == 0])
    if "A" in upright.getbands():
        assert np.array_equal(after[..., -1], before[..., -1])
    unchanged = composite_image(upright, case.change * 0, case.attention)
    unit = 2.0**-16 if upright.mode == "F" else 1
    assert np.abs(_values(unchanged) - before).max() <= unit
    if "transparency" in upright.info:
        key = np.asarray(upright.info["transparency"])
        was, is_now = (
            (each == key).reshape(*each.shape[:2], -1).all(-1) for each in (before, after)
        )
        assert np.array_equal(was, is_now)
    _check_file(case, upright, result)


def _check_file(case: Case, upright: Image.Image, result: Image.Image) -> None:
    """A lossless file holds the same pixels and metadata."""
    if upright.mode in ("YCbCr", "HSV"):  # no lossless format has them: the file is RGB
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"result{lossless_suffix(result.mode)}")
        save_image(result, path)
        with Image.open(io.BytesIO(path.read_bytes())) as read:
            assert np.array_equal(np.asarray(read), np.asarray(result))
            if "dpi" in upright.info:
                assert read.info["dpi"] == pytest.approx(upright.info["dpi"], rel=0.01)
            assert read.info.get("transparency") == upright.info.get("transparency")


@FAST
@given(cases())
def test_composite_image_keeps_its_laws(case: Case) -> None:
    _check_laws(case)


@pytest.mark.soak
@LONG
@given(cases())
def test_composite_image_keeps_its_laws_on_many_images(case: Case) -> None:
    _check_laws(case)


@FAST
@given(
    cases(),
    st.one_of(st.just(0.0), st.floats(0.1, 30)),
    st.integers(0, 40),
    st.integers(0, 40),
    st.floats(0, 1),
)
def test_apply_edits_region_and_erase_bind(
    case: Case, feather: float, left: int, top: int, erased: float
) -> None:
    height, width = case.attention.shape
    box = (min(left, width - 1), min(top, height - 1), width, height)
    erase = np.zeros_like(case.attention)
    erase[: height // 2] = erased
    edits = AttentionEdits(region=box, erase=erase, feather=feather, threshold=0.2)
    found = apply_edits(case.attention, edits, 0.1)
    inside = np.zeros_like(found, dtype=bool)
    inside[box[1] :, box[0] :] = True
    assert not found[~inside].any()
    assert found.min() >= 0 and (found <= 1 - erase + 1e-6).all()


@FAST
@given(
    cases(),
    st.one_of(st.just(0.0), st.floats(0.1, 30)),
    st.integers(1, 3),
    st.booleans(),
    st.booleans(),
)
def test_image_is_unchanged_where_its_mask_is_black(
    case: Case, feather: float, scale: int, invert: bool, paint: bool
) -> None:
    height, width = case.attention.shape
    random = np.random.default_rng(width)
    mask = random.integers(0, 256, (height * scale, width * scale)).astype(np.uint8)
    mask[random.random(mask.shape) < 0.5] = 0
    mask.flat[0] = 255  # not numbers of classes
    edits = AttentionEdits(
        mask=mask,
        feather=feather,
        invert=invert,
        threshold=0.0,
        paint=np.ones_like(case.attention) if paint else None,
    )
    found = apply_edits(case.attention, edits, 0.1)
    own = Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST)
    black = np.asarray(own) == 0
    assert not found[black].any() and found.min() >= 0 and found.max() <= 1
    if scale == 1:
        assert (found <= mask / np.float32(255) + 1e-6).all()
    upright = to_upright(case.image)
    result = composite_image(upright, case.change, found)
    assert np.array_equal(_values(result)[black], _values(upright)[black])
