"""Every edit of attention, in order, against values computed by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from agit_hub.errors import EditError
from agit_hub.inference.edits import AttentionEdits, apply_edits

Map = npt.NDArray[np.float32]
NAN = float("nan")


def _map(*rows: list[float]) -> Map:
    return np.array(rows, np.float32)


def _row(*values: float) -> Map:
    return _map(list(values))


def _edited(network: Map, threshold: float = 0.1, **edits: Any) -> Map:
    """Apply edits, and check the invariants: a float32 map in [0, 1], and an unchanged input."""
    before = network.copy()
    final = apply_edits(network, AttentionEdits(**edits), threshold)
    assert np.array_equal(network, before)
    assert final.dtype == np.float32 and final.shape == network.shape
    assert final.min() >= 0 and final.max() <= 1
    return final


NETWORK = _row(0, 0.0625, 0.25, 0.5, 0.75, 1)


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ({}, [0, 0, 0.25, 0.5, 0.75, 1]),  # the model's own tau of 0.1
        ({"threshold": 0}, [0, 0.0625, 0.25, 0.5, 0.75, 1]),
        ({"threshold": 0.5}, [0, 0, 0, 0.5, 0.75, 1]),
        ({"threshold": 1}, [0, 0, 0, 0, 0, 1]),
        ({"invert": True}, [1, 0.9375, 0.75, 0.5, 0.25, 0]),
        ({"attention": [[1, 0.5, 0, 0, 0.0625, 0.25]]}, [1, 0.5, 0, 0, 0, 0.25]),
        ({"points": [(2, 0)]}, [0, 0, 0.25, 0.5, 0.75, 1]),
        ({"region": [[1, 1, 0.5, 0, 0.5, 1]]}, [0, 0, 0.125, 0, 0.375, 1]),
        ({"region": (2, 0, 4, 1)}, [0, 0, 0.25, 0.5, 0, 0]),
        ({"paint": [[0, 0.25, 0.5, 0.25, 0, 0]]}, [0, 0.25, 0.5, 0.5, 0.75, 1]),
        ({"erase": [[0, 0, 0, 1, 0.5, 0.25]]}, [0, 0, 0.25, 0, 0.375, 0.75]),
        ({"mask": [[1, 1, 0.5, 0, 0.5, 1]]}, [0, 0, 0.125, 0, 0.375, 1]),
        ({"mask": np.array([[255, 255, 0, 51, 255, 0]], np.uint8)}, [0, 0, 0, 0.1, 0.75, 0]),
        ({"strength": 0.5}, [0, 0, 0.125, 0.25, 0.375, 0.5]),
        ({"strength": 0}, [0, 0, 0, 0, 0, 0]),
        ({"feather": 0}, [0, 0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_apply_edits_single_edit_matches_reference(
    edits: dict[str, Any], expected: list[float]
) -> None:
    np.testing.assert_array_equal(_edited(NETWORK, **edits), _row(*expected))


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        # Replaced, then inverted, then thresholded: 1 - 0.9375 is below the threshold of 0.1.
        ({"attention": [[0.75, 0.9375, 0, 0, 0, 0]], "invert": True}, [0.25, 0, 1, 1, 1, 1]),
        ({"invert": True, "threshold": 0.75}, [1, 0.9375, 0.75, 0, 0, 0]),
        # An object is connected after the threshold: at 0.3, one of two.
        (
            {"attention": [[0.5, 0.25, 0.5, 0.25, 0, 1]], "threshold": 0.3, "points": [(2, 0)]},
            [0, 0, 0.5, 0, 0, 0],
        ),
        # A region does not split an object before a point selects it.
        ({"points": [(2, 0)], "region": (4, 0, 6, 1)}, [0, 0, 0, 0, 0.75, 1]),
        # The threshold does not apply to what a region or paint makes small.
        ({"region": [[0.125] * 6]}, [0, 0, 0.03125, 0.0625, 0.09375, 0.125]),
        ({"paint": [[0.0625] * 6]}, [0.0625, 0.0625, 0.25, 0.5, 0.75, 1]),
        # Paint applies beyond a region and an object, and erase applies to paint.
        ({"region": (4, 0, 6, 1), "paint": [[0.5, 0, 0, 0, 0, 0]]}, [0.5, 0, 0, 0, 0.75, 1]),
        ({"paint": [[1] * 6], "erase": [[1, 0.5, 0, 0, 0, 1]]}, [0, 0.5, 1, 1, 1, 0]),
        # A mask also applies to paint.
        ({"paint": [[1] * 6], "mask": [[0, 0.5, 1, 1, 1, 0]]}, [0, 0.5, 1, 1, 1, 0]),
        # The threshold does not apply to what strength reduces.
        ({"threshold": 0.5, "strength": 0.25}, [0, 0, 0, 0.125, 0.1875, 0.25]),
    ],
)
def test_apply_edits_combined_edits_follow_field_order(
    edits: dict[str, Any], expected: list[float]
) -> None:
    assert _edited(NETWORK, **edits).tolist() == [expected]


def test_apply_edits_feather_follows_all_edits_but_strength() -> None:
    """Erased pixels stay 0, and strength scales the blur."""
    network = np.zeros((1, 9), np.float32)
    erase = _row(*[0] * 5, *[1] * 4)
    paint = _row(*[0] * 4, 1, 1, *[0] * 3)
    final = _edited(network, paint=paint, erase=erase, feather=3, strength=0.5)
    weights = [math.exp(-(offset**2) / 2) for offset in range(-2, 3)]  # sigma = 1
    expected = np.array([0, 0, *weights[:3], 0, 0, 0, 0]) / sum(weights) / 2
    np.testing.assert_allclose(final[0], expected, atol=1e-6)


def test_apply_edits_threshold_keeps_equal_values() -> None:
    at = np.float32(0.3)
    below = np.nextafter(at, np.float32(0))
    assert _edited(_row(at, below), threshold=0.3).tolist() == [[at, 0]]


@pytest.mark.parametrize("name", ["attention", "region", "paint", "erase"])
@pytest.mark.parametrize("kind", ["bool", "L", "1", "I;16", "F", "double"])
def test_apply_edits_accepts_masks_of_any_kind(name: str, kind: str) -> None:
    left = np.zeros((2, 4))
    left[:, :2] = 1
    masks: dict[str, Any] = {
        "bool": left.astype(bool),
        "L": Image.fromarray((left * 255).astype(np.uint8)),
        "1": Image.fromarray(left.astype(bool)),
        "I;16": Image.fromarray((left * 65535).astype(np.uint16)),
        "F": Image.fromarray(left.astype(np.float32)),
        "double": left,
    }
    mask = masks[kind]
    before = np.array(mask)
    network = np.full((2, 4), 0.5, np.float32)
    expected = {
        "attention": [1, 1, 0, 0],
        "region": [0.5, 0.5, 0, 0],
        "paint": [1, 1, 0.5, 0.5],
        "erase": [0, 0, 0.5, 0.5],
    }[name]
    assert _edited(network, **{name: mask}).tolist() == [expected, expected]
    assert np.array_equal(np.array(mask), before)


@pytest.mark.parametrize("name", ["attention", "region", "paint", "erase"])
def test_apply_edits_resizes_masks_between_pixel_centres(name: str) -> None:
    """Two pixels resized to eight have their centres at 1.5 and 5.5, with a ramp between."""
    ramp = np.interp(np.arange(8), [1.5, 5.5], [0, 1])
    network = np.full((6, 8), 0.5, np.float32)
    expected = {
        "attention": ramp,
        "region": 0.5 * ramp,
        "paint": np.maximum(0.5, ramp),
        "erase": 0.5 * (1 - ramp),
    }[name]
    final = _edited(network, threshold=0, **{name: [[0, 1], [0, 1], [0, 1]]})
    np.testing.assert_allclose(final, np.tile(expected, (6, 1)), atol=1e-6)
    assert not name.startswith(("attention", "region")) or not final[:, :2].any()


@pytest.mark.parametrize(
    ("box", "columns", "rows"),
    [
        ((1, 1, 3, 2), (1, 3), (1, 2)),
        ((-3, -2, 2, 100), (0, 2), (0, 3)),
        ((3, 2, 99, 99), (3, 5), (2, 3)),
        ((-9, -9, 99, 99), (0, 5), (0, 3)),
        ((0.6, 0.4, 2.6, 2.4), (1, 3), (0, 2)),  # edges go to the nearest pixel
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [tuple, list, np.array], ids=["tuple", "list", "array"])
def test_apply_edits_box_is_clipped_to_image(
    box: tuple[float, ...], columns: tuple[int, int], rows: tuple[int, int], kind: Any
) -> None:
    expected = np.zeros((3, 5), np.float32)
    expected[slice(*rows), slice(*columns)] = 0.75
    final = _edited(np.full((3, 5), 0.75, np.float32), region=kind(box))
    assert np.array_equal(final, expected)


# Two pieces that touch at a corner, and two islands.
ISLANDS = _map(
    [0.5, 0.25, 0, 0, 0, 1],
    [0, 0, 0.75, 0, 0, 1],
    [0, 0, 0, 0, 0, 0],
    [0.5, 0, 0, 0.0625, 0, 0],
)


@pytest.mark.parametrize(
    ("points", "kept"),
    [
        ([(0, 0)], {(0, 0), (0, 1), (1, 2)}),
        ([(2, 1)], {(0, 0), (0, 1), (1, 2)}),
        ([(2.9, 1.9)], {(0, 0), (0, 1), (1, 2)}),  # the pixel under the point
        ([(5, 0)], {(0, 5), (1, 5)}),
        ([(0, 3), (5.5, 1)], {(3, 0), (0, 5), (1, 5)}),
        ([(0, 0), (1, 0)], {(0, 0), (0, 1), (1, 2)}),
        (((0, 3),), {(3, 0)}),
    ],
    ids=str,
)
def test_apply_edits_points_select_8_connected_objects(
    points: Any, kept: set[tuple[int, int]]
) -> None:
    final = _edited(ISLANDS, points=points)
    assert {(int(y), int(x)) for y, x in np.argwhere(final)} == kept
    assert all(final[place] == ISLANDS[place] for place in kept)


@pytest.mark.parametrize("point", [(-1, 0), (6, 0), (0, -0.5), (0, 4), (NAN, 0)], ids=str)
def test_apply_edits_point_outside_image_is_named(point: tuple[float, float]) -> None:
    with pytest.raises(EditError, match="6 x 4") as raised:
        apply_edits(ISLANDS, AttentionEdits(points=[(0, 0), point]), 0.1)
    assert f"({point[0]:g}, {point[1]:g})" in str(raised.value)


def test_apply_edits_point_without_attention_is_named() -> None:
    for point in ((1, 1), (3, 3)):  # no attention, and less than the threshold
        with pytest.raises(EditError, match="threshold") as raised:
            apply_edits(ISLANDS, AttentionEdits(points=[point]), 0.1)
        assert f"({point[0]}, {point[1]})" in str(raised.value)
    apply_edits(ISLANDS, AttentionEdits(points=[(3, 3)], threshold=0.05), 0.1)


def _blob() -> Map:
    blob = np.zeros((31, 37), np.float32)
    blob[12:19, 14:22] = 1
    blob[3, 30] = 0.5
    return blob


def _distance(blob: Map) -> npt.NDArray[np.float64]:
    """Return each pixel's distance to the nearest pixel with attention, by brute force."""
    grid = np.stack(np.indices(blob.shape), axis=-1).reshape(-1, 1, 2)
    squares = ((grid - np.argwhere(blob > 0)) ** 2).sum(-1).min(axis=1)
    return np.sqrt(squares).reshape(blob.shape)


