"""Images to tensors and back, heat maps and grids, against known pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from agit_hub.inference.image_processor import (
    from_uint8,
    to_map,
    to_pil,
    to_tensor,
    working_size,
)
from agit_hub.visualization import heat_map, labelled_grid, overlay

DARK, PALE = (8, 6, 36), (252, 250, 190)


def test_to_tensor_is_channels_first_in_minus_1_to_1() -> None:
    image = Image.new("RGB", (3, 2))
    image.putpixel((2, 1), (255, 51, 204))
    tensor = to_tensor(image)
    assert tensor.shape == (1, 3, 2, 3) and tensor.dtype == torch.float32
    torch.testing.assert_close(tensor[0, :, 1, 2], torch.tensor([1.0, -0.6, 0.6]))
    assert tensor.eq(-1).sum() == 15
    torch.testing.assert_close(
        from_uint8(torch.tensor([0, 102, 255], dtype=torch.uint8)), torch.tensor([-1.0, -0.2, 1.0])
    )


def test_to_pil_inverts_to_tensor() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = Image.fromarray(np.stack([every, every.T, every[::-1]], axis=-1))
    back = to_pil(to_tensor(image)[0])
    assert back.mode == "RGB" and back.tobytes() == image.tobytes()


def test_to_pil_rounds_and_clips_values() -> None:
    # 0.4 of a byte above 128, 0.6 above, and beyond both ends.
    values = torch.tensor([0.9 / 127.5, 1.1 / 127.5, -3.0, 1.5]).reshape(1, 1, 4).expand(3, -1, -1)
    pixels = np.asarray(to_pil(values.clone().requires_grad_()))
    assert pixels[0, :, 0].tolist() == [128, 129, 0, 255]


def test_to_map_returns_float32_array() -> None:
    array = to_map(torch.tensor([[[0.0, 0.25], [1.0, 0.5]]], dtype=torch.float64))
    assert array.dtype == np.float32 and array.tolist() == [[0.0, 0.25], [1.0, 0.5]]


@pytest.mark.parametrize(
    ("width", "height", "shorter", "expected"),
    [
        (64, 64, 64, (64, 64)),
        (500, 500, 256, (256, 256)),
        (16, 16, 64, (64, 64)),
        (640, 480, 256, (340, 256)),  # 341.33 is nearest to 340
        (480, 640, 256, (256, 340)),
        (37, 61, 16, (16, 28)),  # 26.4 is nearer to 28 than to 24
        (100, 1, 16, (64, 16)),
        (65, 64, 64, (64, 64)),
    ],
)
def test_working_size_keeps_aspect_in_multiples_of_4(
    width: int, height: int, shorter: int, expected: tuple[int, int]
) -> None:
    assert working_size(width, height, shorter) == expected


def test_heat_map_rises_from_dark_to_pale_in_grey() -> None:
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    heat = heat_map(ramp)
    assert heat.mode == "RGB" and heat.size == (256, 1)
    assert heat.getpixel((0, 0)) == DARK and heat.getpixel((255, 0)) == PALE
    grey = np.asarray(heat.convert("L"), dtype=int)[0]
    assert np.diff(grey).min() >= 0 and np.diff(grey).max() <= 4


def test_overlay_opacity_follows_attention() -> None:
    image = Image.new("RGB", (3, 1), (0, 200, 100))
    attention = np.array([[0, 1, 0]], np.float32)
    shown = np.asarray(overlay(image, attention, strength=0.6), dtype=float)
    assert shown[0, 0].tolist() == shown[0, 2].tolist() == [0, 200, 100]
    expected = 0.6 * np.array(PALE) + 0.4 * np.array([0, 200, 100])
    np.testing.assert_allclose(shown[0, 1], expected, atol=1)
    full = overlay(image.convert("L"), np.ones((1, 3), np.float32), strength=1)
    assert full.mode == "RGB" and full.getpixel((1, 0)) == PALE


def test_labelled_grid_draws_every_image_under_its_heading() -> None:
    tile = 40
    colours = [[(200, 0, 0), (0, 200, 0), (0, 0, 200)], [(150, 0, 0), (0, 150, 0), (0, 0, 150)]]
    rows = [[Image.new("RGB", (20, 20), colour) for colour in row] for row in colours]
    sheet = labelled_grid(["a", "b", "", "c"], rows, tile)
    pixels = np.asarray(sheet)
    places = {}
    for row in colours:
        for colour in row:
            down, right = np.nonzero((pixels == colour).all(-1))
            assert len(down) == tile * tile  # nothing is covered or drawn twice
            assert np.ptp(down) == np.ptp(right) == tile - 1
            places[colour] = (down.min(), right.min())
    (top, left), (_, second), (_, third) = (places[colour] for colour in colours[0])
    assert [places[c] for c in colours[1]] == [
        (places[colours[1][0]][0], x) for x in (left, second, third)
    ]
    assert places[colours[1][0]][0] >= top + tile
    # An empty heading has no image, and separates the groups.
    assert left + tile < second and (third - second) > (second - left)
    # Headings are above their columns and nowhere else.
    ink = np.nonzero((pixels[:top] < 128).all(-1))[1]
    for x in (left, second, third):
        assert ((ink >= x) & (ink < x + tile)).any()
    assert not ((ink >= second + tile) & (ink < third)).any()


def test_labelled_grid_small_images_stay_crisp() -> None:
    two = Image.fromarray(np.array([[[0] * 3, [255] * 3]] * 2, np.uint8))
    crisp = np.asarray(labelled_grid(["x"], [[two]], 40))[-4 - 40 : -4, 4:44, 0]
    assert set(np.unique(crisp)) == {0, 255} and (crisp[:, :20] == 0).all()
    soft = np.asarray(labelled_grid(["x"], [[two.resize((3, 3))]], 40))[-4 - 40 : -4, 4:44, 0]
    assert len(np.unique(soft)) > 10


def test_labelled_grid_row_needs_image_for_every_heading() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        labelled_grid(["a", "b"], [[Image.new("RGB", (8, 8))]], 16)
