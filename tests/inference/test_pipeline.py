"""The pipeline's contract: any picture in, the same picture out where nothing is attended to."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image, ImageOps

from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from tests.conftest import MakeModel, uneven
from tests.modes import KEPT, MODES, noise

SIDE = 16  # of the pictures that the tiny networks see
ORIENTATION = 0x0112
SIZES = [(37, 61), (16, 16), (70, 20)]
Array = npt.NDArray[np.uint8]


def _picture(mode: str, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    return noise(mode, size, seed=5)


def _in_result_mode(mode: str, picture: Image.Image) -> Array:
    """What the picture's pixels are in the mode in which it comes back."""
    return np.asarray(
        picture if picture.mode.startswith(("I", "F")) else picture.convert(MODES[mode])
    )


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", MODES)
def test_size_and_mode_stay_and_so_does_all_that_is_not_attended_to(
    mode: str, size: tuple[int, int], make_model: MakeModel
) -> None:
    picture = _picture(mode, size)
    pipeline = uneven(make_model)
    middle = float(np.median(pipeline(picture).raw_attention[0]))
    output = pipeline(picture, threshold=middle)
    (image,), (attention,), (raw,) = output.images, output.attention, output.raw_attention
    (generated,) = output.generated

    assert image.mode == MODES[mode] and image.size == size
    assert generated.mode == "RGB" and generated.size == size
    for array in (attention, raw):
        assert array.dtype == np.float32 and array.shape == size[::-1]
        assert array.min() >= 0 and array.max() <= 1
    untouched = attention == 0
    assert 0.4 < untouched.mean() < 0.6
    before, after = _in_result_mode(mode, picture), np.asarray(image)
    assert np.array_equal(after[untouched], before[untouched])
    colours = slice(None) if before.ndim == 2 else slice(0, len(image.getbands()))
    changed = (after[..., colours] != before[..., colours]).reshape(*before.shape[:2], -1).any(-1)
    assert mode == "1" or changed[~untouched].mean() > 0.5  # few greys cross the middle
    if "A" in image.getbands():
        assert np.array_equal(after[..., -1], before[..., -1])


@pytest.mark.parametrize("key", [{}, {"transparency": 7}], ids=["opaque", "keyed"])
def test_a_sixteen_bit_grey_stays_the_grey_it_was(
    key: dict[str, int], make_model: MakeModel, tmp_path: Path
) -> None:
    """A PNG file of that depth may hold a colour key as well."""
    grey = np.full((20, 20), 257 * 117, np.uint16)
    Image.fromarray(grey).save(tmp_path / "scan.png", **key)
    opened = Image.open(tmp_path / "scan.png")
    assert opened.mode == "I;16" and opened.info == key
    pipeline = AGITPipeline(make_model(shades=(200, 40)))
    still, half = (
        pipeline(opened, attention=np.full((4, 4), share)).images[0] for share in (0, 0.5)
    )
    assert still.mode == "I;16" and np.all(np.asarray(still) == 257 * 117)
    # Half way from 117 to 200; a grey between 257 * 158 and 257 * 159, for there is room for it.
    assert np.all(np.abs(np.asarray(half, dtype=int) - 257 * 158.5) <= 2)
    half.save(tmp_path / "translated.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "translated.png")), np.asarray(half))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", KEPT)
def test_a_map_of_zeros_gives_back_the_upright_input_byte_for_byte(
    mode: str, size: tuple[int, int], make_model: MakeModel
) -> None:
    picture = _picture(mode, size)
    picture.getexif()[ORIENTATION] = 6
    upright = ImageOps.exif_transpose(picture)
    assert upright.size == size[::-1]
    output = uneven(make_model)(picture, attention=np.zeros((4, 4)))
    assert output.images[0].mode == mode and output.images[0].size == upright.size
    assert output.images[0].tobytes() == upright.tobytes()
    assert output.attention[0].shape == size and not output.attention[0].any()


