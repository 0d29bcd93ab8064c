"""The Space's page: what is where, and what happens when it is touched."""

import importlib.util
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from agit_hub.proposal import Rendering
from agit_hub.steering import Point
from picture_file import PictureFile
from studio import (
    ERASE,
    MAX_BATCH,
    MAX_MEGABYTES,
    MAX_MEGAPIXELS,
    PAINT,
    PREVIEW,
    Studio,
    StudioError,
    Wishes,
    preview,
)
from theme import CSS, THEME

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE / "examples"
HEAD = """
# Change the object. Keep everything else.
Two networks translate and two decide *where*. Where attention is zero, the picture that comes out is the
one that went in, byte for byte. And where it looks is up to you.
"""
HOW = (HERE / "how.md").read_text(encoding="utf-8")
HEAT = 0.8  # opacity of the heat map where attention is 1
EDITOR = 640  # pixels of the longer side of what is painted on

Handler = Callable[..., Any]


def in_words(handler: Handler) -> Handler:
    """Show what a person should change as a message, not as a failure of ours."""

    @wraps(handler)
    def run(*arguments: Any, **named: Any) -> Any:
        try:
            return handler(*arguments, **named)
        except StudioError as error:
            raise gr.Error(str(error), title="That did not work", print_exception=False) from error

    return run


def build(studio: Studio) -> gr.Blocks:
    """The whole page over a studio."""
    with gr.Blocks(title="AGIT Hub", fill_width=True, delete_cache=(600, 3600)) as demo:
        gr.Markdown(HEAD, elem_id="head")
        page = _Page(studio)
        with gr.Tab("Translate"):
            model, direction = _translate_tab(demo, studio, page)
        with gr.Tab("Many pictures"):
            _batch_tab(page, model, direction, studio.pipeline(model.value).threshold)
        with gr.Tab("How it works"):
            gr.Markdown(HOW)
            with gr.Accordion("The model's card", open=True):
                card = gr.Markdown(elem_id="card")
            gr.on([demo.load, model.change], in_words(studio.card), model, card, **_PRIVATE)
        _api(studio)
    whole: gr.Blocks = demo
    return whole


def launch(demo: gr.Blocks, **options: Any) -> Any:
    """Serve a page, with our limits; options are Gradio's."""
    demo.queue(default_concurrency_limit=2, max_size=100)
    return demo.launch(
        theme=THEME,
        css=CSS,
        # Ours is the message for what is too large; Gradio's is for what is far too large.
        max_file_size=f"{4 * MAX_MEGABYTES}mb",
        state_session_capacity=200,
        ssr_mode=False,
        show_error=True,
        mcp_server=importlib.util.find_spec("mcp") is not None,
        **options,
    )


_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_ASKING: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


def _translate_tab(demo: gr.Blocks, studio: Studio, page: "_Page") -> tuple[gr.Dropdown, gr.Radio]:
    name = next(iter(studio.models))
    directions = studio.directions(name)
    with gr.Row(equal_height=True):
        direction = gr.Radio(
            directions, value=directions[0], label="Direction", elem_id="direction", min_width=300
        )
        model = gr.Dropdown(
            list(studio.models), value=name, allow_custom_value=True, label="Model",
            info="From the list, or any repo of the Hub: user/model", elem_id="model", min_width=300,
        )  # fmt: skip
    first = sorted(EXAMPLES.glob(f"{directions[0].split()[0]}*.png"))[:1]
    with gr.Row(elem_id="pictures", equal_height=True):
        picture = PictureFile(
            value=str(first[0]) if first else None, label="Input", type="filepath", height=380,
            image_mode=None, sources=["upload"], elem_id="input",
            placeholder=f"Drop a picture here, up to {MAX_MEGAPIXELS} megapixels",
        )  # fmt: skip
        shown: dict[str, Any] = {"interactive": False, "format": "png", "height": 380,
                 "buttons": ["download", "fullscreen"]}  # fmt: skip
        attention = gr.Image(label="Attention (click an object)",
                             elem_id="attention", **shown)  # fmt: skip
        output = gr.Image(label="Output", elem_id="output", **shown)
    examples = gr.Examples(
        [[str(file)] for file in sorted(EXAMPLES.glob("*.png"))], [picture], label="Examples",
        examples_per_page=12, api_visibility="private", elem_id="examples",
    )  # fmt: skip
    with gr.Row():
        with gr.Column(scale=1):
            sliders = _sliders(studio.pipeline(name).threshold)
            with gr.Row():
                every = gr.Button("All objects", size="sm", elem_id="every")
                save = gr.Button("Files to keep", size="sm", variant="primary", elem_id="save")
            files = gr.File(label="Output, map and panel, without loss", file_count="multiple",
                            visible=False, elem_id="files")  # fmt: skip
        with gr.Column(scale=1), gr.Tabs():
            with gr.Tab("Before and after"):
                compare = gr.ImageSlider(label="Input | output", format="png", interactive=False,
                                         elem_id="compare", max_height=420)  # fmt: skip
            with gr.Tab("Paint attention"):
                gr.Markdown(
                    "Green is attended to, red is left alone; the eraser takes strokes back."
                )
                brush = _brush()
    points = gr.State([])
    asked = [picture, direction, model, *sliders, brush, points]
    pictures = [attention, output, compare]
    anew: dict[str, Any] = {"inputs": asked[:-2], "outputs": [*pictures, brush, points, files]}
    again: dict[str, Any] = {"inputs": asked, "outputs": [*pictures, points, files]}
    live: dict[str, Any] = {"trigger_mode": "always_last", "concurrency_id": "live", **_PRIVATE}
    gr.on([picture.upload, direction.input], in_words(page.show), **anew, **_ASKING)
    # This event comes while the picture is still there.
    picture.clear(
        lambda: (None, *page.show(None, "", "")), None, [picture, *anew["outputs"]], **_PRIVATE
    )
    model.change(in_words(page.choose), model, [direction, sliders[0]], **_ASKING).success(
        in_words(page.show), **anew, **_ASKING
    )
    gr.on([slider.input for slider in sliders], in_words(page.steer), **again, **live)
    brush.input(in_words(page.steer), **again, **live)
    every.click(lambda: [], None, points, **_PRIVATE).then(in_words(page.steer), **again, **live)
    attention.select(in_words(page.pick), **again, **_PRIVATE)
    save.click(in_words(page.save), asked, files, **_ASKING)
    examples.load_input_event.then(
        in_words(page.example), [picture, direction, model], direction, **_PRIVATE
    ).then(in_words(page.show), **anew, **_ASKING)
    # The page opens with an example that is already translated.
    demo.load(in_words(page.show), **anew, **_ASKING)
    demo.load(lambda: gr.update(choices=studio.known_models()), None, model, **_PRIVATE)
    return model, direction


