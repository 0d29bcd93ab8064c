"""The Space in a real browser."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Position, expect

from agit_hub import AGITPipeline
from agit_hub.data import shapes
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.prediction import Prediction
from agit_hub.shipped import example_images
from tests.space.conftest import DEMO_MODEL, SPACE
from tests.space.videos import write_video

pytestmark = pytest.mark.slow

Pixels = npt.NDArray[np.int16]


@pytest.fixture(scope="module")
def image_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save an image of two or more plain objects, wider than high."""
    path = tmp_path_factory.mktemp("images") / "three objects.png"
    Image.open(SPACE / "examples" / "plain" / "plain-2.png").crop((0, 0, 448, 380)).save(path)
    return path


@pytest.fixture(scope="module")
def prediction(image_path: Path) -> Prediction:
    """Run the demo model on it."""
    return AGITPipeline.from_pretrained(DEMO_MODEL, device="cpu").predict(Image.open(image_path))


def _shown(page: Page, name: str) -> Pixels:
    """Return the pixels of an image on the page, as they were sent."""
    source = page.locator(f"#{name} img").first.get_attribute("src")
    answer = page.request.get(source)
    assert answer.ok
    return np.asarray(Image.open(io.BytesIO(answer.body())).convert("RGB"), dtype=np.int16)


def _change(page: Page, act: Callable[[], object], name: str = "output") -> Pixels:
    """Do something, wait for an image to change, and return it."""
    before = page.locator(f"#{name} img").first.get_attribute("src")
    act()
    page.wait_for_function(
        "([name, before]) => { const image = document.querySelector(`#${name} img`);"
        " return image && image.src !== before && image.complete; }",
        arg=[name, before],
    )
    return _shown(page, name)


def _upload(page: Page, path: Path) -> Pixels:
    page.locator("#input").get_by_label("Remove Image").click()
    page.locator("#output img").wait_for(state="detached")
    page.locator("#input input[type=file]").set_input_files(path)
    page.locator("#output img").wait_for()
    return _shown(page, "output")


def _pixels(image: Image.Image) -> Pixels:
    return np.asarray(image.convert("RGB"), dtype=np.int16)


def _place(page: Page, prediction: Prediction, x: int, y: int) -> tuple[Locator, Position]:
    """Return the attention image's element, and the position of an image's pixel in it."""
    element = page.locator("#attention img")
    box = element.bounding_box()
    assert box is not None
    width, height = prediction.input.size
    # The image is centred in its element, as large as fits.
    scale = min(box["width"] / width, box["height"] / height)
    left, top = (box["width"] - width * scale) / 2, (box["height"] - height * scale) / 2
    return element, {"x": left + (x + 0.5) * scale, "y": top + (y + 0.5) * scale}


def _set(page: Page, slider: str, value: float) -> Callable[[], object]:
    def act() -> None:
        number = page.locator(f"#{slider} input[type=number]")
        number.fill(str(value))
        number.press("Enter")

    return act


def test_page_upload_shows_three_images(
    page: Page, image_path: Path, prediction: Prediction
) -> None:
    output = _upload(page, image_path)
    assert np.array_equal(output, _pixels(prediction.render().image))
    assert _shown(page, "input").shape == output.shape
    attention = _shown(page, "attention")
    assert attention.shape == output.shape
    # The heat map does not cover pixels without attention.
    still = prediction.render().attention == 0
    assert np.array_equal(attention[still], _pixels(prediction.input)[still])
    assert (attention != _pixels(prediction.input)).any(-1)[~still].mean() > 0.9


@pytest.mark.parametrize(
    ("control", "value", "edits"),
    [
        ("threshold", 0.8, AttentionEdits(threshold=0.8)),
        ("feather", 12, AttentionEdits(feather=12)),
        ("strength", 0.5, AttentionEdits(strength=0.5)),
    ],
)
def test_page_slider_changes_output(
    page: Page,
    image_path: Path,
    prediction: Prediction,
    control: str,
    value: float,
    edits: AttentionEdits,
) -> None:
    before = _upload(page, image_path)
    after = _change(page, _set(page, control, value))
    assert np.array_equal(after, _pixels(prediction.render(edits).image))
    assert not np.array_equal(after, before)


def test_page_invert_changes_background(
    page: Page, image_path: Path, prediction: Prediction
) -> None:
    _upload(page, image_path)
    after = _change(page, lambda: page.get_by_label("Invert").check())
    assert np.array_equal(after, _pixels(prediction.render(AttentionEdits(invert=True)).image))


def test_page_click_selects_object_and_resets(
    page: Page, image_path: Path, prediction: Prediction
) -> None:
    whole = _upload(page, image_path)
    y, x = np.unravel_index(np.argmax(prediction.raw_attention), prediction.raw_attention.shape)
    element, place = _place(page, prediction, int(x), int(y))
    alone = _change(page, lambda: element.click(position=place))
    expected = prediction.render(AttentionEdits(points=[(float(x), float(y))]))
    assert np.array_equal(alone, _pixels(expected.image))
    assert not np.array_equal(alone, whole)
    back = _change(page, lambda: page.locator("#every").click())
    assert np.array_equal(back, whole)