@pytest.mark.parametrize("pixels", [1, 1.3, 2, 3.5, 5, 8])
def test_apply_edits_feather_reaches_its_distance_only(pixels: float) -> None:
    blob = _blob()
    final = _edited(blob, feather=pixels)
    # The blur is a square whose corners reach the distance: along axes it is 1 / sqrt(2) of it.
    assert not final[_distance(blob) > pixels].any()
    assert final[15, 21 + max(1, math.floor(pixels / math.sqrt(2)))] > 0
    edge = final[15, 17:].astype(float)
    assert np.all(np.diff(edge) <= 1e-6)
    assert 0.4 < final[15, 21] < 1


def test_apply_edits_feather_is_gaussian_truncated_at_two_sigma() -> None:
    """A feather of 6 pixels reaches 4 by columns and rows: sigma 2, borders continued."""
    blob = _blob()[:, :24]  # ones two columns off the right border
    weights = np.array([math.exp(-(offset**2) / 8) for offset in range(-4, 5)])
    weights /= weights.sum()
    padded = np.pad(blob.astype(float), 4, mode="edge")
    across = sum(w * padded[:, i : i + 24] for i, w in enumerate(weights))
    expected = sum(w * across[i : i + 31] for i, w in enumerate(weights))
    np.testing.assert_allclose(_edited(blob, feather=6), expected, atol=1e-6)


