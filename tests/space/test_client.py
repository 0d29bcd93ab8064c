"""The Space's two endpoints, called by programs."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from agit_hub import AGITPipeline
from agit_hub.data import shapes
from tests.space.conftest import DEMO_MODEL, serve

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(space: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(space, verbose=False, download_files=tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def pipeline() -> AGITPipeline:
    return AGITPipeline.from_pretrained(DEMO_MODEL, device="cpu")


def _drawn(folder: Path, index: int, size: int = 96, label: str = "plain") -> Path:
    path = folder / f"{label}-{index}.png"
    shapes.draw(label, index, size=size, seed=6)[0].save(path)
    return path


def test_endpoint_translate_returns_full_size_files(
    client: Client, pipeline: AGITPipeline, tmp_path: Path
) -> None:
    path = _drawn(tmp_path, 0, size=2000)  # larger than what the page shows
    files = client.predict(
        handle_file(path), to="striped", threshold=0.3, feather=4, strength=0.9,
        invert=False, api_name="/translate",
    )  # fmt: skip
    image, attention, panel = map(Image.open, files)
    expected = pipeline(Image.open(path), threshold=0.3, feather=4, strength=0.9)
    assert image.mode == "RGB" and image.tobytes() == expected.images[0].tobytes()
    assert np.array_equal(np.asarray(attention), np.rint(expected.attention[0] * 255))
    assert panel.size == (3 * 2000 + 2 * 31, 2000)


def test_endpoint_translate_takes_a_mask(client: Client, tmp_path: Path) -> None:
    path = _drawn(tmp_path, 5)
    mask = np.zeros((48, 48), np.uint8)  # at half the image's size
    mask[:, 24:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    image, attention, _ = client.predict(
        handle_file(path),
        threshold=0,
        mask=handle_file(tmp_path / "mask.png"),
        api_name="/translate",
    )
    given, made = np.asarray(Image.open(path)), np.asarray(Image.open(image))
    assert np.array_equal(made[:, :48], given[:, :48]) and not np.array_equal(made, given)
    assert not np.asarray(Image.open(attention))[:, :48].any()
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    with pytest.raises(AppError, match=r"^black\.png is black everywhere"):
        client.predict(
            handle_file(path), mask=handle_file(tmp_path / "black.png"), api_name="/translate"
        )


def test_endpoint_translate_defaults_are_model_defaults(
    client: Client, pipeline: AGITPipeline, tmp_path: Path
) -> None:
    path = _drawn(tmp_path, 1)
    image, _, _ = client.predict(handle_file(path), api_name="/translate")
    assert Image.open(image).tobytes() == pipeline(Image.open(path)).images[0].tobytes()


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "I;16", "CMYK"])
def test_endpoint_translate_keeps_mode(client: Client, mode: str, tmp_path: Path) -> None:
    drawn = Image.open(_drawn(tmp_path, 2))
    if mode == "I;16":
        drawn = Image.fromarray(np.asarray(drawn.convert("L")).astype(np.uint16) * 257)
    path = tmp_path / ("scan.tif" if mode == "CMYK" else "scan.png")
    (drawn if mode == "I;16" else drawn.convert(mode)).save(path)
    image, _, _ = client.predict(handle_file(path), api_name="/translate")
    assert Image.open(image).mode == mode and Image.open(image).size == (96, 96)


def test_endpoint_attention_returns_map_and_overlay(
    client: Client, pipeline: AGITPipeline, tmp_path: Path
) -> None:
    path = _drawn(tmp_path, 3, label="striped")
    grey, over = client.predict(handle_file(path), to="plain", api_name="/attention")
    expected = pipeline(Image.open(path), to="plain")
    assert np.array_equal(np.asarray(Image.open(grey)), np.rint(expected.attention[0] * 255))
    assert Image.open(over).convert("RGB").tobytes() == expected.overlay().tobytes()


def test_endpoints_are_two(client: Client) -> None:
    endpoints = client.view_api(return_format="dict")
    assert sorted(endpoints["named_endpoints"]) == ["/attention", "/translate"]
    assert not endpoints["unnamed_endpoints"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "cow"}, "striped or to plain, not to cow"),
        ({"threshold": 3}, "threshold is 3"),
        ({"strength": -1}, "strength is -1"),
        ({"strength": None}, "strength is None"),
        ({"threshold": "much"}, "threshold is 'much'"),
        ({"feather": 10**6}, "feather is 1000000; at most 100"),
        ({"model": "/etc"}, "'/etc' is no model"),
        ({"model": "../../etc"}, "is no model"),
        ({"model": "user/nothing"}, "user/nothing"),
        ({"model": "space/models"}, "space/models"),
    ],
)
def test_endpoint_invalid_option_returns_message(
    client: Client, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(AppError) as raised:
        client.predict(handle_file(_drawn(tmp_path, 4)), api_name="/translate", **options)
    assert message in str(raised.value) and "Traceback" not in str(raised.value)


def test_endpoint_too_many_pixels_are_refused_by_header(client: Client, tmp_path: Path) -> None:
    Image.new("1", (6000, 4001)).save(tmp_path / "wide.png")
    with pytest.raises(AppError, match=r"wide\.png.*6000 x 4001 pixels.*24 megapixels"):
        client.predict(handle_file(tmp_path / "wide.png"), api_name="/translate")


def test_endpoint_concurrent_users_get_their_own_results(
    client: Client, space: str, pipeline: AGITPipeline, tmp_path: Path
) -> None:
    paths = [_drawn(tmp_path, index) for index in range(8)]
    for number, path in enumerate(paths):  # one name for all of them
        (tmp_path / str(number)).mkdir()
        paths[number] = Path(shutil.move(path, tmp_path / str(number) / "mine.png"))

    def translate(path: Path) -> str:
        own = Client(space, verbose=False, download_files=path.parent)
        return own.predict(handle_file(path), api_name="/translate")[0]

    with ThreadPoolExecutor(4) as users:
        results = list(users.map(translate, paths))
    for path, result in zip(paths, results, strict=True):
        assert Image.open(result).tobytes() == pipeline(Image.open(path)).images[0].tobytes()


def test_space_unavailable_model_ends_start_with_message(tmp_path: Path) -> None:
    with pytest.raises(AssertionError) as raised, serve(tmp_path, AGIT_MODELS="nowhere/nothing"):
        pass
    message = str(raised.value).splitlines()[-1]
    assert message.startswith("error: nowhere/nothing ") and "cache" in message
