"""The tab of one image: input, attention, output, and edits of the attention."""

from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from agit_hub.space.edits import ERASE, PAINT, SETTINGS
from agit_hub.space.handlers import Handlers, no_examples
from agit_hub.space.limits import MAX_MEGAPIXELS
from agit_hub.space.messages import guarded
from agit_hub.space.page.parts import PRIVATE, WITH_PROGRESS, Choice, setting, status_line
from agit_hub.space.service import ARROW, SpaceService
from agit_hub.space.uploaded_image import UploadedImage
from agit_hub.space.uploaded_strokes import UploadedStrokes

_HEIGHT = 380  # pixels of each of the three images


class Components(NamedTuple):
    """The components of the tab."""

    image: UploadedImage
    attention: gr.Image
    output: gr.Image
    compare: gr.ImageSlider
    status: gr.HTML
    examples: gr.Dataset
    no_examples: gr.Markdown
    settings: list[Any]
    """One for each of `SETTINGS`."""
    mask: UploadedImage
    brush: UploadedStrokes
    points: gr.State
    strokes: gr.State
    """The file of what is painted, as it was last shown."""
    all_objects: gr.Button
    save: gr.Button
    files: gr.File
    animate: gr.Button
    animation: tuple[gr.Image, gr.DownloadButton]
    make_card: gr.Button
    card: tuple[gr.Image, gr.DownloadButton]


def place(service: SpaceService, choice: Choice) -> Components:
    """Place the components of the tab."""
    image, attention, output = _images(service, choice)
    status = status_line("status")
    examples, note = _examples(service, choice)
    threshold = service.pipeline(choice.model.value).threshold
    with gr.Row():
        with gr.Column(scale=1):
            settings = [setting(name, threshold) for name in SETTINGS]
            mask = _mask()
            with gr.Row():
                all_objects = gr.Button("All objects", size="sm", elem_id="every")
                save = gr.Button("Save files", size="sm", variant="primary", elem_id="save")
            files = gr.File(
                label="Output, map and panel, lossless, at full size", file_count="multiple",
                interactive=False, visible=False, elem_id="files",
            )  # fmt: skip
        with gr.Column(scale=1), gr.Tabs():
            with gr.Tab("Compare"):
                compare = gr.ImageSlider(label="Input | output", format="png", interactive=False,
                                         elem_id="compare", max_height=420, buttons=[])  # fmt: skip
            with gr.Tab("Paint"):
                gr.Markdown("Green adds attention, red removes it; the eraser removes strokes.")
                brush = UploadedStrokes(
                    type="filepath", sources=(), transforms=(), format="png", show_label=False,
                    brush=gr.Brush(default_size=24, colors=[PAINT, ERASE], color_mode="fixed"),
                    eraser=gr.Eraser(default_size=24), layers=False, height=380, elem_id="brush",
                )  # fmt: skip
            with gr.Tab("Share"):
                gr.Markdown("Of what is shown now, with your edits.")
                with gr.Row():
                    animate = gr.Button("Make animation", size="sm", elem_id="make-animation")
                    make_card = gr.Button("Make share card", size="sm", elem_id="make-share-card")
                animation = _made("animation", "animation")
                card = _made("share card", "share-card")
    return Components(
        image, attention, output, compare, status, examples, note, settings, mask, brush,
        gr.State([]), gr.State(None), all_objects, save, files, animate, animation, make_card, card,
    )  # fmt: skip


def _images(service: SpaceService, choice: Choice) -> tuple[UploadedImage, gr.Image, gr.Image]:
    first = next((str(path) for path in service.examples(choice.model.value)), None)
    # What is shown may be smaller than the image: files to keep are saved below.
    shown: dict[str, Any] = {"interactive": False, "height": _HEIGHT, "buttons": ["fullscreen"]}
    with gr.Row(elem_id="images", equal_height=True):
        image = UploadedImage(
            value=first, label="Input", type="filepath", height=_HEIGHT,
            image_mode=None, sources=["upload"], elem_id="input", buttons=["fullscreen"],
            placeholder=f"Drop an image here, up to {MAX_MEGAPIXELS} megapixels",
        )  # fmt: skip
        attention = gr.Image(label="Attention (click an object)", elem_id="attention", **shown)
        output = gr.Image(label="Output", elem_id="output", **shown)
    return image, attention, output


