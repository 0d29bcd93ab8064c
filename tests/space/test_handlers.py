"""From the page's values to its new ones."""

import shutil
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from agit_hub.data import shapes
from agit_hub.errors import SpaceError
from agit_hub.shipped import example_images
from agit_hub.space.edits import PAINT
from agit_hub.space.handlers import Handlers
from agit_hub.space.service import SpaceService
from tests.space.conftest import DEMO_MODEL, relabelled
from tests.space.videos import write_video

SHAPES = ["plain \u2192 striped", "striped \u2192 plain"]
HORSES = ["horse \u2192 zebra", "zebra \u2192 horse"]
DEFAULTS = (0.1, 0, 1, False)


@pytest.fixture(scope="module")
def handlers(tmp_path_factory: pytest.TempPathFactory) -> Handlers:
    """Three small models, the last one without examples."""
    folder = tmp_path_factory.mktemp("models")
    models = {
        "shapes": DEMO_MODEL,
        "horses": relabelled(folder / "horses", "horse", "zebra"),
        "fruit": relabelled(folder / "fruit", "apple", "orange"),
    }
    return Handlers(SpaceService({name: str(path) for name, path in models.items()}))


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


@pytest.fixture
def drawn(tmp_path: Path) -> str:
    path = tmp_path / "drawn.png"
    shapes.draw("plain", 4, size=96, seed=41)[0].save(path)
    return str(path)


def _sent(example: Path, folder: Path) -> str:
    """Return the path of an example that a page sent back."""
    return str(shutil.copy(example, folder / example.name))


def _is_unchanged(update: Any) -> bool:
    return isinstance(update, dict) and "value" not in update


def test_select_model_replaces_the_example_of_another(handlers: Handlers, tmp_path: Path) -> None:
    path = _sent(example_images("striped")[1], tmp_path)
    direction, image, examples, note, *thresholds = handlers.select_model("horses", SHAPES[1], path)
    assert (direction["choices"], direction["value"]) == (HORSES, HORSES[0])
    assert Path(image).name == example_images("horse")[0].name
    assert Path(image).is_relative_to(tmp_path / "gradio")
    shown = [*example_images("horse"), *example_images("zebra")]
    assert [Path(path).name for (path,) in examples["samples"]] == [each.name for each in shown]
    assert examples["visible"]
    assert not note["visible"] and thresholds == [0.1] * 3


def test_select_model_without_examples_says_so(handlers: Handlers, tmp_path: Path) -> None:
    path = _sent(example_images("horse")[0], tmp_path)
    _, image, examples, note, *_ = handlers.select_model("fruit", HORSES[0], path)
    assert image is None and examples["samples"] == [] and not examples["visible"]
    assert note["visible"] and "drop your own above (apple or orange)" in note["value"]


def test_select_model_keeps_a_visitor_image_and_a_known_direction(
    handlers: Handlers, drawn: str, tmp_path: Path
) -> None:
    # A name like an example's makes no example.
    own = tmp_path / "plain-1.png"
    shutil.copy(drawn, own)
    for path in (drawn, str(own), _sent(example_images("striped")[0], tmp_path)):
        for to, kept in ((SHAPES[1], SHAPES[1]), (HORSES[0], SHAPES[0])):
            direction, image, *_ = handlers.select_model("shapes", to, path)
            assert direction["value"] == kept and _is_unchanged(image)
    _, image, *_ = handlers.select_model("horses", SHAPES[0], str(own))
    assert _is_unchanged(image)


def test_select_model_without_an_image_shows_an_example(handlers: Handlers) -> None:
    _, image, *_ = handlers.select_model("horses", SHAPES[0], None)
    assert Path(image).name == example_images("horse")[0].name


def test_select_example_sets_the_direction_of_its_label(handlers: Handlers) -> None:
    for index, expected in ((0, HORSES[0]), (5, HORSES[1]), (11, HORSES[1])):
        image, direction = handlers.select_example(index, HORSES[0], "horses")
        assert direction == expected
        shown = [*example_images("horse"), *example_images("zebra")][index]
        assert Path(image).read_bytes() == shown.read_bytes()


@pytest.mark.parametrize("index", [-1, 12, None, "0", 10**30])
def test_select_example_that_is_none_changes_nothing(handlers: Handlers, index: Any) -> None:
    image, direction = handlers.select_example(index, HORSES[1], "horses")
    assert _is_unchanged(image) and direction == HORSES[1]


