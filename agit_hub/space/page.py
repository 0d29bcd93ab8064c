"""The Space's page: its layout and its events."""

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from starlette.middleware import Middleware

from agit_hub.errors import SpaceError
from agit_hub.inference.edits import AttentionEdits
from agit_hub.shipped import example_images
from agit_hub.space.edits import ERASE, PAINT, SETTINGS
from agit_hub.space.endpoints import add_endpoints
from agit_hub.space.handlers import Handlers
from agit_hub.space.limits import MAX_BATCH, MAX_MEGABYTES, MAX_MEGAPIXELS
from agit_hub.space.messages import Handler, guarded
from agit_hub.space.pending_messages import survive_floods
from agit_hub.space.server import Server
from agit_hub.space.service import ARROW, SpaceService
from agit_hub.space.theme import CSS, THEME
from agit_hub.space.uploaded_image import UploadedImage
from agit_hub.space.uploaded_strokes import UploadedStrokes
from agit_hub.space.visitors import VisitorMiddleware, Visitors

HEAD = """
# Change the object. Keep everything else.
Two networks translate, and two predict *where*. Where attention is zero, the output is the input, byte
for byte. You can edit the attention.
"""
HOW = Path(__file__).with_name("how.md").read_text(encoding="utf-8")
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_WITH_PROGRESS: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


class _Components(NamedTuple):
    """The components of the first tab."""

    image: UploadedImage
    direction: gr.Radio
    model: gr.Dropdown
    settings: list[Any]
    """One for each of `SETTINGS`."""
    brush: UploadedStrokes
    points: gr.State
    attention: gr.Image
    output: gr.Image
    compare: gr.ImageSlider
    all_objects: gr.Button
    save: gr.Button
    files: gr.File
    examples: Any  # gr.Examples is a function to the type checker


def build_page(service: SpaceService) -> gr.Blocks:
    """Build the page and its endpoints."""
    with gr.Blocks(title="AGIT Hub", fill_width=True, delete_cache=(600, 3600)) as demo:
        gr.Markdown(HEAD, elem_id="head")
        handlers, guard = Handlers(service), partial(guarded, visitors=service.visitors)
        with gr.Tab("Translate"):
            components = _translate_tab(service)
        model, direction = components.model, components.direction
        with gr.Tab("Many images"):
            threshold = service.pipeline(model.value).threshold
            batch_threshold = _batch_tab(guard(handlers.batch), model, direction, threshold)
        _connect(demo, service, handlers, components, batch_threshold)
        with gr.Tab("How it works"):
            gr.Markdown(HOW)
            with gr.Accordion("The model's card", open=True):
                card = gr.Markdown(elem_id="card")
            gr.on([demo.load, model.change], guard(service.card), model, card, **_PRIVATE)
        add_endpoints(service)
    page: gr.Blocks = demo
    return page


def launch(page: gr.Blocks, server: Server, port: int | None, visitors: Visitors) -> None:
    """Serve a page with the Space's limits.

    Raises:
        SpaceError: If a public link is requested and cannot be created.
    """
    page.queue(default_concurrency_limit=2, max_size=100)
    survive_floods(page._queue)

    def in_flight() -> list[Any]:
        return [event.request for event in list(page._queue.event_ids_to_events.values())]

    limits = Middleware(VisitorMiddleware, visitors=visitors, in_flight=in_flight)
    page.launch(
        server_name=server.host,
        server_port=port,
        root_path=server.root_path,
        auth=server.credentials,
        share=server.share or None,
        app_kwargs={"middleware": [limits]},
        # Gradio goes on without a link.
        prevent_thread_lock=server.wants_link,
        theme=THEME,
        css=CSS,
        # Files that are too large get the Space's message; Gradio refuses much larger ones.
        max_file_size=f"{4 * MAX_MEGABYTES}mb",
        state_session_capacity=200,
        ssr_mode=False,
        show_error=True,
        mcp_server=importlib.util.find_spec("mcp") is not None,
    )
    if server.wants_link:
        if not page.share_url:
            page.close()
            raise SpaceError(
                "No public link could be created: Gradio's servers cannot be reached from here. Leave "
                "out --share (GRADIO_SHARE), or use --host 0.0.0.0 on your own network."
            )
        page.block_thread()


