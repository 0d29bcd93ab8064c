"""The page without a server: one file, opened from a disk in a real browser."""

import base64
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from agit_hub.data import shapes
from agit_hub.inference.pipeline import AGITPipeline
from tests.space.conftest import DEMO_MODEL, build_web_page

pytestmark = pytest.mark.slow

Bytes = npt.NDArray[np.uint8]


# Labels are arbitrary text within the page.
PLAIN, STRIPED = "plain</script>", "striped & <b>"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the demo model, with such labels."""
    folder = tmp_path_factory.mktemp("model") / "model"
    shutil.copytree(DEMO_MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"source_label": PLAIN, "target_label": STRIPED}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def pipe(model: Path) -> AGITPipeline:
    return AGITPipeline.from_pretrained(model, device="cpu", backend="torch")


@pytest.fixture(scope="module")
def file(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the page with that model."""
    return build_web_page(model, tmp_path_factory.mktemp("web") / "agit.html")


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Page]:
    """Open the page, which must not use the network."""
    context = browser.new_context(offline=True, accept_downloads=True)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: request.url.startswith("http") and wrong.append(request.url))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert wrong == []


def _drop(page: Page, path: Path) -> None:
    page.set_input_files("#file", path)
    expect(page.locator("#status")).to_contain_text("on this device", timeout=60_000)


def _canvas(page: Page, name: str) -> Bytes:
    url = page.evaluate("name => document.getElementById(name).toDataURL('image/png')", name)
    data = base64.b64decode(url.partition(",")[2])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _saved(image: Image.Image, folder: Path) -> Path:
    image.save(folder / "image.png")
    return folder / "image.png"


@pytest.mark.parametrize("label", shapes.LABELS)
def test_web_page_matches_pipeline(
    opened: Page, pipe: AGITPipeline, tmp_path: Path, label: str
) -> None:
    image = shapes.draw(label, 3, size=64)[0]  # the size at which this model works
    _drop(opened, _saved(image, tmp_path))
    for to in (STRIPED, PLAIN):
        opened.get_by_label(f"to {to}").check()
        expect(opened.locator("#status")).to_contain_text(f"to {to}, in", timeout=60_000)
        expected = pipe(image, to)
        found = _canvas(opened, "output").astype(int)
        assert np.abs(found - np.asarray(expected.images[0], dtype=int)).max() <= 1
        np.testing.assert_array_equal(_canvas(opened, "input"), np.asarray(image))
        heat = _canvas(opened, "attention")
        # Dark exactly where there is no attention.
        dark = (heat == (8, 6, 36)).all(axis=2)
        assert (dark == (expected.attention[0] == 0)).mean() > 0.99


def test_web_page_large_image_keeps_background(
    opened: Page, pipe: AGITPipeline, tmp_path: Path
) -> None:
    large = shapes.draw("plain", 5, size=256)[0].crop((0, 10, 256, 202))
    _drop(opened, _saved(large, tmp_path))
    found, before = _canvas(opened, "output"), np.asarray(large)
    same = (found == before).all(axis=2)
    dark = (_canvas(opened, "attention") == (8, 6, 36)).all(axis=2)
    assert found.shape == before.shape and 0.3 < dark.mean() < 0.95
    assert same[dark].all() and not same.all()
    expected = np.asarray(pipe(large, STRIPED).images[0], dtype=int)
    # The page upsamples maps bilinearly, the pipeline along the image's edges.
    assert np.abs(found - expected).mean() < 4


def test_web_page_threshold_runs_no_network(opened: Page, tmp_path: Path) -> None:
    image = shapes.draw("plain", 3, size=64)[0]
    _drop(opened, _saved(image, tmp_path))
    status = opened.locator("#status").inner_text()
    before = _canvas(opened, "output")
    opened.locator("#threshold").fill("1")
    opened.locator("#threshold").dispatch_event("input")
    np.testing.assert_array_equal(_canvas(opened, "output"), np.asarray(image))
    opened.locator("#threshold").fill("0.1")
    opened.locator("#threshold").dispatch_event("input")
    np.testing.assert_array_equal(_canvas(opened, "output"), before)
    assert opened.locator("#status").inner_text() == status
    with opened.expect_download() as download:
        opened.get_by_role("button", name="Save").click()
    assert download.value.suggested_filename == "striped & _b_.png"
    kept = np.asarray(Image.open(download.value.path()).convert("RGB"))
    np.testing.assert_array_equal(kept, before)


def test_web_page_invalid_image_shows_message(opened: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_bytes(b"not an image")
    opened.set_input_files("#file", tmp_path / "notes.png")
    expect(opened.locator("#status")).to_contain_text("notes.png is not an image")
    opened.set_input_files("#file", _saved(Image.new("RGB", (200, 12)), tmp_path))
    expect(opened.locator("#status")).to_contain_text("at least 16")
