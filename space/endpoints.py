"""The Space for programs: two endpoints with names, for `gradio_client` and MCP."""

from typing import Any

import gradio as gr
from PIL import Image

from agit_hub.inference.prediction import Rendering
from handlers import in_words
from picture_file import PictureFile
from studio import SpaceError, SpaceService, TranslateOptions


def add_endpoints(studio: SpaceService) -> None:
    """Add `/translate` and `/attention` to the page at hand; their files are whole, not previews."""

    def rendered(picture: str | None, to: str, model: str, *settings: Any) -> tuple[str, Rendering]:
        if picture is None:
            raise SpaceError("There is no picture: send a file.")
        name = model or next(iter(studio.models))
        return picture, studio.render(picture, to, name, TranslateOptions(*settings))

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
        name, rendering = rendered(picture, to, model, threshold, feather, strength, invert)
        image, attention, panel = studio.files(rendering, name)
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
        name, rendering = rendered(picture, to, model)
        (grey,) = studio.files(rendering, name, ["attention"])
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
