"""The tab of many images."""

import gradio as gr

from agit_hub.space.limits import MAX_BATCH
from agit_hub.space.messages import Handler
from agit_hub.space.page.parts import Choice, setting


def place(batch: Handler, choice: Choice, threshold: float) -> gr.Slider:
    """Place and connect the tab, and return the slider of its threshold."""
    gr.Markdown(
        f"Up to {MAX_BATCH} images at once, with the model and direction above. Files that fail are "
        "listed, and the others are translated."
    )
    files = gr.File(label="Images", file_count="multiple", type="filepath", elem_id="many")
    with gr.Row():
        settings = [setting(name, threshold, elem_id=None) for name in ("threshold", "feather")]
    start = gr.Button("Translate all", variant="primary", elem_id="start")
    summary = gr.Markdown(elem_id="summary")
    archive = gr.File(
        label="Translations, lossless", visible=False, interactive=False, elem_id="archive"
    )
    gallery = gr.Gallery(label="Input | attention | output", columns=2, format="png", interactive=False,
                         elem_id="gallery", object_fit="contain")  # fmt: skip
    start.click(
        batch, [files, choice.direction, choice.model, *settings],
        [gallery, archive, summary], api_visibility="private",
    )  # fmt: skip
    slider: gr.Slider = settings[0]
    return slider