def test_a_photograph_that_lies_on_its_side_is_turned_once(
    make_model: MakeModel, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    _picture("RGB", (37, 61)).save(tmp_path / "phone.jpg", exif=exif)
    opened = Image.open(tmp_path / "phone.jpg")
    image = uneven(make_model)(opened, threshold=1).images[0]
    assert image.size == (61, 37)
    assert image.tobytes() == ImageOps.exif_transpose(opened).tobytes()
    file = io.BytesIO()
    image.save(file, "PNG", exif=image.getexif())
    assert Image.open(file).getexif().get(ORIENTATION, 1) == 1


def _quarters(*values: float) -> npt.NDArray[np.float32]:
    """A map of four upright bands, one for each value."""
    return np.repeat(np.array([values], np.float32), SIDE, axis=0).repeat(SIDE // 4, axis=1)


@pytest.mark.parametrize(
    ("mode", "pixel"),
    [
        ("RGB", (100, 0, 248)),
        ("L", 100),
        ("1", 0),
        ("RGBA", (100, 0, 248, 255)),
        ("LA", (100, 255)),
    ],
)
def test_equation_1_in_the_pictures_own_integers(
    mode: str, pixel: int | tuple[int, ...], make_model: MakeModel
) -> None:
    pipeline = AGITPipeline(make_model(shades=(200, 40)))
    picture = Image.new(mode, (SIDE, SIDE), pixel)
    output = pipeline(picture, threshold=0, attention=_quarters(0, 0.25, 0.5, 1))
    result = np.asarray(output.images[0])[0, ::4].reshape(4, -1)
    # s + a (200 - s) for s = 100, 0 and 248.
    expected = {100: (100, 125, 150, 200), 0: (0, 50, 100, 200), 248: (248, 236, 224, 200)}
    own = (pixel,) if isinstance(pixel, int) else pixel
    for band, value in zip(result.T, own, strict=True):
        bits = [shade > 127 for shade in expected[value]] if mode == "1" else None
        assert tuple(band) == tuple(bits or expected.get(value, (255,) * 4))  # 255: alpha stays
    assert np.all(np.asarray(output.generated[0]) == 200)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "P", "P-keyed"])
def test_a_trace_of_attention_leaves_no_more_than_a_trace(mode: str, make_model: MakeModel) -> None:
    """Eq. 1 with s_a = 0.0001 moves no byte by half a step, whatever shows through the picture."""
    picture = _picture(mode)
    trace = np.full((SIDE, SIDE), 1e-4, np.float32)
    image = AGITPipeline(make_model(shades=(200, 40)))(picture, threshold=0, attention=trace)
    after = np.asarray(image.images[0], dtype=int)
    assert np.abs(after - _in_result_mode(mode, picture)).max() == 0


def test_a_cmyk_picture_with_a_trace_of_attention_looks_as_before(make_model: MakeModel) -> None:
    picture = _picture("CMYK")
    trace = np.full((SIDE, SIDE), 1e-4, np.float32)
    output = AGITPipeline(make_model(shades=(200, 40)))(picture, threshold=0, attention=trace)
    before, after = (np.asarray(p.convert("RGB"), dtype=int) for p in (picture, output.images[0]))
    assert np.abs(after - before).max() <= 1


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_attention_1_everywhere_shows_what_was_generated(
    size: tuple[int, int], make_model: MakeModel
) -> None:
    pipeline = AGITPipeline(make_model(attention="ones"))
    for threshold in (0, None, 1):
        output = pipeline(_picture("RGB", size), threshold=threshold)
        assert output.images[0].tobytes() == output.generated[0].tobytes()
        assert output.attention[0].min() == 1 and output.raw_attention[0].min() == 1


@pytest.mark.parametrize(
    ("dark", "light", "painted", "expected"),
    [
        (100, 140, 120, (100, 140)),
        (100, 140, 200, (180, 220)),
        (0, 255, 200, (72, 255)),  # 327.5 is cut
    ],
)
def test_a_large_picture_keeps_its_own_detail(
    dark: int, light: int, painted: int, expected: tuple[int, int], make_model: MakeModel
) -> None:
    """A fine chequerboard is an even grey to the networks: what they change is that grey."""
    white = np.indices((64, 64)).sum(0) % 2 == 1
    picture = Image.fromarray(np.where(white, light, dark).astype(np.uint8)).convert("RGB")
    output = AGITPipeline(make_model(attention="ones", shades=(painted, 40)))(picture)
    pixels = np.asarray(output.images[0], dtype=int)[8:-8, 8:-8]
    white = white[8:-8, 8:-8]
    assert np.abs(pixels[~white] - expected[0]).max() <= 3
    assert np.abs(pixels[white] - expected[1]).max() <= 3