def _sliders(threshold: float) -> list[Any]:
    return [
        gr.Slider(0, 1, threshold, step=0.01, label="Threshold", elem_id="threshold",
                  info="Attention below it counts as background"),
        gr.Slider(0, 40, 0, step=1, label="Feather", elem_id="feather",
                  info="Pixels over which the map's edge fades"),
        gr.Slider(0, 1, 1, step=0.01, label="Strength", elem_id="strength",
                  info="How much of the translation shows"),
        gr.Checkbox(label="Invert: change the background instead", elem_id="invert"),
    ]  # fmt: skip


def _brush() -> gr.ImageEditor:
    return gr.ImageEditor(
        type="pil", sources=(), transforms=(), format="png", show_label=False, height=380,
        brush=gr.Brush(default_size=24, colors=[PAINT, ERASE], color_mode="fixed"),
        eraser=gr.Eraser(default_size=24), layers=False, elem_id="brush",
    )  # fmt: skip


class _Page:
    """What the page's events do; every method takes the page's values and returns its new ones."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def choose(self, model: str) -> tuple[Any, float]:
        """Another model: its directions, and its own threshold."""
        directions = self._studio.directions(model)
        threshold = self._studio.pipeline(model).threshold
        return gr.update(choices=directions, value=directions[0]), threshold

    def example(self, path: str, to: str, model: str) -> str:
        """An example was chosen: the direction that starts from what its name says that it shows."""
        label = Path(path).stem.split("-")[0]
        ways = self._studio.directions(model)
        return next((way for way in ways if way.startswith(label)), to)

    def show(self, path: str | None, to: str, model: str, *sliders: Any) -> tuple[Any, ...]:
        """Another picture, direction or model: all three pictures, nothing painted, all objects."""
        if path is None:
            return None, None, None, None, [], gr.update(visible=False)
        *shown, points, files = self.steer(path, to, model, *sliders, None, [])
        picture = self._studio.propose(path, to, model).picture
        canvas = preview(picture, EDITOR).convert("RGB")
        return *shown, {"background": canvas, "layers": [], "composite": canvas}, points, files

    def steer(self, path: str | None, to: str, model: str, *settings: Any) -> tuple[Any, ...]:
        """Another setting: the pictures anew, with no network run."""
        *_, points = settings
        if path is None:
            return None, None, None, points, gr.update(visible=False)
        rendering = self._studio.render(path, to, model, _wishes(*settings))
        output = preview(rendering.image)
        pictures = preview(rendering.overlay(HEAT)), output, (preview(rendering.input), output)
        return *pictures, points, gr.update(visible=False)

    def pick(
        self,
        path: str,
        to: str,
        model: str,
        threshold: float,
        feather: float,
        strength: float,
        invert: bool,
        strokes: dict[str, Any] | None,
        points: list[Point],
        event: gr.SelectData,
    ) -> tuple[Any, ...]:
        """A click on the attention picture: that object, beside those chosen before."""
        size = self._studio.propose(path, to, model).picture.size
        scale = max(1.0, max(size) / PREVIEW)
        x, y = (min(at * scale, side - 1) for at, side in zip(event.index, size, strict=True))
        settings = (threshold, feather, strength, invert, strokes, [*points, (x, y)])
        return self.steer(path, to, model, *settings)

    def save(self, path: str | None, to: str, model: str, *settings: Any) -> Any:
        """Files of what is shown, at the picture's own size."""
        if path is None:
            raise StudioError("There is no picture yet: drop one on the left.")
        rendering = self._studio.render(path, to, model, _wishes(*settings))
        return gr.update(value=self._studio.files(rendering, path), visible=True)

    def batch(
        self,
        files: list[str] | None,
        to: str,
        model: str,
        threshold: float,
        feather: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio's way to ask for one
    ) -> tuple[Any, ...]:
        """Many pictures, one after the other."""
        if not files:
            raise StudioError("There are no pictures yet: drop some above.")
        panels, archive, refused = self._studio.batch(
            files, to, model, Wishes(threshold, feather), lambda paths: progress.tqdm(paths)
        )
        said = "".join(f"- {sentence}\n" for sentence in refused)
        told = f"{len(panels)} of {len(files)} pictures translated.\n\n{said}"
        return panels, gr.update(value=archive, visible=archive is not None), told