def _status(shown: tuple[Any, ...]) -> str:
    return str(shown[9])


def test_show_says_size_time_and_share(handlers: Handlers, drawn: str) -> None:
    shown = handlers.show(drawn, SHAPES[0], "shapes", *DEFAULTS)
    share = 100 * np.mean(handlers._service.render(drawn, SHAPES[0], "shapes").attention > 0)
    assert _status(shown).startswith(
        "plain \u2192 striped in 0."
    ) and "96 x 96 pixels. " in _status(shown)
    assert f" {share:.0f}% of the image changes. Edits take " in _status(shown)
    attention, output, compare = shown[:3]
    assert compare[1] == output != attention
    with Image.open(output) as image:
        expected = handlers._service.render(drawn, SHAPES[0], "shapes").image
        assert image.tobytes() == expected.tobytes()


def test_show_of_a_large_image_says_at_which_size(handlers: Handlers, tmp_path: Path) -> None:
    Image.new("RGB", (2560, 320)).save(tmp_path / "wide.png")
    shown = handlers.show(str(tmp_path / "wide.png"), "", "shapes", *DEFAULTS)
    assert (
        "2560 x 320 pixels, shown here at 1280 x 160 (saved files have the full size)."
        in _status(shown)
    )


def test_edit_says_what_changes_and_discards_what_was_made_before(
    handlers: Handlers, drawn: str
) -> None:
    edited = handlers.edit(drawn, SHAPES[0], "shapes", 1.0, 0, 1, False, None, None, [])
    *_, files, animation, _, card, _, status = edited
    assert status.startswith("Nothing changes. Edited in ")
    assert all(each["value"] is None and not each["visible"] for each in (files, animation, card))


def test_paint_without_other_strokes_changes_nothing(
    handlers: Handlers, drawn: str, tmp_path: Path
) -> None:
    """The brush says that it changed when its tab is opened."""
    blank, painted = tmp_path / "blank.png", tmp_path / "painted.png"
    Image.new("RGBA", (32, 32)).save(blank)
    Image.new("RGBA", (32, 32), PAINT).save(painted)

    def paint(strokes: Path | None, before: Path | None) -> Any:
        files = [path and str(path) for path in (strokes, before)]
        return handlers.paint(drawn, SHAPES[0], "shapes", *DEFAULTS, None, files[0], [], files[1])

    for strokes, before in ((blank, None), (None, None), (painted, painted)):
        assert paint(strokes, before) == gr.skip()
    *_, status, now = paint(painted, None)
    assert status.startswith("100% of the image changes.") and now == str(painted)
    *_, status, now = paint(blank, painted)  # all strokes were removed
    assert not status.startswith("100%") and now is None


def test_status_is_text_and_no_html(tmp_path: Path, drawn: str) -> None:
    model = relabelled(tmp_path / "m", "<b>cat", "dog")
    own = Handlers(SpaceService({"m": str(model)}))
    assert _status(own.show(drawn, "", "m", *DEFAULTS)).startswith(" in 0.")
    assert "&lt;b&gt;cat \u2192 dog in" in _status(
        own.show(drawn, "<b>cat \u2192 dog", "m", *DEFAULTS)
    )


def test_share_without_an_image_is_refused(handlers: Handlers) -> None:
    for make in (handlers.save, handlers.animate, handlers.make_card):
        with pytest.raises(SpaceError, match="No image yet"):
            make(None, SHAPES[0], "shapes", *DEFAULTS, None, None, [])


def test_film_reports_steps_and_gives_both_files(handlers: Handlers, tmp_path: Path) -> None:
    path = write_video(tmp_path / "clip.mp4", frames=4, rate=8)
    said: list[str] = []

    def progress(share: float, desc: str) -> None:
        said.append(f"{share:.2f} {desc}")

    first, *_, last = handlers.film(str(path), SHAPES[0], "shapes", 0.1, 0, progress)  # type: ignore[arg-type]
    assert first[2] == "Reading the video."
    assert said[0] == "0.25 0.1 s of the film" and said[-1].startswith("1.00")
    film, files, status = last
    assert film == files["value"][0] and len(files["value"]) == 2
    assert status.startswith("plain \u2192 striped: 4 frames, 0.5 s of film, in ")


def test_film_without_a_video_is_refused(handlers: Handlers) -> None:
    with pytest.raises(SpaceError, match="No video yet"):
        next(handlers.film(None, SHAPES[0], "shapes", 0.1, 0))
