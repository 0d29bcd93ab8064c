"""The Space's API: two named endpoints, for `gradio_client` and MCP."""

import inspect
from collections.abc import Callable
from functools import partial
from inspect import Parameter
from typing import Any

import gradio as gr
from PIL import Image

from agit_hub.errors import SpaceError
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.prediction import Rendering
from agit_hub.space.edits import SETTINGS, make_edits
from agit_hub.space.messages import guarded
from agit_hub.space.service import SpaceService
from agit_hub.space.uploaded_image import UploadedImage


def add_endpoints(service: SpaceService) -> None:
    """Add `/translate` and `/attention` to the current page; their files have full resolution."""
    guard = partial(guarded, visitors=service.visitors)

    def render(image: str | None, to: str, model: str, *settings: Any) -> tuple[str, Rendering]:
        if image is None:
            raise SpaceError("image is missing: send a file.")
        name = model or next(iter(service.models))
        return image, service.render(image, to, name, make_edits(settings))

    def translate(image: str | None, to: str, *_rest: Any) -> tuple[str, str, str]:
        """Translate the object in an image and leave the rest unchanged, byte for byte.

        Args:
            image: The image, as a file.
            to: The label to translate to, such as zebra; the model's target if empty.
            {settings}
            model: A Hub repo such as user/model; the Space's own if empty.

        Returns:
            Three files: the translation, the attention map in grey, and a panel of input, attention and
            translation.
        """
        *settings, model = _rest
        name, rendering = render(image, to, model, *settings)
        translation, attention_map, panel = service.files(rendering, name)
        return translation, attention_map, panel

    def attention(image: str | None, to: str = "", model: str = "") -> tuple[str, Image.Image]:
        """Show where a model's attention is in an image.

        Args:
            image: The image, as a file.
            to: The label to translate to, such as zebra; the model's target if empty.
            model: A Hub repo such as user/model; the Space's own if empty.

        Returns:
            The attention map in grey, and a heat map over the image.
        """
        name, rendering = render(image, to, model)
        (grey,) = service.files(rendering, name, ["attention"])
        return grey, rendering.overlay()

    _describe_settings(translate)
    with gr.Group(visible=False):
        image = UploadedImage(type="filepath", image_mode=None, label="image")
        to, model = gr.Textbox("", label="to"), gr.Textbox("", label="model")
        settings = [
            (gr.Checkbox if name == "invert" else gr.Number)(
                getattr(AttentionEdits, name), label=name
            )
            for name in SETTINGS
        ]
        outputs = [
            gr.Image(label=label, format="png")
            for label in ("translation", "attention", "panel", "map", "overlay")
        ]
        gr.Button().click(
            guard(translate), [image, to, *settings, model], outputs[:3],
            api_name="translate",
        )  # fmt: skip
        gr.Button().click(guard(attention), [image, to, model], outputs[3:], api_name="attention")


def _describe_settings(endpoint: Callable[..., Any]) -> None:
    """Give an endpoint a parameter, with default and description, for each of `SETTINGS`."""
    defaults = {"image": Parameter.empty, "to": ""}
    defaults |= {name: getattr(AttentionEdits, name) for name in SETTINGS} | {"model": ""}
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=default)
            for name, default in defaults.items()
        ]
    )
    options = AttentionEdits.options()
    lines = (f"{name}: {options[name].help}" for name in SETTINGS)
    endpoint.__doc__ = (endpoint.__doc__ or "").replace("{settings}", "\n            ".join(lines))
