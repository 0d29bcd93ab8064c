"""Every wish about attention, in its order, with sums made by hand."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from agit_hub.errors import EditError
from agit_hub.inference.edits import AttentionEdits, steer

Map = npt.NDArray[np.float32]
NAN = float("nan")


def _map(*rows: list[float]) -> Map:
    return np.array(rows, np.float32)


def _row(*values: float) -> Map:
    return _map(list(values))


def _steered(network: Map, threshold: float = 0.1, **wishes: Any) -> Map:
    """Steer, and hold what always holds: a float32 map in [0, 1], and nothing changed beside it."""
    before = network.copy()
    final = steer(network, AttentionEdits(**wishes), threshold)
    assert np.array_equal(network, before)
    assert final.dtype == np.float32 and final.shape == network.shape
    assert final.min() >= 0 and final.max() <= 1
    return final


NETWORK = _row(0, 0.0625, 0.25, 0.5, 0.75, 1)


@pytest.mark.parametrize(
    ("wishes", "expected"),
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
        ({"strength": 0.5}, [0, 0, 0.125, 0.25, 0.375, 0.5]),
        ({"strength": 0}, [0, 0, 0, 0, 0, 0]),
        ({"feather": 0}, [0, 0, 0.25, 0.5, 0.75, 1]),
    ],
)
def test_each_wish_alone(wishes: dict[str, Any], expected: list[float]) -> None:
    assert _steered(NETWORK, **wishes).tolist() == [expected]


@pytest.mark.parametrize(
    ("wishes", "expected"),
    [
        # Own, then inverted; inverted, then cut: 1 - 0.9375 is below the threshold of 0.1.
        ({"attention": [[0.75, 0.9375, 0, 0, 0, 0]], "invert": True}, [0.25, 0, 1, 1, 1, 1]),
        ({"invert": True, "threshold": 0.75}, [1, 0.9375, 0.75, 0, 0, 0]),
        # An object is what is left by the threshold: at 0.3, one of two.
        (
            {"attention": [[0.5, 0.25, 0.5, 0.25, 0, 1]], "threshold": 0.3, "points": [(2, 0)]},
            [0, 0, 0.5, 0, 0, 0],
        ),
        # A region does not cut an object before a point has chosen it.
        ({"points": [(2, 0)], "region": (4, 0, 6, 1)}, [0, 0, 0, 0, 0.75, 1]),
        # Nor the threshold what a region dims, or what is painted thinly.
        ({"region": [[0.125] * 6]}, [0, 0, 0.03125, 0.0625, 0.09375, 0.125]),
        ({"paint": [[0.0625] * 6]}, [0.0625, 0.0625, 0.25, 0.5, 0.75, 1]),
        # Painted also beyond a region and an object, and erased in spite of the paint.
        ({"region": (4, 0, 6, 1), "paint": [[0.5, 0, 0, 0, 0, 0]]}, [0.5, 0, 0, 0, 0.75, 1]),
        ({"paint": [[1] * 6], "erase": [[1, 0.5, 0, 0, 0, 1]]}, [0, 0.5, 1, 1, 1, 0]),
        # The threshold does not cut what strength has weakened.
        ({"threshold": 0.5, "strength": 0.25}, [0, 0, 0, 0.125, 0.1875, 0.25]),
    ],
)
def test_the_steps_follow_one_order(wishes: dict[str, Any], expected: list[float]) -> None:
    assert _steered(NETWORK, **wishes).tolist() == [expected]


def test_the_edge_fades_after_all_edits_but_strength() -> None:
    """What is erased before feathering is not 0 after it, and strength scales the blur."""
    network = np.zeros((1, 9), np.float32)
    erase = _row(*[0] * 5, *[1] * 4)
    paint = _row(*[0] * 4, 1, 1, *[0] * 3)
    final = _steered(network, paint=paint, erase=erase, feather=3, strength=0.5)
    weights = [math.exp(-(offset**2) / 2) for offset in range(-2, 3)]  # sigma = 1
    expected = np.array([0, 0, *weights, 0, 0]) / sum(weights) / 2
    np.testing.assert_allclose(final[0], expected, atol=1e-6)


def test_a_threshold_keeps_what_lies_on_it() -> None:
    at = np.float32(0.3)
    below = np.nextafter(at, np.float32(0))
    assert _steered(_row(at, below), threshold=0.3).tolist() == [[at, 0]]


@pytest.mark.parametrize("name", ["attention", "region", "paint", "erase"])
@pytest.mark.parametrize("kind", ["bool", "L", "1", "I;16", "F", "double"])
def test_a_mask_may_be_of_any_kind_and_is_left_as_it_was(name: str, kind: str) -> None:
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
    assert _steered(network, **{name: mask}).tolist() == [expected, expected]
    assert np.array_equal(np.array(mask), before)


@pytest.mark.parametrize("name", ["attention", "region", "paint", "erase"])
def test_a_mask_of_another_size_is_scaled_between_pixel_middles(name: str) -> None:
    """Two pixels over eight: their middles lie at 1.5 and 5.5, and between them it is a ramp."""
    ramp = np.interp(np.arange(8), [1.5, 5.5], [0, 1])
    network = np.full((6, 8), 0.5, np.float32)
    expected = {
        "attention": ramp,
        "region": 0.5 * ramp,
        "paint": np.maximum(0.5, ramp),
        "erase": 0.5 * (1 - ramp),
    }[name]
    final = _steered(network, threshold=0, **{name: [[0, 1], [0, 1], [0, 1]]})
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
def test_a_box_may_reach_beyond_the_borders(
    box: tuple[float, ...], columns: tuple[int, int], rows: tuple[int, int], kind: Any
) -> None:
    expected = np.zeros((3, 5), np.float32)
    expected[slice(*rows), slice(*columns)] = 0.75
    final = _steered(np.full((3, 5), 0.75, np.float32), region=kind(box))
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
def test_points_choose_objects_that_hang_together_even_by_a_corner(
    points: Any, kept: set[tuple[int, int]]
) -> None:
    final = _steered(ISLANDS, points=points)
    assert {(int(y), int(x)) for y, x in np.argwhere(final)} == kept
    assert all(final[place] == ISLANDS[place] for place in kept)


@pytest.mark.parametrize("point", [(-1, 0), (6, 0), (0, -0.5), (0, 4), (NAN, 0)], ids=str)
def test_a_point_beyond_the_picture_is_named(point: tuple[float, float]) -> None:
    with pytest.raises(EditError, match="6 x 4") as refusal:
        steer(ISLANDS, AttentionEdits(points=[(0, 0), point]), 0.1)
    assert f"({point[0]:g}, {point[1]:g})" in str(refusal.value)


def test_a_point_without_attention_is_named() -> None:
    for point in ((1, 1), (3, 3)):  # nothing at all, and too little for the threshold
        with pytest.raises(EditError, match="threshold") as refusal:
            steer(ISLANDS, AttentionEdits(points=[point]), 0.1)
        assert f"({point[0]}, {point[1]})" in str(refusal.value)
    steer(ISLANDS, AttentionEdits(points=[(3, 3)], threshold=0.05), 0.1)


def _blob() -> Map:
    blob = np.zeros((31, 37), np.float32)
    blob[12:19, 14:22] = 1
    blob[3, 30] = 0.5
    return blob


def _distance(blob: Map) -> npt.NDArray[np.float64]:
    """Of each pixel from the nearest that is attended to, all pairs compared."""
    grid = np.stack(np.indices(blob.shape), axis=-1).reshape(-1, 1, 2)
    squares = ((grid - np.argwhere(blob > 0)) ** 2).sum(-1).min(axis=1)
    return np.sqrt(squares).reshape(blob.shape)


@pytest.mark.parametrize("pixels", [2, 3.5, 5, 8])
def test_a_feather_reaches_so_many_pixels_and_no_further(pixels: float) -> None:
    blob = _blob()
    final = _steered(blob, feather=pixels)
    # It is a square's fade, whose corners reach its length: straight ahead that is 1 / sqrt(2) of it.
    assert not final[_distance(blob) > pixels].any()
    assert final[15, 21 + math.floor(pixels / math.sqrt(2))] > 0
    edge = final[15, 17:].astype(float)
    assert np.all(np.diff(edge) <= 1e-6)
    assert 0.4 < final[15, 21] < 1


def test_a_feather_is_a_gaussian_cut_at_two_sigma() -> None:
    """A feather of 6 pixels reaches 4 by columns and rows: sigma 2, borders continued."""
    blob = _blob()[:, :24]  # ones two columns off the right border
    weights = np.array([math.exp(-(offset**2) / 8) for offset in range(-4, 5)])
    weights /= weights.sum()
    padded = np.pad(blob.astype(float), 4, mode="edge")
    across = sum(w * padded[:, i : i + 24] for i, w in enumerate(weights))
    expected = sum(w * across[i : i + 31] for i, w in enumerate(weights))
    np.testing.assert_allclose(_steered(blob, feather=6), expected, atol=1e-6)


def test_a_feather_leaves_even_maps_even() -> None:
    assert np.all(_steered(np.zeros((9, 9), np.float32), feather=3) == 0)
    np.testing.assert_allclose(_steered(np.ones((9, 9), np.float32), feather=3), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        *[("threshold", value, str(value)) for value in (-0.1, 1.5, NAN)],
        *[("strength", value, str(value)) for value in (-0.1, 1.5, NAN)],
        *[("feather", value, str(value)) for value in (-1, NAN, float("inf"))],
        ("points", [(1, 2, 3)], "(1, 2, 3)"),
        ("points", (4, 5), "4"),
        *[
            (name, value, said)
            for name in ("attention", "region", "paint", "erase")
            for value, said in (
                (np.zeros((2, 2, 3)), "(2, 2, 3)"),
                (np.zeros((0, 3)), "(0, 3)"),
                ([[0.0, 2.0]], "2"),
                ([[0.0, -0.25]], "-0.25"),
                ([[0.0, NAN]], "nan"),
            )
        ],
        ("attention", (0, 0, 1, 1), "(4,)"),  # a box is a region's alone
    ],
)
def test_a_wish_out_of_range_is_refused_at_once(name: str, value: Any, said: str) -> None:
    with pytest.raises(EditError, match=name) as refusal:
        AttentionEdits(**{name: value})
    assert said in str(refusal.value)


@pytest.mark.parametrize("box", [(3, 0, 1, 2), (0, 2, 2, 2), (1, 0, 1, 3)], ids=str)
def test_an_empty_box_is_refused(box: tuple[int, ...]) -> None:
    with pytest.raises(EditError, match=r"region.*left, top, right, bottom") as refusal:
        steer(NETWORK, AttentionEdits(region=box), 0.1)
    assert str(box) in str(refusal.value)


@pytest.mark.parametrize("box", [(NAN, 0, 2, 2), (0, 0, float("inf"), 2)], ids=str)
def test_a_box_that_is_no_number_is_refused(box: tuple[float, ...]) -> None:
    with pytest.raises(EditError, match="region"):
        steer(NETWORK, AttentionEdits(region=box), 0.1)


@pytest.mark.parametrize(
    ("wishes", "said"),
    [
        ({"strength": "0.3"}, "strength is '0.3'"),
        ({"strength": None}, "strength is None"),
        ({"feather": [1]}, "feather is [1]"),
        ({"feather": 501}, "feather is 501; it must be 0 to 500"),
        ({"attention": "map.png"}, "attention is no map"),
        ({"paint": object()}, "paint is no map"),
        ({"region": ("a", "b", "c", "d")}, "a box has four numbers"),
        ({"region": (4, 0, 6, 1)}, "outside a picture of 4 x 1"),
        ({"region": (0, -3, 6, 0)}, "outside a picture of 4 x 1"),
        ({"erase": np.full((1, 4), 255, np.uint8)}, "divided by 255"),
    ],
)
def test_what_is_of_the_wrong_kind_is_told_in_words(wishes: dict[str, Any], said: str) -> None:
    with pytest.raises(EditError) as refusal:
        _steered(np.ones((1, 4), np.float32), **wishes)
    assert said in str(refusal.value)
