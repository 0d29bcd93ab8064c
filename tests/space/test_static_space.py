"""The page as a folder on a plain web server: fetched in parts, with examples and a brush."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import RepoCard
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.shipped import SMALL_MODEL, example_images
from tests.space.conftest import SPACE, build_web_page
from tests.space.test_web import _canvas, _saved

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the static Space of the small model."""
    return build_web_page(SMALL_MODEL, tmp_path_factory.mktemp("static") / "space")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Serve it without any header of our own."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Page]:
    """Open the page and wait for its first translation; nothing may be asked of other servers."""
    context = browser.new_context(viewport={"width": 390, "height": 800})
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: r.url.startswith((address, "blob:")) or wrong.append(r.url))
    page.goto(address)
    expect(page.locator("#status")).to_contain_text("on this device", timeout=60_000)
    yield page
    context.close()
    assert wrong == []


def test_static_page_opens_with_the_first_example_translated(opened: Page) -> None:
    first = example_images("plain")[0]
    np.testing.assert_array_equal(_canvas(opened, "input"), np.asarray(Image.open(first)))
    expected = AGITPipeline.from_pretrained(SMALL_MODEL, device="cpu")(Image.open(first), "striped")
    found = _canvas(opened, "output").astype(int)
    # The page upsamples maps bilinearly, the pipeline along the image's edges.
    assert np.abs(found - np.asarray(expected.images[0], int)).mean() < 4
    assert opened.locator("#examples button").count() == 8
    # The page's own service worker isolated it, so that the runtime has threads.
    assert opened.evaluate("crossOriginIsolated")
    assert opened.evaluate("document.documentElement.scrollWidth") == 390


def test_static_page_example_of_the_other_label_turns_the_direction(opened: Page) -> None:
    opened.get_by_role("button", name="Example: striped").first.click()
    expect(opened.locator("#status")).to_contain_text("striped to plain, in", timeout=60_000)
    expect(opened.get_by_label("to plain")).to_be_checked()


def test_static_page_brush_translates_and_keeps(opened: Page, tmp_path: Path) -> None:
    opened.set_viewport_size({"width": 1280, "height": 900})
    image = Image.open(example_images("plain")[0])
    opened.set_input_files("#file", _saved(image, tmp_path))
    expect(opened.locator("#status")).to_contain_text("on this device", timeout=60_000)
    box = opened.locator("#attention").bounding_box()
    assert box is not None
    before, corner = _canvas(opened, "output"), slice(0, 8)
    np.testing.assert_array_equal(before[corner, corner], np.asarray(image)[corner, corner])
    opened.locator("#size").fill("40")
    opened.get_by_label("translate here").check()
    opened.mouse.move(box["x"] + 2, box["y"] + 2)
    opened.mouse.down()
    opened.mouse.up()
    opened.wait_for_function("() => new Promise(done => requestAnimationFrame(() => done(true)))")
    painted = _canvas(opened, "output")
    assert (painted[corner, corner] != before[corner, corner]).any()
    assert (_canvas(opened, "attention")[corner, corner] == (252, 250, 190)).all()
    # Rows over the whole map.
    opened.get_by_label("keep this").check()
    opened.mouse.move(box["x"] + 1, box["y"] + 1)
    opened.mouse.down()
    for part in range(11):
        y = box["y"] + 1 + (box["height"] - 2) * part / 10
        opened.mouse.move(box["x"] + (1 if part % 2 else box["width"] - 1), y, steps=8)
        opened.mouse.move(box["x"] + (box["width"] - 1 if part % 2 else 1), y, steps=8)
    opened.mouse.up()
    opened.wait_for_function("() => new Promise(done => requestAnimationFrame(() => done(true)))")
    np.testing.assert_array_equal(_canvas(opened, "output"), np.asarray(image))
    opened.get_by_role("button", name="Clear").click()
    np.testing.assert_array_equal(_canvas(opened, "output"), before)


def test_static_page_without_its_model_says_so(
    browser: Browser, address: str, folder: Path
) -> None:
    moved = folder / "models" / "elsewhere.onnx"
    model = folder / "models" / "source_to_target.onnx"
    model.rename(moved)
    page = browser.new_page()
    try:
        page.goto(address)
        expect(page.locator("#status")).to_contain_text("the model cannot be fetched (404)")
    finally:
        page.close()
        moved.rename(model)


def test_static_space_readme_is_that_of_a_static_space(folder: Path) -> None:
    card = RepoCard.load(folder / "README.md")
    assert card.data.to_dict()["sdk"] == "static"
    assert card.data.to_dict()["title"] == "plain to striped in the browser"
    assert card.data.to_dict()["custom_headers"]["cross-origin-opener-policy"] == "same-origin"
    assert (folder / "examples" / "CREDITS.md").is_file()


def test_build_refuses_a_folder_of_other_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    done = subprocess.run(
        [sys.executable, str(SPACE / "web" / "build.py"), "--out", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode and "name another folder" in done.stderr
    assert (tmp_path / "thesis.tex").is_file()