def test_apply_edits_feather_keeps_constant_maps() -> None:
    assert np.all(_edited(np.zeros((9, 9), np.float32), feather=3) == 0)
    np.testing.assert_allclose(_edited(np.ones((9, 9), np.float32), feather=3), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *[("threshold", value, str(value)) for value in (-0.1, 1.5, NAN)],
        *[("strength", value, str(value)) for value in (-0.1, 1.5, NAN)],
        *[("feather", value, str(value)) for value in (-1, NAN, float("inf"))],
        ("points", [(1, 2, 3)], "(1, 2, 3)"),
        ("points", (4, 5), "4"),
        *[
            (name, value, message)
            for name in ("attention", "region", "paint", "erase")
            for value, message in (
                (np.zeros((2, 2, 3)), "(2, 2, 3)"),
                (np.zeros((0, 3)), "(0, 3)"),
                ([[0.0, 2.0]], "2"),
                ([[0.0, -0.25]], "-0.25"),
                ([[0.0, NAN]], "nan"),
            )
        ],
        ("attention", (0, 0, 1, 1), "(4,)"),  # only a region may be a box
    ],
)
def test_attention_edits_out_of_range_value_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(EditError, match=name) as raised:
        AttentionEdits(**{name: value})
    assert message in str(raised.value)