def test_to_chooses_the_direction(make_model: MakeModel) -> None:
    pipeline = AGITPipeline(make_model(maps=(0.25, 0.5), shades=(200, 40)))
    picture = Image.new("RGB", (20, 30), (100, 100, 100))
    for to, value, share in (("zebra", 125, 0.25), (None, 125, 0.25), ("horse", 70, 0.5)):
        output = pipeline(picture, to=to)
        assert set(np.asarray(output.images[0]).ravel()) == {value}
        np.testing.assert_allclose(output.attention[0], share, rtol=1e-6)
    with pytest.raises(ValueError, match="cow") as refusal:
        pipeline(picture, to="cow")
    assert "'zebra'" in str(refusal.value) and "'horse'" in str(refusal.value)


def test_below_the_threshold_attention_is_exactly_0_and_above_it_keeps_its_value(
    make_model: MakeModel,
) -> None:
    at = np.float32(0.3)
    below, above = (np.nextafter(at, np.float32(end)) for end in (0, 1))
    pipeline = AGITPipeline(make_model(attention_threshold=0.3))
    own = _quarters(at, below, above, 1)
    picture = _picture("RGB")
    (final,) = pipeline(picture, threshold=0.3, attention=own).attention
    assert final[0, ::4].tolist() == [at, 0, above, 1]
    for threshold, kept in ((None, [at, 0, above, 1]), (0, own[0, ::4]), (1, [0, 0, 0, 1])):
        (final,) = pipeline(picture, threshold=threshold, attention=own).attention
        assert final[0, ::4].tolist() == list(kept)


def test_the_networks_map_is_cut_after_it_was_enlarged(make_model: MakeModel) -> None:
    pipeline, picture = uneven(make_model), _picture("RGB", (64, 48))
    plain = pipeline(picture, threshold=0)
    assert np.array_equal(plain.attention[0], plain.raw_attention[0])
    (raw,) = plain.raw_attention
    assert np.count_nonzero((raw > 0.2) & (raw < 0.6)) > 100
    cut = pipeline(picture, threshold=0.6)
    assert np.array_equal(cut.raw_attention[0], raw)
    assert np.array_equal(cut.attention[0], np.where(raw < np.float32(0.6), 0, raw))
    (default,) = pipeline(picture).attention  # the config's 0.1
    assert np.array_equal(default, np.where(raw < np.float32(0.1), 0, raw))


def test_maps_are_enlarged_smoothly_and_in_place(make_model: MakeModel) -> None:
    """A grey picture four times the networks' size: enlarging is bilinear between pixel middles."""
    pipeline = uneven(make_model)
    grey = Image.new("RGB", (4 * SIDE, 4 * SIDE), (90, 160, 30))
    with torch.no_grad():
        small = pipeline.model.attention_s(
            torch.tensor([90.0, 160, 30]).reshape(1, 3, 1, 1).expand(1, 3, SIDE, SIDE) / 127.5 - 1
        )[0, 0].numpy()
    middles = (np.arange(4 * SIDE) + 0.5) / 4 - 0.5
    across = np.stack([np.interp(middles, np.arange(SIDE), row) for row in small])
    expected = np.stack([np.interp(middles, np.arange(SIDE), c) for c in across.T], axis=1)
    np.testing.assert_allclose(pipeline(grey).raw_attention[0], expected, atol=1e-5)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_out_of_range_is_refused(threshold: float, make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match=f"threshold is {threshold}.*0 and 1"):
        AGITPipeline(make_model())(_picture("RGB"), threshold=threshold)


def test_a_map_of_ones_own_replaces_the_networks(make_model: MakeModel) -> None:
    pipeline = AGITPipeline(make_model(maps=(0.9, 0.9), shades=(200, 40)))
    picture = Image.new("RGB", (37, 61), (100, 100, 100))
    left = np.zeros((61, 37), np.float32)
    left[:, :18] = 1
    as_list = [[1.0, 1.0, 0.0, 0.0]] * 4  # of another size: scaled to the picture's
    as_picture = Image.fromarray((left * 255).astype(np.uint8))
    for own in (left, left.astype(bool), as_list, as_picture, as_picture.convert("1")):
        output = pipeline(picture, attention=own)
        pixels = np.asarray(output.images[0])
        assert output.attention[0].shape == (61, 37) and output.attention[0].dtype == np.float32
        assert np.all(pixels[:, :10] == 200) and np.all(pixels[:, 28:] == 100)
        np.testing.assert_allclose(output.raw_attention[0], 0.9, rtol=1e-6)
    assert left.max() == 1 and left.min() == 0  # and is left as it was


