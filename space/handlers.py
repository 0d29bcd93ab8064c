"""What the page's events do: from the page's values to its new ones."""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from agit_hub.data.images import to_rgb
from agit_hub.inference.edits import Point
from studio import PREVIEW, SpaceError, SpaceService, TranslateOptions, fitted, shown

HEAT = 0.8  # opacity of the heat map where attention is 1
EDITOR = 640  # pixels of the longer side of what is painted on

Handler = Callable[..., Any]


def in_words(handler: Handler) -> Handler:
    """Show what a person should change as a message, not as a failure of ours."""

    @wraps(handler)
    def run(*arguments: Any, **named: Any) -> Any:
        try:
            return handler(*arguments, **named)
        except SpaceError as error:
            raise gr.Error(str(error), title="That did not work", print_exception=False) from error

    return run


class Handlers:
    """One method for each thing that a visitor may do.

    Args:
        studio: What is asked.
    """

    def __init__(self, studio: SpaceService) -> None:
        self._studio = studio

    def choose(self, model: str, to: str) -> tuple[Any, float, float]:
        """Another model: its directions, and its own threshold, on both tabs."""
        ways = self._studio.directions(model)
        threshold = self._studio.pipeline(model).threshold
        chosen = gr.update(choices=ways, value=to if to in ways else ways[0])
        return chosen, threshold, threshold

    def example(self, path: str, to: str, model: str) -> str:
        """An example was chosen: the direction that starts from what its name says that it shows."""
        label = Path(path).stem.split("-")[0]
        ways = self._studio.directions(model)
        return next((way for way in ways if way.startswith(label)), to)

    def show(self, path: str | None, to: str, model: str, *sliders: Any) -> tuple[Any, ...]:
        """Another picture, direction or model: all three pictures, nothing painted, all objects."""
        if path is None:
            return None, None, None, None, [], gr.update(visible=False)
        *pictures, points, files = self.steer(path, to, model, *sliders, None, [])
        picture = self._studio.predict(path, to, model).picture
        canvas = to_rgb(picture).resize(fitted(picture.size, EDITOR), Image.Resampling.BICUBIC)
        return *pictures, {"background": canvas, "layers": [], "composite": canvas}, points, files

    def steer(self, path: str | None, to: str, model: str, *settings: Any) -> tuple[Any, ...]:
        """Another setting: the pictures anew, with no network run."""
        *_, points = settings
        if path is None:
            return None, None, None, points, gr.update(visible=False)
        small = shown(self._studio.render(path, to, model, _wishes(*settings)))
        pictures = small.overlay(HEAT), small.image, (small.input, small.image)
        return *pictures, points, gr.update(visible=False)

    def pick(self, event: gr.SelectData, path: str, to: str, model: str, *settings: Any) -> Any:
        """A click on the attention picture: that object, beside those chosen before."""
        points: list[Point] = settings[-1]
        size = self._studio.predict(path, to, model).picture.size
        scale = max(1.0, max(size) / PREVIEW)
        try:
            x, y = (min(at * scale, side - 1) for at, side in zip(event.index, size, strict=True))
        except (TypeError, ValueError) as error:
            raise SpaceError("Click on the attention picture to choose an object.") from error
        # What lies nowhere on the map is told of now; later sliders may leave it without attention.
        clicked = replace(_wishes(*settings), points=[(x, y)], every_point=True)
        self._studio.render(path, to, model, clicked)
        return self.steer(path, to, model, *settings[:-1], [*points, (x, y)])

    def save(self, path: str | None, to: str, model: str, *settings: Any) -> Any:
        """Files of what is shown, at the picture's own size."""
        if path is None:
            raise SpaceError("There is no picture yet: drop one on the left.")
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
            raise SpaceError("There are no pictures yet: drop some above.")
        panels, archive, refused = self._studio.batch(
            files,
            to,
            model,
            TranslateOptions(threshold, feather),
            lambda paths: progress.tqdm(paths),
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
) -> TranslateOptions:
    layers = (strokes or {}).get("layers") or []
    layer: Image.Image | None = layers[0] if layers else None
    return TranslateOptions(threshold, feather, strength, invert, points, layer)