@pytest.mark.parametrize("box", [(3, 0, 1, 2), (0, 2, 2, 2), (1, 0, 1, 3)], ids=str)
def test_attention_edits_empty_box_is_refused(box: tuple[int, ...]) -> None:
    with pytest.raises(EditError, match=r"region.*left, top, right, bottom") as raised:
        apply_edits(NETWORK, AttentionEdits(region=box), 0.1)
    assert str(box) in str(raised.value)


@pytest.mark.parametrize("box", [(NAN, 0, 2, 2), (0, 0, float("inf"), 2)], ids=str)
def test_attention_edits_non_finite_box_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(EditError, match="region"):
        apply_edits(NETWORK, AttentionEdits(region=box), 0.1)


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"strength": "0.3"}, "strength is '0.3'"),
        ({"strength": None}, "strength is None"),
        ({"feather": [1]}, "feather is [1]"),
        ({"feather": 501}, "feather is 501; it must be between 0 and 500"),
        ({"attention": "map.png"}, "attention is 'map.png'; it must be a map"),
        ({"paint": object()}, "paint is <object"),
        ({"region": ("a", "b", "c", "d")}, "a box has four numbers"),
        ({"region": (4, 0, 6, 1)}, "outside an image of 4 x 1"),
        ({"region": (0, -3, 6, 0)}, "outside an image of 4 x 1"),
        ({"erase": np.full((1, 4), 255, np.uint8)}, "divide bytes by 255"),
    ],
)
def test_apply_edits_invalid_value_is_named(edits: dict[str, Any], message: str) -> None:
    with pytest.raises(EditError) as raised:
        _edited(np.ones((1, 4), np.float32), **edits)
    assert message in str(raised.value)


@pytest.mark.parametrize("feather", [1, 4, 20])
def test_apply_edits_feather_stays_within_region_and_erase(feather: float) -> None:
    network = np.ones((31, 41), np.float32)
    box = (5, 5, 20, 20)
    erase = np.zeros_like(network)
    erase[10:15] = 1
    inside = np.zeros_like(network, dtype=bool)
    inside[5:20, 5:20] = True
    final = _edited(network, region=box, erase=erase, feather=feather)
    assert not final[~inside].any() and not final[10:15].any()
    # Within it, edges fade.
    assert 0 < final[7, 5] < 1
    # What is painted outside of the region is meant.
    paint = np.zeros_like(network)
    paint[25:, 30:] = 1
    assert _edited(network, region=box, paint=paint, feather=feather)[30, 40] > 0.4


def test_apply_edits_mask_file_equals_its_array(tmp_path: Path) -> None:
    values = np.array([[0, 51, 102, 153, 204, 255]], np.uint8)
    Image.fromarray(values).save(tmp_path / "mask.png")
    for mask in (str(tmp_path / "mask.png"), tmp_path / "mask.png", Image.fromarray(values)):
        np.testing.assert_array_equal(_edited(NETWORK, mask=mask), _edited(NETWORK, mask=values))


def test_apply_edits_unusable_mask_raises(tmp_path: Path) -> None:
    with pytest.raises(EditError, match="2 x 6 pixels and its image 6 x 1"):
        _edited(NETWORK, mask=np.ones((6, 2)))
    with pytest.raises(EditError, match=r"mask .*none\.png does not exist"):
        AttentionEdits(mask=tmp_path / "none.png")
    with pytest.raises(EditError, match=r"mask ranges from 0 to 2"):
        AttentionEdits(mask=[[0.0, 2.0]])