@pytest.mark.parametrize("mode", ["L", "I;16", "F"])
def test_a_greyscale_picture_is_a_map_whatever_its_depth(mode: str, make_model: MakeModel) -> None:
    shares = _quarters(0, 0.2, 0.6, 1)
    white, kind = {"L": (255, np.uint8), "I;16": (65535, np.uint16), "F": (1, np.float32)}[mode]
    drawn = Image.fromarray((shares * white + (0.5 if white > 1 else 0)).astype(kind))
    assert drawn.mode == mode
    output = AGITPipeline(make_model())(_picture("RGB"), attention=drawn, threshold=0)
    np.testing.assert_allclose(output.attention[0], shares, atol=1e-6)


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (np.zeros((4, 4, 1)), "(4, 4, 1)"),
        (np.zeros((2, 4, 4)), "(2, 4, 4)"),
        (np.zeros(16), "(16,)"),
        (0.5, "()"),
        (np.full((4, 4), 1.001), "1.001"),
        (np.full((4, 4), -0.5), "-0.5"),
        (np.full((4, 4), 128), "128"),
        (np.full((4, 4), np.nan), "nan"),
        (np.zeros((0, 4)), "(0, 4)"),
    ],
)
def test_what_is_no_map_is_refused(own: npt.ArrayLike, said: str, make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match="attention") as refusal:
        AGITPipeline(make_model())(_picture("RGB"), attention=own)
    assert said in str(refusal.value)


def test_pictures_in_a_list_are_each_translated_as_if_alone(make_model: MakeModel) -> None:
    pipeline = uneven(make_model)
    pictures = [_picture(mode, size) for mode in ("RGB", "LA") for size in SIZES]
    together = pipeline(pictures)
    for index, picture in enumerate(pictures):
        alone = pipeline(picture)
        assert together.images[index].tobytes() == alone.images[0].tobytes()
        assert together.generated[index].tobytes() == alone.generated[0].tobytes()
        assert np.array_equal(together.attention[index], alone.attention[0])
        assert np.array_equal(together.raw_attention[index], alone.raw_attention[0])
    assert len(together.images) == len(pictures) == len(together.overlays())
    for shown, picture in zip(together.overlays(), pictures, strict=True):
        assert shown.mode == "RGB" and shown.size == picture.size
    assert pipeline([]).images == []


def test_pictures_of_one_size_go_through_the_networks_together(make_model: MakeModel) -> None:
    pipeline, seen = AGITPipeline(make_model()), list[int]()
    pipeline.model.generator_st.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    square, wide = Image.new("RGB", (20, 20)), Image.new("RGB", (40, 20))
    output = pipeline([square] * 5 + [wide] + [square] * 2, batch_size=2)
    assert seen == [2, 2, 1, 1, 2] and len(output.images) == 8
    assert [image.size for image in output.images[4:7]] == [(20, 20), (40, 20), (20, 20)]


def test_the_input_is_left_as_it_was(make_model: MakeModel) -> None:
    for mode in MODES:
        picture = _picture(mode, (20, 24))
        before = picture.tobytes()
        AGITPipeline(make_model(attention="ones"))(picture)
        assert picture.tobytes() == before and picture.size == (20, 24)


def test_a_saved_model_translates_as_before(make_model: MakeModel, tmp_path: Path) -> None:
    model: AGITModel = make_model().train()
    model.save_pretrained(tmp_path)
    before = AGITPipeline(model)(_picture("RGB", (20, 24)))
    for device in (None, "cpu"):
        pipeline = AGITPipeline.from_pretrained(tmp_path, device=device)
        assert not pipeline.model.training
        if pipeline.device.type == "cpu":
            after = pipeline(_picture("RGB", (20, 24)))
            assert after.images[0].tobytes() == before.images[0].tobytes()
