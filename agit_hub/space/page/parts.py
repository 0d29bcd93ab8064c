"""Parts that several tabs of the page use."""

from typing import Any, NamedTuple

import gradio as gr

from agit_hub.inference.edits import AttentionEdits
from agit_hub.space.service import SpaceService

PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
WITH_PROGRESS: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}


class Choice(NamedTuple):
    """What is chosen above the tabs, for all of them."""

    direction: gr.Radio
    model: gr.Dropdown


def choice_row(service: SpaceService) -> Choice:
    """Place the controls of direction and model."""
    name = next(iter(service.models))
    directions = service.directions(name)
    with gr.Row(equal_height=True, elem_id="choice"):
        model = gr.Dropdown(
            list(service.models), value=name, allow_custom_value=True, label="Model",
            info="From the list, or any Hub repo: user/model", elem_id="model", min_width=300,
        )  # fmt: skip
        direction = gr.Radio(
            directions, value=directions[0], label="Direction", elem_id="direction", min_width=300,
            info="For all tabs",
        )  # fmt: skip
    return Choice(direction, model)


def setting(name: str, threshold: float, **options: Any) -> Any:
    """Return the slider or checkbox of a field of `AttentionEdits`."""
    option = AttentionEdits.options()[name]
    options = {"label": name.capitalize(), "info": option.help, "elem_id": name} | options
    if option.slider is None:
        return gr.Checkbox(**options)
    maximum, step = option.slider
    default = getattr(AttentionEdits, name)
    return gr.Slider(0, maximum, threshold if default is None else default, step=step, **options)


def status_line(elem_id: str) -> gr.HTML:
    """Return a line that says what happened; `page.js` makes screen readers read it."""
    return gr.HTML(elem_id=elem_id)