def test_page_click_beside_objects_shows_error(
    page: Page, image_path: Path, prediction: Prediction
) -> None:
    _upload(page, image_path)
    y, x = np.unravel_index(np.argmin(prediction.raw_attention), prediction.raw_attention.shape)
    element, place = _place(page, prediction, int(x), int(y))
    element.click(position=place)
    expect(page.get_by_text("No attention at")).to_be_visible()


def test_painting_attends_where_nothing_was(
    page: Page, image_path: Path, prediction: Prediction
) -> None:
    before = _upload(page, image_path)
    with page.expect_response("**/upload*"):  # the editor is ready when it has sent its layers
        page.get_by_role("tab", name="Paint").click()
    canvas = page.locator("#brush canvas").first
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box is not None

    def stroke() -> None:
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + 60, middle[1] + 10, steps=8)
        page.mouse.up()

    after = _change(page, stroke)
    changed = (after != before).any(-1)
    still = prediction.render().attention == 0
    # Pixels without attention got some, near the stroke only.
    assert np.count_nonzero(changed & still) > 50
    assert changed.mean() < 0.2


def test_page_mask_limits_output_until_it_is_cleared(
    page: Page, image_path: Path, prediction: Prediction, tmp_path: Path
) -> None:
    before = _upload(page, image_path)
    mask = np.zeros((190, 224), np.uint8)  # at half the image's size
    mask[:, 112:] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    Image.new("L", (224, 190)).save(tmp_path / "black.png")
    page.get_by_role("button", name="Mask from a file").click()
    chooser = page.locator("#mask input[type=file]")
    chooser.set_input_files(tmp_path / "black.png")
    expect(page.get_by_text("black.png is black everywhere")).to_be_visible()
    shown = page.locator("#mask img")
    expect(shown).to_have_count(0)  # it does not stay
    after = _change(page, lambda: chooser.set_input_files(tmp_path / "mask.png"))
    edits = AttentionEdits(mask=mask)
    assert np.array_equal(after, _pixels(prediction.render(edits).image))
    assert np.array_equal(after[:, :224], _pixels(prediction.input)[:, :224])
    assert not np.array_equal(after, before)
    cleared = _change(page, page.locator("#mask").get_by_label("Remove Image").click)
    assert np.array_equal(cleared, before)
    # It belongs to its image.
    _change(page, lambda: chooser.set_input_files(tmp_path / "mask.png"))
    _change(page, page.locator("#examples button").nth(1).click)
    expect(shown).to_have_count(0)