def _translate_tab(service: SpaceService) -> _Components:
    name = next(iter(service.models))
    directions = service.directions(name)
    with gr.Row(equal_height=True):
        direction = gr.Radio(
            directions, value=directions[0], label="Direction", elem_id="direction", min_width=300
        )
        model = gr.Dropdown(
            list(service.models), value=name, allow_custom_value=True, label="Model",
            info="From the list, or any Hub repo: user/model", elem_id="model", min_width=300,
        )  # fmt: skip
    labels = [direction.split(ARROW)[0] for direction in directions]
    example_paths = [str(path) for label in labels for path in example_images(label)]
    with gr.Row(elem_id="images", equal_height=True):
        image = UploadedImage(
            value=next(iter(example_paths), None), label="Input", type="filepath", height=380,
            image_mode=None,
            sources=["upload"], elem_id="input",
            placeholder=f"Drop an image here, up to {MAX_MEGAPIXELS} megapixels",
        )  # fmt: skip
        result: dict[str, Any] = {"interactive": False, "format": "png", "height": 380,
                                  "buttons": ["download", "fullscreen"]}  # fmt: skip
        attention = gr.Image(label="Attention (click an object)", elem_id="attention", **result)
        output = gr.Image(label="Output", elem_id="output", **result)
    examples = gr.Examples(
        [[path] for path in example_paths], [image], label="Examples", examples_per_page=12,
        api_visibility="private", elem_id="examples",
    )  # fmt: skip
    with gr.Row():
        with gr.Column(scale=1):
            settings = [
                _setting(name, service.pipeline(model.value).threshold) for name in SETTINGS
            ]
            with gr.Row():
                all_objects = gr.Button("All objects", size="sm", elem_id="every")
                save = gr.Button("Save files", size="sm", variant="primary", elem_id="save")
            files = gr.File(label="Output, map and panel, lossless", file_count="multiple",
                            visible=False, elem_id="files")  # fmt: skip
        with gr.Column(scale=1), gr.Tabs():
            with gr.Tab("Before and after"):
                compare = gr.ImageSlider(label="Input | output", format="png", interactive=False,
                                         elem_id="compare", max_height=420)  # fmt: skip
            with gr.Tab("Paint attention"):
                gr.Markdown("Green adds attention, red removes it; the eraser removes strokes.")
                brush = UploadedStrokes(
                    type="filepath", sources=(), transforms=(), format="png", show_label=False,
                    brush=gr.Brush(default_size=24, colors=[PAINT, ERASE], color_mode="fixed"),
                    eraser=gr.Eraser(default_size=24), layers=False, height=380, elem_id="brush",
                )  # fmt: skip
    return _Components(
        image, direction, model, settings, brush, gr.State([]), attention, output, compare,
        all_objects, save, files, examples,
    )  # fmt: skip


def _setting(name: str, threshold: float, **options: Any) -> Any:
    """Return the slider or checkbox of a field of `AttentionEdits`."""
    option = AttentionEdits.options()[name]
    options = {"label": name.capitalize(), "info": option.help, "elem_id": name} | options
    if option.slider is None:
        return gr.Checkbox(**options)
    maximum, step = option.slider
    default = getattr(AttentionEdits, name)
    return gr.Slider(0, maximum, threshold if default is None else default, step=step, **options)


def _connect(
    demo: gr.Blocks,
    service: SpaceService,
    handlers: Handlers,
    c: _Components,
    batch_threshold: gr.Slider,
) -> None:
    """Connect the page's events to their handlers."""
    guard = partial(guarded, visitors=service.visitors)
    inputs = [c.image, c.direction, c.model, *c.settings, c.brush, c.points]
    images = [c.attention, c.output, c.compare]
    show: dict[str, Any] = {
        "fn": guard(handlers.show),
        "inputs": inputs[:-2],
        "outputs": [*images, c.brush, c.points, c.files],
        **_WITH_PROGRESS,
    }
    edited: dict[str, Any] = {"inputs": inputs, "outputs": [*images, c.points, c.files], **_PRIVATE}
    edit: dict[str, Any] = {
        "fn": guard(handlers.edit),
        "trigger_mode": "always_last",
        "concurrency_id": "live",
        **edited,
    }
    gr.on([c.image.upload, c.direction.input], **show)
    # This event is sent while the image is still there.
    c.image.clear(
        lambda: (None, *handlers.show(None, "", "")), None, [c.image, *show["outputs"]], **_PRIVATE
    )
    c.model.change(
        guard(handlers.select_model), [c.model, c.direction],
        [c.direction, c.settings[0], batch_threshold], **_WITH_PROGRESS,
    ).success(**show)  # fmt: skip
    gr.on([setting.input for setting in c.settings], **edit)
    c.brush.input(**edit)
    c.all_objects.click(lambda: [], None, c.points, **_PRIVATE).then(**edit)
    c.attention.select(guard(handlers.select_object), **edited)
    c.save.click(guard(handlers.save), inputs, c.files, **_WITH_PROGRESS)
    c.examples.load_input_event.then(
        guard(handlers.select_example), [c.image, c.direction, c.model], c.direction,
        **_PRIVATE,
    ).then(**show)  # fmt: skip
    # The page opens with a translated example.
    demo.load(**show)
    demo.load(lambda: gr.update(choices=service.known_models()), None, c.model, **_PRIVATE)


def _batch_tab(
    batch: Handler, model: gr.Dropdown, direction: gr.Radio, threshold: float
) -> gr.Slider:
    gr.Markdown(
        f"Up to {MAX_BATCH} images at once, with the model and direction of the first tab. "
        "Files that fail are listed, and the others are translated."
    )
    files = gr.File(label="Images", file_count="multiple", type="filepath", elem_id="many")
    with gr.Row():
        settings = [_setting(name, threshold, elem_id=None) for name in ("threshold", "feather")]
    start = gr.Button("Translate all", variant="primary", elem_id="start")
    summary = gr.Markdown(elem_id="summary")
    archive = gr.File(label="Translations, lossless", visible=False, elem_id="archive")
    gallery = gr.Gallery(label="Input | attention | output", columns=2, format="png",
                         elem_id="gallery", object_fit="contain")  # fmt: skip
    start.click(
        batch, [files, direction, model, *settings],
        [gallery, archive, summary], api_visibility="private",
    )  # fmt: skip
    slider: gr.Slider = settings[0]
    return slider
