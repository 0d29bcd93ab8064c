"""The page's event handlers: from the page's values to its new ones."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from agit_hub.data.images import to_rgb
from agit_hub.errors import SpaceError
from agit_hub.inference.edits import AttentionEdits, Point
from agit_hub.shipped import example_label
from agit_hub.space.edits import make_edits, open_strokes
from agit_hub.space.service import ARROW, PREVIEW, SpaceService, fit_size, preview

HEAT_MAP_OPACITY = 0.8  # where attention is 1
EDITOR_SIZE = 640  # pixels of the longer side of the painted image


class Handlers:
    """One method for each event of the page."""

    def __init__(self, service: SpaceService) -> None:
        self._service = service

    def select_model(self, model: str, to: str) -> tuple[Any, float, float]:
        """Return another model's directions, and its threshold for both tabs."""
        directions = self._service.directions(model)
        threshold = self._service.pipeline(model).threshold
        value = to if to in directions else directions[0]
        return gr.update(choices=directions, value=value), threshold, threshold

    def select_example(self, path: str, to: str, model: str) -> str:
        """Return the direction that starts from an example's label."""
        label = example_label(Path(path).name)
        directions = self._service.directions(model)
        return next((each for each in directions if each.split(ARROW)[0] == label), to)

    def show(self, path: str | None, to: str, model: str, *settings: Any) -> tuple[Any, ...]:
        """Show another image, direction or model: all three images, nothing painted, all objects."""
        if path is None:
            return None, None, None, None, [], gr.update(visible=False)
        *images, points, files = self.edit(path, to, model, *settings, None, [])
        image = self._service.predict(path, to, model).input
        canvas = to_rgb(image).resize(fit_size(image.size, EDITOR_SIZE), Image.Resampling.BICUBIC)
        return *images, {"background": canvas, "layers": [], "composite": canvas}, points, files

    def edit(self, path: str | None, to: str, model: str, *controls: Any) -> tuple[Any, ...]:
        """Render the image again with other edits; no network runs."""
        *_, points = controls
        if path is None:
            return None, None, None, points, gr.update(visible=False)
        small = preview(self._service.render(path, to, model, _edits(*controls)))
        images = small.overlay(HEAT_MAP_OPACITY), small.image, (small.input, small.image)
        return *images, points, gr.update(visible=False)

    def select_object(
        self, event: gr.SelectData, path: str, to: str, model: str, *controls: Any
    ) -> Any:
        """Add the object at a click on the attention image to those selected before."""
        points: list[Point] = controls[-1]
        size = self._service.predict(path, to, model).input.size
        scale = max(1.0, max(size) / PREVIEW)
        try:
            x, y = (min(at * scale, side - 1) for at, side in zip(event.index, size, strict=True))
        except (TypeError, ValueError) as error:
            raise SpaceError("Click on the attention image to select an object.") from error
        # A click beside every object is an error now; later sliders may leave it without attention.
        clicked = replace(_edits(*controls), points=[(x, y)], strict_points=True)
        self._service.render(path, to, model, clicked)
        return self.edit(path, to, model, *controls[:-1], [*points, (x, y)])

    def save(self, path: str | None, to: str, model: str, *controls: Any) -> Any:
        """Return files of the current result, at the image's own size."""
        if path is None:
            raise SpaceError("No image yet: drop one on the left.")
        rendering = self._service.render(path, to, model, _edits(*controls))
        return gr.update(value=self._service.files(rendering, path), visible=True)

    def batch(
        self,
        files: list[str] | None,
        to: str,
        model: str,
        threshold: float,
        feather: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio's way to request one
    ) -> tuple[Any, ...]:
        """Translate many images, one after the other."""
        if not files:
            raise SpaceError("No images yet: drop some above.")
        panels, archive, errors = self._service.batch(
            files,
            to,
            model,
            make_edits((threshold, feather)),
            lambda paths: progress.tqdm(paths),
        )
        summary = f"{len(panels)} of {len(files)} images translated.\n\n"
        summary += "".join(f"- {error}\n" for error in errors)
        return panels, gr.update(value=archive, visible=archive is not None), summary


def _edits(*controls: Any) -> AttentionEdits:
    """Return the edits of the sliders, the brush's file and the selected points."""
    *settings, strokes, points = controls
    return make_edits(settings, points, open_strokes(strokes))
