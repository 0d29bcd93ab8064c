"""The Space's page: what is where, and what is connected with what."""

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from endpoints import add_endpoints
from handlers import Handlers, in_words
from picture_file import PictureFile
from studio import ERASE, MAX_BATCH, MAX_MEGABYTES, MAX_MEGAPIXELS, PAINT, SpaceService
from theme import CSS, THEME

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE / "examples"
HEAD = """
# Change the object. Keep everything else.
Two networks translate and two decide *where*. Where attention is zero, the picture that comes out is the
one that went in, byte for byte. And where it looks is up to you.
"""
HOW = (HERE / "how.md").read_text(encoding="utf-8")
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_ASKING: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


class _Parts(NamedTuple):
    """What the first tab is made of."""

    picture: PictureFile
    direction: gr.Radio
    model: gr.Dropdown
    sliders: list[Any]
    """Threshold, feather, strength, invert."""
    brush: gr.ImageEditor
    points: gr.State
    attention: gr.Image
    output: gr.Image
    compare: gr.ImageSlider
    every: gr.Button
    save: gr.Button
    files: gr.File
    examples: Any  # gr.Examples is a function to the type checker


def build(studio: SpaceService) -> gr.Blocks:
    """The whole page over a studio."""
    with gr.Blocks(title="AGIT Hub", fill_width=True, delete_cache=(600, 3600)) as demo:
        gr.Markdown(HEAD, elem_id="head")
        act = Handlers(studio)
        with gr.Tab("Translate"):
            parts = _translate_tab(studio)
        model, direction = parts.model, parts.direction
        with gr.Tab("Many pictures"):
            threshold = _batch_tab(act, model, direction, studio.pipeline(model.value).threshold)
        _connect(demo, studio, act, parts, threshold)
        with gr.Tab("How it works"):
            gr.Markdown(HOW)
            with gr.Accordion("The model's card", open=True):
                card = gr.Markdown(elem_id="card")
            gr.on([demo.load, model.change], in_words(studio.card), model, card, **_PRIVATE)
        add_endpoints(studio)
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


def _translate_tab(studio: SpaceService) -> "_Parts":
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
    return _Parts(
        picture, direction, model, sliders, brush, gr.State([]), attention, output, compare,
        every, save, files, examples,
    )  # fmt: skip


def _connect(
    demo: gr.Blocks, studio: SpaceService, act: Handlers, p: "_Parts", batch_threshold: gr.Slider
) -> None:
    """Say what happens when something is touched."""
    asked = [p.picture, p.direction, p.model, *p.sliders, p.brush, p.points]
    pictures = [p.attention, p.output, p.compare]
    anew: dict[str, Any] = {
        "inputs": asked[:-2],
        "outputs": [*pictures, p.brush, p.points, p.files],
    }
    again: dict[str, Any] = {"inputs": asked, "outputs": [*pictures, p.points, p.files]}
    live: dict[str, Any] = {"trigger_mode": "always_last", "concurrency_id": "live", **_PRIVATE}
    gr.on([p.picture.upload, p.direction.input], in_words(act.show), **anew, **_ASKING)
    # This event comes while the picture is still there.
    p.picture.clear(
        lambda: (None, *act.show(None, "", "")), None, [p.picture, *anew["outputs"]], **_PRIVATE
    )
    p.model.change(
        in_words(act.choose), [p.model, p.direction],
        [p.direction, p.sliders[0], batch_threshold], **_ASKING,
    ).success(in_words(act.show), **anew, **_ASKING)  # fmt: skip
    gr.on([slider.input for slider in p.sliders], in_words(act.steer), **again, **live)
    p.brush.input(in_words(act.steer), **again, **live)
    p.every.click(lambda: [], None, p.points, **_PRIVATE).then(in_words(act.steer), **again, **live)
    p.attention.select(in_words(act.pick), **again, **_PRIVATE)
    p.save.click(in_words(act.save), asked, p.files, **_ASKING)
    p.examples.load_input_event.then(
        in_words(act.example), [p.picture, p.direction, p.model], p.direction, **_PRIVATE
    ).then(in_words(act.show), **anew, **_ASKING)
    # The page opens with an example that is already translated.
    demo.load(in_words(act.show), **anew, **_ASKING)
    demo.load(lambda: gr.update(choices=studio.known_models()), None, p.model, **_PRIVATE)


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


def _batch_tab(
    act: Handlers, model: gr.Dropdown, direction: gr.Radio, threshold: float
) -> gr.Slider:
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
        in_words(act.batch), [files, direction, model, threshold_slider, feather],
        [gallery, archive, told], api_visibility="private",
    )  # fmt: skip
    return threshold_slider
