"""What the Space computes, without its page.

All output is a function of the request alone: the image's file, the direction, the model and the edits.
Predictions are cached in memory, bounded, so that moving a slider runs no network; output files are
deleted by a later request once they are an hour old.
"""

import re
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from threading import Condition
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import gradio as gr
from cachetools import LRUCache, cachedmethod
from huggingface_hub import HfApi, hf_hub_download
from PIL import Image

from agit_hub import AGITPipeline
from agit_hub.atomic import owned_folder
from agit_hub.environment import require_extra
from agit_hub.errors import ModelLoadError, SpaceError
from agit_hub.inference.edits import AttentionEdits
from agit_hub.inference.image_io import lossless_suffix, save_image
from agit_hub.inference.prediction import NO_EDITS, Prediction, Rendering
from agit_hub.models.location import find_model
from agit_hub.shipped import example_images
from agit_hub.space.cards import card_text
from agit_hub.space.limits import (
    MAX_BATCH,
    MAX_FILM_RATE,
    MAX_FILM_RATE_ON_CPU,
    MAX_REMEMBERED_MEGABYTES,
    SECONDS_KEPT,
)
from agit_hub.space.memory import num_bytes, without_unused_info
from agit_hub.space.messages import visitor_message
from agit_hub.space.sharing import before_after, save_animation, share_card
from agit_hub.space.uploaded_image import open_upload
from agit_hub.space.visitor_models import VisitorModels
from agit_hub.space.visitors import Visitors
from agit_hub.space.zerogpu import MODELS_KEPT, ZeroGpu
from agit_hub.visualization import grey_map

if TYPE_CHECKING:
    from agit_hub.space.films import FilmStep

_REPO_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
ARROW = " → "
_DRAW: dict[str, Callable[[Rendering], Image.Image]] = {
    "translated": lambda rendering: rendering.image,
    "attention": lambda rendering: grey_map(rendering.attention),
    "panel": lambda rendering: rendering.panel(),
}


