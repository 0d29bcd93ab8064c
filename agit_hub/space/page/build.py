"""The whole page, and its endpoints."""

from functools import partial
from pathlib import Path

import gradio as gr

from agit_hub.space.endpoints import accept_fewer_values, add_endpoints
from agit_hub.space.handlers import Handlers
from agit_hub.space.messages import guarded
from agit_hub.space.page import batch_tab, translate_tab, video_tab
from agit_hub.space.page.parts import PRIVATE, choice_row
from agit_hub.space.service import SpaceService

_HEAD = """
# Change the object. Keep everything else.
Two networks translate, and two predict *where*. Where attention is zero, the output is the input, byte
for byte. You can edit the attention.
"""
_HOW = Path(__file__).with_name("how.md").read_text(encoding="utf-8")


def build_page(service: SpaceService) -> gr.Blocks:
    """Build the page and its endpoints."""
    handlers, guard = Handlers(service), partial(guarded, visitors=service.visitors)
    with gr.Blocks(title="AGIT Hub", fill_width=True, delete_cache=(600, 3600)) as demo:
        gr.Markdown(_HEAD, elem_id="head")
        choice = choice_row(service)
        threshold = service.pipeline(choice.model.value).threshold
        with gr.Tab("Translate"):
            components = translate_tab.place(service, choice)
        with gr.Tab("Many images"):
            batch_threshold = batch_tab.place(guard(handlers.batch), choice, threshold)
        with gr.Tab("Video"):
            video_threshold = video_tab.place(guard(handlers.film), choice, threshold)
        translate_tab.connect(
            demo, service, handlers, choice, components, [batch_threshold, video_threshold]
        )
        with gr.Tab("About"):
            gr.Markdown(_HOW)
            with gr.Accordion("The model's card", open=True):
                card = gr.Markdown(elem_id="card")
            gr.on(
                [demo.load, choice.model.change], guard(service.card), choice.model, card, **PRIVATE
            )
        add_endpoints(service)
    accept_fewer_values(demo)
    page: gr.Blocks = demo
    return page