def _examples(service: SpaceService, choice: Choice) -> tuple[gr.Dataset, gr.Markdown]:
    paths = service.examples(choice.model.value)
    labels = [direction.split(ARROW)[0] for direction in service.directions(choice.model.value)]
    examples = gr.Dataset(
        components=[gr.Image(type="filepath", visible=False)], samples=[[str(path)] for path in paths],
        label="Examples", type="index", samples_per_page=12, elem_id="examples",
        visible=bool(paths),
    )  # fmt: skip
    note = gr.Markdown(no_examples(labels), visible=not paths, elem_id="no-examples")
    return examples, note


def _mask() -> UploadedImage:
    """Place, folded, the upload of a mask."""
    with gr.Accordion("Mask from a file", open=False, elem_id="mask-part"):
        return UploadedImage(
            label="Mask", show_label=False, type="filepath", height=160, image_mode=None,
            sources=["upload"], elem_id="mask", buttons=[],
            placeholder="Drop a mask here: white may change, black stays as it is",
        )  # fmt: skip


def _made(label: str, elem_id: str) -> tuple[gr.Image, gr.DownloadButton]:
    """Place, hidden, an image that is made on request, and its download."""
    shown = gr.Image(label=label.capitalize(), show_label=False, interactive=False, buttons=[],
                     visible=False, elem_id=elem_id)  # fmt: skip
    download = gr.DownloadButton(f"Download {label}", size="sm", visible=False,
                                 elem_id=f"download-{elem_id}")  # fmt: skip
    return shown, download


def connect(
    demo: gr.Blocks,
    service: SpaceService,
    handlers: Handlers,
    choice: Choice,
    c: Components,
    thresholds: list[gr.Slider],
) -> None:
    """Connect the tab's events to their handlers; `thresholds` are those of the other tabs."""
    guard = partial(guarded, visitors=service.visitors)
    direction, model = choice
    inputs = [c.image, direction, model, *c.settings, c.mask, c.brush, c.points]
    results = [c.attention, c.output, c.compare, c.points]
    results += [c.files, *c.animation, *c.card, c.status]
    show: dict[str, Any] = {
        "fn": guard(handlers.show), "inputs": inputs[:-3],
        "outputs": [*results, c.mask, c.brush, c.strokes], **WITH_PROGRESS,
    }  # fmt: skip
    edited: dict[str, Any] = {"inputs": inputs, "outputs": results, **PRIVATE}
    edit: dict[str, Any] = {
        "fn": guard(handlers.edit),
        "trigger_mode": "always_last",
        "concurrency_id": "live",
        **edited,
    }
    gr.on([c.image.upload, direction.input], **show)
    # This event is sent while the image is still there.
    c.image.clear(
        lambda: (None, *handlers.show(None, "", "")), None, [c.image, *show["outputs"]], **PRIVATE
    )
    model.change(
        guard(handlers.select_model), [model, direction, c.image],
        [direction, c.image, c.examples, c.no_examples, c.settings[0], *thresholds],
        **WITH_PROGRESS,
    ).success(**show)  # fmt: skip
    gr.on([each.input for each in c.settings], **edit)
    c.mask.clear(**edit)
    # A file that is no mask does not stay, or every other edit would fail.
    c.mask.upload(**edit).failure(lambda: None, None, c.mask, **PRIVATE)
    c.brush.input(
        guard(handlers.paint), [*inputs, c.strokes], [*results, c.strokes],
        trigger_mode="always_last", concurrency_id="live", **PRIVATE,
    )  # fmt: skip
    c.all_objects.click(lambda: [], None, c.points, **PRIVATE).then(**edit)
    c.attention.select(guard(handlers.select_object), **edited)
    c.save.click(guard(handlers.save), inputs, c.files, **WITH_PROGRESS)
    c.animate.click(guard(handlers.animate), inputs, list(c.animation), **WITH_PROGRESS)
    c.make_card.click(guard(handlers.make_card), inputs, list(c.card), **WITH_PROGRESS)
    c.examples.click(
        guard(handlers.select_example), [c.examples, direction, model], [c.image, direction],
        **PRIVATE,
    ).then(**show)  # fmt: skip
    # The page opens with a translated example.
    demo.load(**show)
    demo.load(lambda: gr.update(choices=service.known_models()), None, model, **PRIVATE)
