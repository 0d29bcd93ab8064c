"""The handlers of the page's events: from the page's values to its new ones."""

from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from time import perf_counter
from typing import Any

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder
from PIL import Image

from agit_hub.data.images import to_rgb
from agit_hub.errors import SpaceError
from agit_hub.inference.edits import AttentionEdits, Point
from agit_hub.inference.prediction import Prediction, Rendering
from agit_hub.shipped import example_images, example_label
from agit_hub.space.edits import make_edits, open_mask, open_strokes
from agit_hub.space.previews import PREVIEW, save_preview
from agit_hub.space.service import ARROW, SpaceService
from agit_hub.visualization import fit_size

EDITOR_SIZE = 640  # pixels of the longer side of the painted image
_HIDDEN = gr.update(value=None, visible=False)
_NOTHING_KEPT: tuple[Any, ...] = (_HIDDEN,) * 5
"""Files, animation and card of an earlier result, and their downloads, are of no use."""


class Handlers:
    """One method for each event of the page."""

    def __init__(self, service: SpaceService) -> None:
        self._service = service

    def select_model(self, model: str, to: str, path: str | None) -> tuple[Any, ...]:
        """Return another model's directions, image, examples and note, and its threshold for each tab.

        An example of another model, or no image, is replaced by this one's first example; a visitor's own
        image stays.
        """
        directions = self._service.directions(model)
        threshold = self._service.pipeline(model).threshold
        labels = [direction.split(ARROW)[0] for direction in directions]
        stays = path is not None and _label_of_example(path) in (None, *labels)
        examples = self._service.examples(model)
        image = gr.update() if stays else _uploaded(examples[0]) if examples else None
        value = to if stays and to in directions else directions[0]
        return (
            gr.update(choices=directions, value=value),
            image,
            gr.update(samples=[[_uploaded(each)] for each in examples], visible=bool(examples)),
            gr.update(value=no_examples(labels), visible=not examples),
            *[threshold] * 3,
        )

    def select_example(self, index: int, to: str, model: str) -> tuple[Any, str]:
        """Return an example of the model, and the direction that starts from its label."""
        examples = self._service.examples(model)
        if not isinstance(index, int) or not 0 <= index < len(examples):
            return gr.update(), to  # of another model, whose examples were just replaced
        label = examples[index].parent.name
        directions = self._service.directions(model)
        found = next((each for each in directions if each.split(ARROW)[0] == label), to)
        return _uploaded(examples[index]), found

    def show(self, path: str | None, to: str, model: str, *settings: Any) -> tuple[Any, ...]:
        """Show another image, direction or model: all three images, no edits but the sliders'."""
        if path is None:
            return None, None, None, [], *_NOTHING_KEPT, "No image yet.", None, None, None
        start = perf_counter()
        prediction = self._service.predict(path, to, model)
        _ = prediction.raw_attention  # what edits need is computed once
        predicted = perf_counter()
        rendering, images = _render(prediction, _edits(*settings, None, None, []))
        done = perf_counter()
        size = prediction.input.size
        canvas = to_rgb(prediction.input).resize(
            fit_size(size, EDITOR_SIZE), Image.Resampling.BICUBIC
        )
        editor = {"background": canvas, "layers": [], "composite": canvas}
        status = (
            f"{escape(to)} in {done - start:.1f} s for {size[0]} x {size[1]} pixels{_shown_at(size)}. "
            f"{_changed(rendering)} Edits take {1000 * (done - predicted):.0f} ms."
        )
        return *images, [], *_NOTHING_KEPT, status, None, editor, None

    def edit(self, path: str | None, to: str, model: str, *controls: Any) -> tuple[Any, ...]:
        """Render the image again with other edits; no network runs."""
        points = controls[-1]
        if path is None:
            return None, None, None, points, *_NOTHING_KEPT, "No image yet."
        start = perf_counter()
        rendering, images = _render(self._service.predict(path, to, model), _edits(*controls))
        taken = 1000 * (perf_counter() - start)
        status = f"{_changed(rendering)} Edited in {taken:.0f} ms."
        return *images, points, *_NOTHING_KEPT, status

    def paint(self, path: str | None, to: str, model: str, *controls: Any) -> Any:
        """Render the image again with other strokes.

        Its last control is the strokes' file at the last time: the brush also says that it changed when
        its tab is opened, and then nothing else may happen.
        """
        *controls, before = controls  # type: ignore[assignment]
        edits = _edits(*controls)
        now = None if edits.paint is None and edits.erase is None else controls[-2]
        if now == before:
            return gr.skip()
        return *self.edit(path, to, model, *controls), now

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
        rendering = self._current(path, to, model, *controls)
        return gr.update(value=self._service.files(rendering, str(path)), visible=True)

    def animate(self, path: str | None, to: str, model: str, *controls: Any) -> tuple[Any, Any]:
        """Return a loop from the input to the current result, shown and as a download."""
        rendering = self._current(path, to, model, *controls)
        return _shown_and_offered(self._service.animation(rendering, str(path)))

    def make_card(self, path: str | None, to: str, model: str, *controls: Any) -> tuple[Any, Any]:
        """Return a card of the current result, shown and as a download."""
        rendering = self._current(path, to, model, *controls)
        return _shown_and_offered(self._service.share_card(rendering, str(path), to, model))

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

    def film(
        self,
        path: str | None,
        to: str,
        model: str,
        threshold: float,
        feather: float,
        progress: gr.Progress = gr.Progress(),  # noqa: B008 - Gradio's way to request one
    ) -> Iterator[tuple[Any, ...]]:
        """Translate the first seconds of a video; it can be stopped after each frame."""
        if path is None:
            raise SpaceError("No video yet: drop one above.")
        start = perf_counter()
        edits = make_edits((threshold, feather))
        outputs, steps = self._service.film(path, to, model, edits)
        yield None, gr.update(visible=False), "Reading the video."
        step = None
        for step in steps:
            progress(min(1.0, step.seconds / step.total), desc=f"{step.seconds:.1f} s of the film")
            yield gr.skip(), gr.skip(), gr.skip()
        assert step is not None  # a video without frames is an error
        ended = f" It ends there: {step.ended}." if step.ended else ""
        status = (
            f"{escape(to)}: {step.frames} frames, {step.seconds:.1f} s of film, in "
            f"{perf_counter() - start:.0f} s.{ended}"
        )
        yield outputs[0], gr.update(value=outputs, visible=True), status

    def _current(self, path: str | None, to: str, model: str, *controls: Any) -> Rendering:
        if path is None:
            raise SpaceError("No image yet: drop one on the left.")
        return self._service.render(path, to, model, _edits(*controls))