def test_page_saved_files_are_lossless_at_full_size(
    page: Page, image_path: Path, prediction: Prediction, tmp_path: Path
) -> None:
    _upload(page, image_path)
    page.locator("#save").click()
    links = page.locator("#files a[download]")
    expect(links).to_have_count(3)
    saved = {}
    for index in range(3):
        with page.expect_download() as download:
            links.nth(index).click()
        name = download.value.suggested_filename
        download.value.save_as(tmp_path / name)
        saved[name.removesuffix(".png").rpartition("-")[2]] = Image.open(tmp_path / name)
    rendering = prediction.render()
    assert saved["translated"].mode == "RGB"
    assert saved["translated"].tobytes() == rendering.image.tobytes()
    assert saved["attention"].mode == "L"
    assert np.array_equal(np.asarray(saved["attention"]), np.rint(rendering.attention * 255))
    assert saved["panel"].size == (3 * 448 + 2 * 5, 380)  # 380 // 64 pixels between


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.png", b"these are no pixels", "notes.png is not an image in a known format"),
        ("nothing.png", b"", "nothing.png is empty"),
        (
            "drawing.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            "drawing.svg is not an image",
        ),
    ],
)
def test_page_invalid_file_shows_message(
    page: Page, name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    page.locator("#input").get_by_label("Remove Image").click()
    # Until then the page is being drawn anew, and may replace the field that gets the file.
    expect(page.get_by_text("No image yet.")).to_be_visible()
    page.locator("#input input[type=file]").set_input_files(tmp_path / name)
    expect(page.get_by_text(message)).to_be_visible()


def test_page_example_selects_its_direction(page: Page) -> None:
    output = _change(page, page.locator("#examples button").nth(5).click)
    expect(page.get_by_label("striped → plain")).to_be_checked()
    example = Image.open(SPACE / "examples" / "striped" / "striped-2.png")
    pipeline = AGITPipeline.from_pretrained(DEMO_MODEL, device="cpu")
    assert np.array_equal(output, _pixels(pipeline(example, to="plain").images[0]))


def _choose(page: Page, model: str) -> None:
    box = page.get_by_label("Model")
    box.fill(model)
    box.press("Enter")


def test_page_model_brings_its_examples(page: Page) -> None:
    _change(page, lambda: _choose(page, "small-horses"))
    expect(page.get_by_label("horse \u2192 zebra")).to_be_checked()
    expect(page.locator("#examples button")).to_have_count(12)
    shown = page.locator("#input img").get_attribute("src")
    assert shown is not None and shown.endswith(example_images("horse")[0].name)
    _choose(page, "small-fruit")
    expect(page.locator("#no-examples")).to_contain_text("drop your own above (apple or orange)")
    expect(page.locator("#examples")).to_have_count(0)
    expect(page.locator("#input img")).to_have_count(0)
    expect(page.locator("#status")).to_have_text("No image yet.")


def test_page_status_is_read_by_screen_readers(page: Page) -> None:
    status = page.locator("#status")
    expect(status).to_have_attribute("aria-live", "polite")
    expect(status).to_have_attribute("role", "status")
    expect(status).to_contain_text("448 x 448 pixels")
    _change(page, _set(page, "threshold", 1))
    expect(status).to_contain_text("Nothing changes. Edited in ")


def test_page_animation_and_card_are_downloads(
    page: Page, image_path: Path, prediction: Prediction, tmp_path: Path
) -> None:
    _upload(page, image_path)
    page.get_by_role("tab", name="Share", exact=True).click()
    for name, suffix, kind in (
        ("animation", "before-after.webp", "WEBP"),
        ("share-card", "card.png", "PNG"),
    ):
        page.locator(f"#make-{name}").click()
        page.locator(f"#{name} img").wait_for()
        with page.expect_download() as download:
            page.locator(f"#download-{name}").click()
        assert download.value.suggested_filename == f"three_objects-{suffix}"
        download.value.save_as(tmp_path / suffix)
        with Image.open(tmp_path / suffix) as image:
            assert image.format == kind
    _change(page, _set(page, "strength", 0.5))  # what was made shows something else now
    expect(page.locator("#download-animation")).to_have_count(0)


def test_page_video_is_translated_and_can_be_stopped(page: Page, tmp_path: Path) -> None:
    page.get_by_role("tab", name="Video", exact=True).click()
    clip = write_video(tmp_path / "clip.mp4", frames=6)
    page.locator("#video input[type=file]").set_input_files(clip)
    page.locator("#start-video").click()
    page.locator("#film video").wait_for()
    expect(page.locator("#video-status")).to_contain_text("6 frames, 0.8 s of film")
    expect(page.locator("#film-files a")).to_have_count(2)
    page.locator("#video").get_by_role("button", name="Clear").click()
    long = write_video(tmp_path / "long.mp4", frames=120, rate=12, size=(640, 480))
    page.locator("#video input[type=file]").set_input_files(long)
    page.locator("#start-video").click()
    expect(page.locator("#film")).to_contain_text("of the film")
    page.locator("#stop-video").click()
    expect(page.locator("#video-status")).to_have_text("Stopped; nothing of the film is kept.")


def test_page_video_that_is_none_shows_message(page: Page, tmp_path: Path) -> None:
    (tmp_path / "notes.mp4").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n")
    page.get_by_role("tab", name="Video", exact=True).click()
    page.locator("#start-video").click()
    expect(page.get_by_text("No video yet: drop one above.")).to_be_visible()
    page.locator("#video input[type=file]").set_input_files(tmp_path / "notes.mp4")
    page.locator("#start-video").click()
    expect(page.get_by_text("notes.mp4 is damaged or not a video")).to_be_visible()


def test_page_batch_reports_invalid_file(page: Page, tmp_path: Path) -> None:
    paths = []
    for index in range(2):
        paths.append(tmp_path / f"{index}.png")
        shapes.draw("plain", index, size=64, seed=5)[0].save(paths[-1])
    paths.append(tmp_path / "broken.png")
    paths[-1].write_bytes(paths[0].read_bytes()[:200])
    page.get_by_role("tab", name="Many images").click()
    page.locator("#many input[type=file]").set_input_files(paths)
    page.locator("#start").click()
    expect(page.locator("#summary")).to_contain_text("2 of 3 images translated")
    expect(page.locator("#summary")).to_contain_text("broken.png is damaged")
    expect(page.locator("#gallery img").first).to_be_visible()


def test_page_requests_go_to_space_only(page: Page, space: str) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.reload()
    page.locator("#output img").wait_for()
    outside = [url for url in requests if not url.startswith((space, "data:", "blob:"))]
    assert requests and not outside


def test_page_fits_phone_width(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.locator("#output img").scroll_into_view_if_needed()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    for name in ("input", "attention", "output", "threshold", "compare"):
        box = page.locator(f"#{name}").bounding_box()
        assert box is not None and box["x"] >= 0 and box["x"] + box["width"] <= 390
