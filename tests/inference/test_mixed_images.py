"""Images of all sizes and modes, one by one and batched: pixels without attention stay."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from agit_hub.data.shapes import draw
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.inference.prediction import Rendering
from tests.conftest import MakeModel, uneven
from tests.modes import MODES, in_mode

TRAINED = Path(__file__).parents[2] / "space" / "models" / "agit-shapes"
NUM_IMAGES = 200
Random = np.random.Generator


def _noise(random: Random, mode: str, width: int, height: int) -> Image.Image:
    """Draw coarse blotches with a fine grain, so that maps vary over the image."""
    coarse = random.integers(0, 256, (4, 4, 4), dtype=np.uint8)
    layers = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = random.integers(-20, 21, (height, width, 4))
    pixels = np.clip(np.asarray(layers, dtype=int) + grain, 0, 255)
    deep = pixels[..., 0] * 257 - random.integers(0, 257, (height, width)) * (pixels[..., 0] > 0)
    return in_mode(mode, pixels.astype(np.uint8), deep)


def _mixed() -> Iterator[tuple[str, Image.Image]]:
    random = np.random.default_rng(11)
    names = list(MODES)
    for number in range(NUM_IMAGES):
        mode = names[number % len(names)]
        # As many small images as large ones; some of them strips.
        width, height = (round(16 * 19 ** float(share)) for share in random.random(2))
        yield mode, _noise(random, mode, width, height)


def _untouched(mode: str, image: Image.Image, rendering: Rendering) -> npt.NDArray[np.bool_]:
    """Check that pixels without attention are unchanged, and return where they are."""
    translated, attention = rendering.image, rendering.attention
    assert translated.size == image.size and translated.mode == MODES[mode]
    assert attention.shape == image.size[::-1] and attention.dtype == np.float32
    assert attention.min() >= 0 and attention.max() <= 1
    turned = mode.startswith("P")
    before = np.asarray(image.convert(MODES[mode]) if turned else image)
    after, still = np.asarray(translated), attention == 0
    assert np.array_equal(after[still], before[still]), (mode, image.size)
    return still


def _mask(random: Random) -> npt.NDArray[np.float64]:
    """Return a mask of any size, with zeros, ones and values between."""
    height, width = random.integers(1, 40, 2)
    return np.clip(random.random((height, width)) * 3 - 1, 0, 1)


def _random_edits(random: Random, width: int, height: int) -> AttentionEdits:
    def maybe(value: Any, otherwise: Any = None) -> Any:
        return value if random.random() < 0.4 else otherwise

    corner = random.integers(-10, (width, height))
    box = (*corner, *(corner + random.integers(11, 200, 2)))
    return AttentionEdits(
        threshold=maybe(float(random.random())),
        invert=bool(random.random() < 0.3),
        region=maybe(box, maybe(_mask(random))),
        paint=maybe(_mask(random)),
        erase=maybe(_mask(random)),
        feather=maybe(float(random.uniform(0, 9)), 0.0),
        strength=maybe(float(random.random()), 1.0),
    )


def test_pipeline_all_sizes_and_modes_keep_pixels_without_attention(
    make_model: MakeModel,
) -> None:
    pipeline, random = uneven(make_model, attention_threshold=0.4), np.random.default_rng(12)
    shares: dict[str, list[float]] = {"default": [], "threshold": [], "edited": []}
    for mode, image in _mixed():
        before = image.tobytes()
        prediction = pipeline.predict(image, to=("horse", "zebra")[int(random.integers(2))])
        for name, edits in (
            ("default", AttentionEdits()),
            ("threshold", AttentionEdits(threshold=float(random.random()))),
            ("edited", _random_edits(random, *image.size)),
        ):
            still = _untouched(mode, image, prediction.render(edits))
            shares[name].append(float(still.mean()))
        assert image.tobytes() == before and prediction.generated.size == image.size
    for found in shares.values():
        assert len(found) == NUM_IMAGES
        # The test is meaningful: many pixels stay, and many change.
        assert 0.2 < np.mean(found) < 0.8
        assert np.mean([0 < share < 1 for share in found]) > 0.4


def test_render_point_changes_its_object_only(make_model: MakeModel) -> None:
    pipeline, left_out = uneven(make_model), 0
    for mode, image in list(_mixed())[:40]:
        prediction = pipeline.predict(image)
        raw = prediction.raw_attention
        y, x = (int(place) for place in np.unravel_index(raw.argmax(), raw.shape))
        tau = float(raw[y, x]) * 0.8
        rendering = prediction.render(AttentionEdits(points=[(x, y)], threshold=tau))
        still = _untouched(mode, image, rendering)
        assert not still[y, x]
        left_out += bool((still & (raw >= tau)).any())
    assert left_out > 5  # images with further objects


@pytest.mark.parametrize(("label", "to"), [("plain", "striped"), ("striped", "plain")])
def test_pipeline_trained_model_keeps_background(label: str, to: str) -> None:
    pipeline = AGITPipeline.from_pretrained(TRAINED, device="cpu")
    drawings = [draw(label, index, 64) for index in range(40)]
    output = pipeline([image for image, _ in drawings], to=to, batch_size=8, return_generated=False)
    same, changed = [], []
    for (image, mask), translated in zip(drawings, output.images, strict=True):
        equal = (np.asarray(translated) == np.asarray(image)).all(axis=-1)
        same.append(equal[~mask])
        changed.append(~equal[mask])
    assert np.concatenate(same).mean() >= 0.9
    assert np.concatenate(changed).mean() > 0.5  # and objects change


def test_pipeline_batch_matches_single_images(make_model: MakeModel) -> None:
    images = [image for _, image in list(_mixed())[:20]]
    images[4:4] = [draw("plain", index, 64)[0] for index in range(9)]  # two batches and one image
    for pipeline in (uneven(make_model), AGITPipeline.from_pretrained(TRAINED, device="cpu")):
        single, batched = (pipeline(images, threshold=0, batch_size=size) for size in (1, 4))
        assert len(batched.images) == len(images) == len(batched.generated)
        for one, other in zip(single.raw_attention, batched.raw_attention, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
        for one, other in zip(single.attention, batched.attention, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)
        for one, other in zip(single.generated, batched.generated, strict=True):
            assert np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max() <= 1
        for one, other in zip(single.images, batched.images, strict=True):
            assert one.mode == other.mode and one.size == other.size
            if one.mode in ("L", "LA", "RGB", "RGBA"):
                off = np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int))
                assert off.max() <= 1


@pytest.mark.parametrize("size", [0, -1])
def test_pipeline_batch_size_below_1_is_refused(size: int, make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match=f"batch_size is {size}"):
        AGITPipeline(make_model())(Image.new("RGB", (16, 16)), batch_size=size)


def test_stream_reads_one_image_at_a_time(make_model: MakeModel) -> None:
    pipeline, taken = uneven(make_model), 0
    frames = [image for _, image in list(_mixed())[:6]]

    def endless() -> Iterator[Image.Image]:
        nonlocal taken
        while True:
            taken += 1
            yield frames[(taken - 1) % len(frames)]

    stream = pipeline.stream(endless(), edits=AttentionEdits(threshold=0.4))
    assert taken == 0
    for number, frame in enumerate(frames, start=1):
        rendering = next(stream)
        assert taken == number
        expected = pipeline(frame, threshold=0.4)
        assert rendering.image.tobytes() == expected.images[0].tobytes()
        assert np.array_equal(rendering.attention, expected.attention[0])


@pytest.mark.parametrize("batch_size", [1, 3])
def test_pipeline_accepts_generator(batch_size: int, make_model: MakeModel) -> None:
    pipeline = uneven(make_model)
    images = [image for _, image in list(_mixed())[:9]]
    listed = pipeline(images, batch_size=batch_size)
    generated = pipeline((image for image in images), batch_size=batch_size)
    assert len(generated.images) == len(generated.inputs) == len(images)
    for one, other in zip(listed.images, generated.images, strict=True):
        assert one.tobytes() == other.tobytes()
    assert pipeline(iter([])).images == []
