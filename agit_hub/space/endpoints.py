"""The Space's API: two named endpoints, for `gradio_client` and MCP."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import Parameter
from typing import Any

import gradio as gr
from gradio.components import Component
from PIL import Image

from agit_hub.errors import SpaceError
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.prediction import Rendering
from agit_hub.space.edits import SETTINGS, make_edits, open_mask
from agit_hub.space.limits import MAX_FEATHER
from agit_hub.space.messages import guarded
from agit_hub.space.service import SpaceService
from agit_hub.space.uploaded_image import DESCRIPTION, MASK_DESCRIPTION, UploadedImage

Schema = dict[str, Any]
_MAXIMA = {"threshold": 1, "feather": MAX_FEATHER, "strength": 1}
_FULL_SIZE = "at the image's own size"
_RESULTS = {
    "translation": f"The translation, lossless, {_FULL_SIZE} and in its mode.",
    "attention": f"The attention map in grey, lossless, {_FULL_SIZE}: white changes, black does not.",
    "panel": "Input, attention and translation side by side, for people.",
    "map": f"The attention map in grey, lossless, {_FULL_SIZE}: white changes, black does not.",
    "overlay": "The attention map as a heat map over the image, for people.",
}


def add_endpoints(service: SpaceService) -> None:
    """Add `/translate` and `/attention` to the current page; their files have full resolution."""
    guard = partial(guarded, visitors=service.visitors)

    def translate(image: str | None, to: str, *_rest: Any) -> tuple[str, str, str]:
        """Translate the object in an image and leave the rest unchanged, byte for byte.

        {parameters}

        Returns:
            Three files: the translation, the attention map in grey, and a panel of all three images.
        """
        *settings, model, mask = _rest
        name, rendering = _render(service, image, to, model, settings, mask)
        translation, attention_map, panel = service.files(rendering, name)
        return translation, attention_map, panel

    def attention(image: str | None, to: str, model: str) -> tuple[str, Image.Image]:
        """Show where a model's attention is in an image: what it would change.

        {parameters}

        Returns:
            Two files: the attention map in grey, and a heat map over the image.
        """
        name, rendering = _render(service, image, to, model)
        (grey,) = service.files(rendering, name, ["attention"])
        return grey, rendering.overlay()

    described = _descriptions(service)
    _describe(translate, described, ("image", "to", *SETTINGS, "model", "mask"))
    _describe(attention, described, ("image", "to", "model"))
    with gr.Group(visible=False):
        files: dict[str, Any] = {"type": "filepath", "image_mode": None}
        image = UploadedImage(label="image", **files)
        to, model = (_parameter(gr.Textbox, name, described) for name in ("to", "model"))
        settings = [
            _parameter(gr.Checkbox if name == "invert" else gr.Number, name, described)
            for name in SETTINGS
        ]
        mask = _parameter(UploadedImage, "mask", described, **files)
        outputs = [_result(name) for name in _RESULTS]
        gr.Button().click(
            guard(translate), [image, to, *settings, model, mask], outputs[:3],
            api_name="translate",
        )  # fmt: skip
        gr.Button().click(guard(attention), [image, to, model], outputs[3:], api_name="attention")


def _render(
    service: SpaceService,
    image: str | None,
    to: str,
    model: str,
    settings: Sequence[Any] = (),
    mask: str | None = None,
) -> tuple[str, Rendering]:
    if image is None:
        raise SpaceError("image is missing: send a file.")
    name = model or next(iter(service.models))
    return image, service.render(image, to, name, make_edits(settings, mask=open_mask(mask)))


def accept_fewer_values(page: gr.Blocks) -> None:
    """Make endpoints take defaults for the last values that a request leaves out.

    Gradio's client for Python sends all; requests by other means, written before a parameter was added,
    do not.
    """
    preprocess = page.preprocess_data

    async def preprocess_all(
        fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> Any:
        missing = fn.inputs[len(inputs) :] if fn.api_visibility == "public" else []
        values = [getattr(each, "value", None) for each in missing]
        return await preprocess(fn, [*inputs, *values], state, explicit_call)

    setattr(page, "preprocess_data", preprocess_all)  # noqa: B010


def _descriptions(service: SpaceService) -> dict[str, str]:
    """Return what is said of each parameter, with the values that it may have."""
    options, first = AttentionEdits.options(), next(iter(service.models))
    labels = service.pipeline(first).model.config.labels
    described = {name: options[name].help for name in SETTINGS}
    described["feather"] += f" 0 to {MAX_FEATHER}."
    return {
        "image": DESCRIPTION,
        "to": (
            f"The label to translate to: {labels[1]} or {labels[0]} with the model {first}; the model's "
            "target if empty."
        ),
        **described,
        "model": (
            f"One of {', '.join(service.models)}, or a public Hub repo such as user/model; {first} if "
            "empty."
        ),
        "mask": MASK_DESCRIPTION,
    }


def _parameter(
    kind: type[Component], name: str, described: Mapping[str, str], **options: Any
) -> Component:
    """Return the component of a parameter that describes itself to programs."""
    default = _default(name)
    component = kind(value=default, label=name, **options)
    component.api_info = lambda: _schema(component, name, described[name])  # type: ignore[method-assign]
    example = 0.5 if name == "threshold" else default
    component.example_payload = lambda: example  # type: ignore[method-assign]
    return component


def _schema(component: Component, name: str, description: str) -> Schema:
    info = dict(type(component).api_info(component))
    if name in _MAXIMA:
        info |= {"minimum": 0, "maximum": _MAXIMA[name]}
    return info | {"description": description, "additional_description": description}


def _result(name: str) -> gr.Image:
    component = gr.Image(label=name, format="png")
    info = dict(type(component).api_info_as_output(component))
    info |= {"title": "Image", "additional_description": _RESULTS[name]}
    component.api_info_as_output = lambda: info  # type: ignore[method-assign]
    return component


def _describe(
    endpoint: Callable[..., Any], described: Mapping[str, str], names: tuple[str, ...]
) -> None:
    """Give an endpoint named parameters with defaults and descriptions."""
    endpoint.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=_default(name)) for name in names]
    )
    lines = "\n            ".join(["Args:", *(f"{name}: {described[name]}" for name in names)])
    endpoint.__doc__ = (endpoint.__doc__ or "").replace("{parameters}", lines)


def _default(name: str) -> Any:
    if name == "image":
        return Parameter.empty
    return getattr(AttentionEdits, name) if name in (*SETTINGS, "mask") else ""