def _wishes(
    threshold: float,
    feather: float,
    strength: float,
    invert: bool,
    strokes: dict[str, Any] | None,
    points: list[Point],
) -> Wishes:
    layers = (strokes or {}).get("layers") or []
    layer: Image.Image | None = layers[0] if layers else None
    return Wishes(threshold, feather, strength, invert, points, layer)


def _batch_tab(page: _Page, model: gr.Dropdown, direction: gr.Radio, threshold: float) -> None:
    gr.Markdown(
        f"Up to {MAX_BATCH} pictures at once, with the model and direction of the first tab. "
        "A file that cannot be used is named, and the others go on."
    )
    files = gr.File(label="Pictures", file_count="multiple", type="filepath", elem_id="many")
    with gr.Row():
        threshold_slider = gr.Slider(0, 1, threshold, step=0.01, label="Threshold")
        feather = gr.Slider(0, 40, 0, step=1, label="Feather")
    start = gr.Button("Translate all", variant="primary", elem_id="start")
    told = gr.Markdown(elem_id="told")
    archive = gr.File(label="Translations, without loss", visible=False, elem_id="archive")
    gallery = gr.Gallery(label="Input | attention | output", columns=2, format="png",
                         elem_id="gallery", object_fit="contain")  # fmt: skip
    start.click(
        in_words(page.batch), [files, direction, model, threshold_slider, feather],
        [gallery, archive, told], api_visibility="private",
    )  # fmt: skip


def _api(studio: Studio) -> None:
    """Two endpoints with names, for `gradio_client` and MCP; their files are whole, not previews."""

    def rendered(
        picture: str | None, to: str, model: str, *settings: Any
    ) -> tuple[list[str], Rendering]:
        if picture is None:
            raise StudioError("There is no picture: send a file.")
        rendering = studio.render(picture, to, model, Wishes(*settings))
        return studio.files(rendering, picture), rendering

    def translate(
        picture: str | None,
        to: str = "",
        threshold: float | None = None,
        feather: float = 0,
        strength: float = 1,
        invert: bool = False,
        model: str = "",
    ) -> tuple[str, str, str]:
        """Translate the object in a picture and leave the rest as it is, byte for byte.

        Args:
            picture: The picture, as a file.
            to: The label to translate to, such as zebra; the model's target if empty.
            threshold: Attention below it counts as background, 0 to 1; the model's own if empty.
            feather: Pixels over which the map's edge fades.
            strength: How much of the translation shows, 0 to 1.
            invert: Change the background instead.
            model: A repo of the Hub, such as user/model; the Space's own if empty.

        Returns:
            Three files: the translation, the attention map in grey, and a panel of input, attention and
            translation.
        """
        name = model or next(iter(studio.models))
        (image, attention, panel), _ = rendered(
            picture, to, name, threshold, feather, strength, invert
        )
        return image, attention, panel

    def attention(picture: str | None, to: str = "", model: str = "") -> tuple[str, Image.Image]:
        """Show where a model looks in a picture.

        Args:
            picture: The picture, as a file.
            to: The label to translate to, such as zebra; the model's target if empty.
            model: A repo of the Hub, such as user/model; the Space's own if empty.

        Returns:
            The attention map in grey, and a heat map over the picture.
        """
        name = model or next(iter(studio.models))
        (_, grey, _), rendering = rendered(picture, to, name)
        return grey, rendering.overlay()

    with gr.Group(visible=False):
        picture = PictureFile(type="filepath", image_mode=None, label="picture")
        to, model = gr.Textbox("", label="to"), gr.Textbox("", label="model")
        threshold = gr.Number(None, label="threshold")
        feather, strength = gr.Number(0, label="feather"), gr.Number(1, label="strength")
        invert = gr.Checkbox(False, label="invert")
        answers = [
            gr.Image(label=label, format="png")
            for label in ("translation", "attention", "panel", "map", "overlay")
        ]
        settings = [threshold, feather, strength, invert]
        gr.Button().click(
            in_words(translate), [picture, to, *settings, model], answers[:3], api_name="translate"
        )
        gr.Button().click(
            in_words(attention), [picture, to, model], answers[3:], api_name="attention"
        )