def no_examples(labels: list[str]) -> str:
    """Return what is said where a model has no example images."""
    return f"No example images come with this model: drop your own above ({' or '.join(labels)})."


def _label_of_example(path: str) -> str | None:
    """Return the label of an example image by its name and content, or None for any other image."""
    label = example_label(Path(path).name)
    own = [each for each in example_images(label or "") if each.name == Path(path).name]
    return label if own and own[0].read_bytes() == Path(path).read_bytes() else None


def _uploaded(example: Path) -> str:
    """Return a copy of an example among the uploads, as if a visitor had sent it."""
    return str(save_file_to_cache(example, get_upload_folder()))


def _render(prediction: Prediction, edits: AttentionEdits) -> tuple[Rendering, tuple[Any, ...]]:
    """Return a rendering, and the files of attention, output and comparison."""
    rendering = prediction.render(edits)
    shown = save_preview(rendering)
    return rendering, (shown.attention, shown.output, (shown.input, shown.output))


def _shown_and_offered(file: str) -> tuple[Any, Any]:
    return gr.update(value=file, visible=True), gr.update(value=file, visible=True)


def _changed(rendering: Rendering) -> str:
    share = 100 * float((rendering.attention > 0).mean())
    return f"{share:.0f}% of the image changes." if share else "Nothing changes."


def _shown_at(size: tuple[int, int]) -> str:
    shown = fit_size(size, PREVIEW)
    if shown == size:
        return ""
    return f", shown here at {shown[0]} x {shown[1]} (saved files have the full size)"


def _edits(*controls: Any) -> AttentionEdits:
    """Return the edits of the sliders, the mask's file, the brush's file and the selected points."""
    *settings, mask, strokes, points = controls
    return make_edits(settings, points, open_strokes(strokes), open_mask(mask))
