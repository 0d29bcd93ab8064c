"""Pictures of all sizes and modes, one by one and together: what is not attended to stays."""

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

TRAINED = Path(__file__).parents[2] / "space" / "model"
PICTURES = 200
Random = np.random.Generator


def _noise(random: Random, mode: str, width: int, height: int) -> Image.Image:
    """Coarse blotches with a fine grain, so that maps vary over the picture."""
    coarse = random.integers(0, 256, (4, 4, 4), dtype=np.uint8)
    layers = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = random.integers(-20, 21, (height, width, 4))
    pixels = np.clip(np.asarray(layers, dtype=int) + grain, 0, 255)
    deep = pixels[..., 0] * 257 - random.integers(0, 257, (height, width)) * (pixels[..., 0] > 0)
    return in_mode(mode, pixels.astype(np.uint8), deep)


def _mixed() -> Iterator[tuple[str, Image.Image]]:
    random = np.random.default_rng(11)
    names = list(MODES)
    for number in range(PICTURES):
        mode = names[number % len(names)]
        # As many small ones as large ones; some of them strips.
        width, height = (round(16 * 19 ** float(share)) for share in random.random(2))
        yield mode, _noise(random, mode, width, height)


def _untouched(mode: str, picture: Image.Image, rendering: Rendering) -> npt.NDArray[np.bool_]:
    """Hold the promise for one picture, and say where it holds."""
    image, attention = rendering.image, rendering.attention
    assert image.size == picture.size and image.mode == MODES[mode]
    assert attention.shape == picture.size[::-1] and attention.dtype == np.float32
    assert attention.min() >= 0 and attention.max() <= 1
    turned = mode.startswith("P")
    before = np.asarray(picture.convert(MODES[mode]) if turned else picture)
    after, still = np.asarray(image), attention == 0
    assert np.array_equal(after[still], before[still]), (mode, picture.size)
    return still


def _mask(random: Random) -> npt.NDArray[np.float64]:
    """Of any size, with zeros, ones and values between."""
    height, width = random.integers(1, 40, 2)
    return np.clip(random.random((height, width)) * 3 - 1, 0, 1)


def _wishes(random: Random, width: int, height: int) -> AttentionEdits:
    def perhaps(value: Any, otherwise: Any = None) -> Any:
        return value if random.random() < 0.4 else otherwise

    corner = random.integers(-10, (width, height))
    box = (*corner, *(corner + random.integers(11, 200, 2)))
    return AttentionEdits(
        threshold=perhaps(float(random.random())),
        invert=bool(random.random() < 0.3),
        region=perhaps(box, perhaps(_mask(random))),
        paint=perhaps(_mask(random)),
        erase=perhaps(_mask(random)),
        feather=perhaps(float(random.uniform(0, 9)), 0.0),
        strength=perhaps(float(random.random()), 1.0),
    )


def test_pictures_of_all_sizes_and_modes_stay_where_nothing_is_attended_to(
    make_model: MakeModel,
) -> None:
    pipeline, random = uneven(make_model, attention_threshold=0.4), np.random.default_rng(12)
    shares: dict[str, list[float]] = {"default": [], "threshold": [], "steered": []}
    for mode, picture in _mixed():
        before = picture.tobytes()
        proposal = pipeline.predict(picture, to=("horse", "zebra")[int(random.integers(2))])
        for name, edits in (
            ("default", AttentionEdits()),
            ("threshold", AttentionEdits(threshold=float(random.random()))),
            ("steered", _wishes(random, *picture.size)),
        ):
            still = _untouched(mode, picture, proposal.render(edits))
            shares[name].append(float(still.mean()))
        assert picture.tobytes() == before and proposal.generated.size == picture.size
    for found in shares.values():
        assert len(found) == PICTURES
        # Neither promise is empty: a good part of all pixels stays, and a good part does not.
        assert 0.2 < np.mean(found) < 0.8
        assert np.mean([0 < share < 1 for share in found]) > 0.4


def test_a_point_leaves_all_but_its_object(make_model: MakeModel) -> None:
    pipeline, left_out = uneven(make_model), 0
    for mode, picture in list(_mixed())[:40]:
        proposal = pipeline.predict(picture)
        raw = proposal.raw_attention
        y, x = (int(place) for place in np.unravel_index(raw.argmax(), raw.shape))
        tau = float(raw[y, x]) * 0.8
        rendering = proposal.render(AttentionEdits(points=[(x, y)], threshold=tau))
        still = _untouched(mode, picture, rendering)
        assert not still[y, x]
        left_out += bool((still & (raw >= tau)).any())
    assert left_out > 5  # pictures with other objects than that one


@pytest.mark.parametrize(("label", "to"), [("plain", "striped"), ("striped", "plain")])
def test_a_trained_model_leaves_nine_tenths_of_the_true_background(label: str, to: str) -> None:
    pipeline = AGITPipeline.from_pretrained(TRAINED, device="cpu")
    drawings = [draw(label, index, 64) for index in range(40)]
    output = pipeline(
        [picture for picture, _ in drawings], to=to, batch_size=8, return_generated=False
    )
    same, changed = [], []
    for (picture, mask), image in zip(drawings, output.images, strict=True):
        equal = (np.asarray(image) == np.asarray(picture)).all(axis=-1)
        same.append(equal[~mask])
        changed.append(~equal[mask])
    assert np.concatenate(same).mean() >= 0.9
    assert np.concatenate(changed).mean() > 0.5  # and it does translate


def test_a_batch_gives_what_single_pictures_give(make_model: MakeModel) -> None:
    pictures = [picture for _, picture in list(_mixed())[:20]]
    pictures[4:4] = [draw("plain", index, 64)[0] for index in range(9)]  # two batches and one over
    for pipeline in (uneven(make_model), AGITPipeline.from_pretrained(TRAINED, device="cpu")):
        single, batched = (pipeline(pictures, threshold=0, batch_size=size) for size in (1, 4))
        assert len(batched.images) == len(pictures) == len(batched.generated)
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
def test_a_batch_of_none_is_refused(size: int, make_model: MakeModel) -> None:
    with pytest.raises(ValueError, match=f"batch_size is {size}"):
        AGITPipeline(make_model())(Image.new("RGB", (16, 16)), batch_size=size)


def test_a_stream_takes_one_picture_at_a_time(make_model: MakeModel) -> None:
    pipeline, taken = uneven(make_model), 0
    frames = [picture for _, picture in list(_mixed())[:6]]

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
def test_pictures_may_come_out_of_a_generator(batch_size: int, make_model: MakeModel) -> None:
    pipeline = uneven(make_model)
    pictures = [picture for _, picture in list(_mixed())[:9]]
    listed = pipeline(pictures, batch_size=batch_size)
    generated = pipeline((picture for picture in pictures), batch_size=batch_size)
    assert len(generated.images) == len(generated.inputs) == len(pictures)
    for one, other in zip(listed.images, generated.images, strict=True):
        assert one.tobytes() == other.tobytes()
    assert pipeline(iter([])).images == []