class SpaceService:
    """Loads models, translates images and writes files.

    Args:
        models: The models to offer: names, and the repo or folder of each.
        gpu: On a ZeroGPU Space, runs the networks. Otherwise they are on this machine's accelerator, if
            it has one, as soon as they are loaded.
        offer_hub: Whether the list of models has those on the Hub with the library's tag, which are
            strangers'. Visitors can name any public one.
    """

    def __init__(
        self, models: Mapping[str, str], gpu: ZeroGpu | None = None, offer_hub: bool = False
    ) -> None:
        self.models = dict(models)
        self.visitors = Visitors()
        self._gpu, self._offer_hub = gpu, offer_hub
        # Of several requests for one model or image, one loads or computes it and the others wait.
        self._condition = Condition()
        self._pipelines = LRUCache[Any, AGITPipeline](MODELS_KEPT)
        self._predictions = LRUCache[Any, Prediction](
            MAX_REMEMBERED_MEGABYTES * 10**6, getsizeof=num_bytes
        )
        self._folder = owned_folder("agit-space-")
        self._visitor_models = VisitorModels()

    def pipeline(self, model: str) -> AGITPipeline:
        """Return a model's pipeline, loaded once.

        Raises:
            AgitError: If the model is unknown or cannot be loaded.
        """
        return self._load(self._name(model))

    @cachedmethod(lambda self: self._pipelines, condition=lambda self: self._condition)
    def _load(self, name: str) -> AGITPipeline:
        # The host's own may use the host's token, any other none.
        own = self.models.get(name)
        source = str(self._visitor_models.fetch(name)) if own is None else own
        try:
            if self._gpu is None:
                return AGITPipeline.from_pretrained(source)
            on_cpu = AGITPipeline.from_pretrained(source, device="cpu", backend="torch")
            return self._gpu.pipeline(source, on_cpu.model)
        except ModelLoadError as error:
            raise SpaceError(str(error).replace(source, name)) from error

    def _name(self, model: str) -> str:
        if not isinstance(model, str):
            raise SpaceError("model must be text: a Hub repo such as user/model.")
        name = model.strip()
        # Only the host may name folders; visitors name repos.
        if name in self.models or _REPO_ID.fullmatch(name):
            return name
        raise SpaceError(f"{name[:100]!r} is no model: name a Hub repo such as user/model.")

    def directions(self, model: str) -> list[str]:
        """Return the two directions of a model, such as "horse → zebra"."""
        source, target = self.pipeline(model).model.config.labels
        return [f"{source}{ARROW}{target}", f"{target}{ARROW}{source}"]

    def label(self, model: str, to: str) -> str:
        """Return the label of a direction or of a label itself; the model's target if empty.

        Raises:
            SpaceError: If the model does not have it.
        """
        labels = self.pipeline(model).model.config.labels
        wanted = str(to or "").strip()
        # Compared as a whole, because a label may itself have spaces or an arrow.
        for label, direction in zip(labels[::-1], self.directions(model), strict=True):
            if wanted in ("", label.strip(), direction.strip()):
                return label
        raise SpaceError(
            f"{model} translates to {labels[1]} or to {labels[0]}, not to {wanted[:100]}."
        )

    def predict(self, path: str, to: str, model: str) -> Prediction:
        """Run a model on an image, or return its cached prediction.

        Raises:
            UserError: If image, direction or model cannot be used.
            gr.Error: If ZeroGPU has no GPU available.
        """
        return self._predict(path, self.label(model, to), model)

    # Gradio names an upload's folder after the file's content: a path always is the same image.
    @cachedmethod(lambda self: self._predictions, condition=lambda self: self._condition)
    def _predict(self, path: str, label: str, model: str) -> Prediction:
        image = without_unused_info(open_upload(path))
        return self.pipeline(model).predict(image, label)

    def render(self, path: str, to: str, model: str, edits: AttentionEdits = NO_EDITS) -> Rendering:
        """Translate an image with edits; networks run only if the prediction is not cached."""
        return self.predict(path, to, model).render(edits)

    def files(
        self, rendering: Rendering, name: str, kinds: Sequence[str] = tuple(_DRAW)
    ) -> list[str]:
        """Save lossless images of a rendering at its own size, and return their paths.

        Args:
            rendering: The rendering.
            name: Of the input's file.
            kinds: Of `translated`, `attention` and `panel`.
        """
        folder, stem = self._new_folder(), _safe_stem(name)
        return [str(_save(_DRAW[kind](rendering), folder / f"{stem}-{kind}")) for kind in kinds]

    def batch(
        self,
        paths: Sequence[str],
        to: str,
        model: str,
        edits: AttentionEdits,
        progress: Callable[[Sequence[str]], Any],
    ) -> tuple[list[tuple[Image.Image, str]], str | None, list[str]]:
        """Translate many images.

        Returns:
            Panels with their names, a zip of the translations (None if empty), and an error message for
            each file that failed.
        """
        if len(paths) > MAX_BATCH:
            raise SpaceError(f"{len(paths)} images are too many: at most {MAX_BATCH} at once.")
        panels: list[tuple[Image.Image, str]] = []
        errors = []
        folder = self._new_folder()
        with zipfile.ZipFile(folder / "translations.zip", "w") as archive:
            for number, path in enumerate(progress(paths)):
                try:
                    rendering = self.render(path, to, model, edits)
                    saved = _save(rendering.image, folder / f"{number:02d}-{_safe_stem(path)}")
                    archive.write(saved, saved.name)
                    saved.unlink()
                    panels.append((rendering.panel(512), Path(path).name))
                except gr.Error as error:  # no GPU available: finished images are kept
                    errors.append(f"{Path(path).name} and those after it: {error.message!s}")
                    break
                except Exception as error:  # whatever one file raises is that file's alone
                    message = visitor_message(error)
                    named = message.startswith(Path(path).name)
                    errors.append(message if named else f"{Path(path).name}: {message}")
        return panels, str(folder / "translations.zip") if panels else None, errors

    def share_card(self, rendering: Rendering, name: str, to: str, model: str) -> str:
        """Save a card to share as PNG, and return its path; `name` is of the input's file."""
        target = self.label(model, to)
        (source,) = set(self.pipeline(model).model.config.labels) - {target}
        path = self._new_folder() / f"{_safe_stem(name)}-card.png"
        share_card(rendering, self._name(model), (source, target)).save(path)
        return str(path)

    def animation(self, rendering: Rendering, name: str) -> str:
        """Save a loop from the input to the output as WebP, and return its path."""
        path = self._new_folder() / f"{_safe_stem(name)}-before-after.webp"
        save_animation(before_after(rendering), path)
        return str(path)

    def film(
        self, path: str, to: str, model: str, edits: AttentionEdits
    ) -> "tuple[list[str], Iterator[FilmStep]]":
        """Begin to translate a video: return the files that it will have, and the steps to take.

        The files are input and output side by side, and the output alone.

        Raises:
            PackageError: If the package `av` is missing.
        """
        require_extra("video")
        from agit_hub.space.films import FRAMES_PER_GPU_CALL, translate_film

        pipeline, label = self.pipeline(model), self.label(model, to)
        folder, stem = self._new_folder(), _safe_stem(path)
        outputs = folder / f"{stem}-side-by-side.mp4", folder / f"{stem}-translated.mp4"
        frames_per_call = 1 if self._gpu is None else FRAMES_PER_GPU_CALL
        on_cpu = self._gpu is None and pipeline.device.type == "cpu"
        rate = MAX_FILM_RATE_ON_CPU if on_cpu else MAX_FILM_RATE
        steps = translate_film(Path(path), outputs, pipeline, label, edits, frames_per_call, rate)
        return [str(output) for output in outputs], steps

    def examples(self, model: str) -> list[Path]:
        """Return the example images of a model's labels, those of its source first."""
        labels = self.pipeline(model).model.config.labels
        return [path for label in labels for path in example_images(label)]

    def card(self, model: str) -> str:
        """Return a model's card as Markdown for the page, or a note if it has none."""
        name = self._name(model)
        own = self.models.get(name)
        try:
            files = find_model(own) if own is not None else None
            if files is not None:
                file = files.folder / "README.md"
            elif own is not None:
                file = Path(hf_hub_download(own, "README.md"))
            else:
                file = self._visitor_models.card(name)
            return card_text(file.read_text(encoding="utf-8"))
        except Exception:  # each transport has its own errors
            return f"*{name} has no card, or the Hub is unreachable.*"

    def known_models(self) -> list[str]:
        """Return the host's models, and with `offer_hub` others on the Hub if it is reachable."""
        if not self._offer_hub:
            return list(self.models)
        try:
            found = HfApi(token=False).list_models(filter="agit-hub", limit=30)
            return list(dict.fromkeys([*self.models, *(info.id for info in found)]))
        except Exception:  # each transport has its own errors
            return list(self.models)

    def _new_folder(self) -> Path:
        root = self._folder
        for old in root.iterdir():
            try:
                if old.stat().st_mtime < time.time() - SECONDS_KEPT:
                    shutil.rmtree(old, ignore_errors=True)
            except FileNotFoundError:
                continue  # deleted by another request
        folder = root / uuid4().hex
        folder.mkdir()
        return folder


def _save(image: Image.Image, stem: Path) -> Path:
    path = stem.with_name(stem.name + lossless_suffix(image.mode))
    save_image(image, path)
    return path


def _safe_stem(name: str) -> str:
    """Return a file's name without its suffix, of letters, digits, hyphens and underscores only."""
    return re.sub(r"[^\w-]+", "_", Path(name).stem)[:60] or "image"
