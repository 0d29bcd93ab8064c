"""What the Space computes, without its page.

All output is a function of the request alone: the image's file, the direction, the model and the edits.
Predictions are cached in memory, bounded, so that moving a slider runs no network; output files are
deleted by a later request once they are an hour old.
"""

import re
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any
from uuid import uuid4

import gradio as gr
import numpy as np
from cachetools import LRUCache, cachedmethod
from huggingface_hub import HfApi, ModelCard, hf_hub_download
from PIL import Image

from agit_hub import AGITPipeline
from agit_hub.data.images import open_image
from agit_hub.errors import SpaceError, UserError
from agit_hub.inference.edits import AttentionEdits, Point
from agit_hub.inference.image_io import lossless_suffix, save_image
from agit_hub.inference.prediction import NO_EDITS, Prediction, Rendering
from agit_hub.models.location import find_model
from agit_hub.space.upload import MAX_MEGABYTES
from agit_hub.space.zerogpu import MODELS_KEPT, ZeroGpu
from agit_hub.visualization import grey_map

MAX_MEGAPIXELS = 24
MAX_BATCH = 50
MAX_FEATHER = 100  # pixels; wider blurs are slow
PREVIEW = 1280  # pixels of the longer side on the page; files and API have the image's own size
PAINT, ERASE = "#22c55e", "#ef4444"
# The fields of `AttentionEdits` that are sliders of the page and parameters of the API, in this order.
SETTINGS = ("threshold", "feather", "strength", "invert")

_REPO_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_ARROW = " → "
_CACHE_BYTES = 500 * 10**6
_SECONDS_KEPT = 3600  # of files
_DRAW: dict[str, Callable[[Rendering], Image.Image]] = {
    "translated": lambda rendering: rendering.image,
    "attention": lambda rendering: grey_map(rendering.attention),
    "panel": lambda rendering: rendering.panel(),
}
_HERE = Path(__file__).resolve().parent
# Examples and the demo model: in an installed package, or in a checkout.
ASSETS = _HERE if (_HERE / "models").is_dir() else _HERE.parents[1] / "space"
DEMO_MODEL = ASSETS / "models" / "agit-shapes"


class SpaceService:
    """Loads models, translates images and writes files.

    Args:
        models: The models to offer: names, and the repo or folder of each.
        gpu: On a ZeroGPU Space, runs the networks. Otherwise they are on this machine's accelerator, if
            it has one, as soon as they are loaded.
    """

    def __init__(self, models: Mapping[str, str], gpu: ZeroGpu | None = None) -> None:
        self.models = dict(models)
        self._gpu = gpu
        self._lock = Lock()
        self._pipelines = LRUCache[Any, AGITPipeline](MODELS_KEPT)
        self._predictions = LRUCache[Any, Prediction](_CACHE_BYTES, getsizeof=_num_bytes)
        self._folder = TemporaryDirectory(prefix="agit-space-")

    def pipeline(self, model: str) -> AGITPipeline:
        """Return a model's pipeline, loaded once.

        Raises:
            AgitError: If the model is unknown or cannot be loaded.
        """
        return self._load(self._source(model))

    @cachedmethod(lambda self: self._pipelines, lock=lambda self: self._lock)
    def _load(self, source: str) -> AGITPipeline:
        if self._gpu is None:
            return AGITPipeline.from_pretrained(source)
        on_cpu = AGITPipeline.from_pretrained(source, device="cpu", backend="torch")
        return self._gpu.pipeline(source, on_cpu.model)

    def _source(self, model: str) -> str:
        if not isinstance(model, str):
            raise SpaceError("model must be text: a Hub repo such as user/model.")
        name = model.strip()
        # Only the host may name folders; users name repos.
        if name in self.models or (_REPO_ID.fullmatch(name) and not Path(name).exists()):
            return self.models.get(name, name)
        raise SpaceError(f"{name[:100]!r} is no model: name a Hub repo such as user/model.")

    def directions(self, model: str) -> list[str]:
        """Return the two directions of a model, such as "horse → zebra"."""
        source, target = self.pipeline(model).model.config.labels
        return [f"{source}{_ARROW}{target}", f"{target}{_ARROW}{source}"]

    def label(self, model: str, to: str) -> str:
        """Return the label of a direction or of a label itself; the model's target if empty.

        Raises:
            SpaceError: If the model does not have it.
        """
        labels = self.pipeline(model).model.config.labels
        label = str(to or "").rpartition(_ARROW)[2].strip() or labels[1]
        if label not in labels:
            raise SpaceError(
                f"{model} translates to {labels[1]} or to {labels[0]}, not to {label}."
            )
        return label

    def predict(self, path: str, to: str, model: str) -> Prediction:
        """Run a model on an image, or return its cached prediction.

        Raises:
            UserError: If image, direction or model cannot be used.
            gr.Error: If ZeroGPU has no GPU available.
        """
        return self._predict(path, self.label(model, to), model)

    # Gradio names an upload's folder after the file's content: a path always is the same image.
    @cachedmethod(lambda self: self._predictions, lock=lambda self: self._lock)
    def _predict(self, path: str, label: str, model: str) -> Prediction:
        image = open_image(path, max_pixels=MAX_MEGAPIXELS * 10**6, max_bytes=MAX_MEGABYTES * 10**6)
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
                except UserError as error:
                    errors.append(str(error))
                    continue
                except gr.Error as error:  # no GPU available: finished images are kept
                    errors.append(f"{Path(path).name} and those after it: {error.message!s}")
                    break
                saved = _save(rendering.image, folder / f"{number:02d}-{_safe_stem(path)}")
                archive.write(saved, saved.name)
                saved.unlink()
                panels.append((rendering.panel(512), Path(path).name))
        return panels, str(folder / "translations.zip") if panels else None, errors

    def card(self, model: str) -> str:
        """Return a model's card as Markdown, without its front matter, or a note if it has none."""
        source = self._source(model)
        try:
            files = find_model(source)
            file = files.folder / "README.md" if files else hf_hub_download(source, "README.md")
            return str(ModelCard.load(file, ignore_metadata_errors=True).text)
        except Exception:  # each transport has its own errors
            return f"*{model} has no card, or the Hub is unreachable.*"

    def known_models(self) -> list[str]:
        """Return the host's models, and those on the Hub with the library's tag if it is reachable."""
        try:
            found = [info.id for info in HfApi().list_models(filter="agit-hub", limit=30)]
        except Exception:  # each transport has its own errors
            found = []
        return list(dict.fromkeys([*self.models, *found]))

    def _new_folder(self) -> Path:
        root = Path(self._folder.name)
        for old in root.iterdir():
            try:
                if old.stat().st_mtime < time.time() - _SECONDS_KEPT:
                    shutil.rmtree(old, ignore_errors=True)
            except FileNotFoundError:
                continue  # deleted by another request
        folder = root / uuid4().hex
        folder.mkdir()
        return folder


def make_edits(
    settings: Sequence[Any], points: Sequence[Point] = (), strokes: Image.Image | None = None
) -> AttentionEdits:
    """Return the edits of the page's controls or the API's parameters.

    A selected object without attention is no error: it disappears while a slider leaves it none, and
    comes back after.

    Args:
        settings: The values of `SETTINGS`, or of the first few.
        points: Selected objects.
        strokes: The brush's layer, RGBA, of any size: green attends, red does not.

    Raises:
        UserError: If a value is out of range.
    """
    values = dict(zip(SETTINGS, settings, strict=False))
    feather = values.get("feather", 0)
    if isinstance(feather, int | float) and feather > MAX_FEATHER:
        raise SpaceError(f"feather is {feather}; at most {MAX_FEATHER} pixels are allowed here.")
    paint, erase = _painted_masks(strokes)
    return AttentionEdits(**values, points=points, strict_points=False, paint=paint, erase=erase)


def preview(rendering: Rendering) -> Rendering:
    """Return a rendering small enough for the page."""
    return rendering.resize(fit_size(rendering.input.size, PREVIEW))


def fit_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return a size (width, height) with neither side longer than `longest`, its aspect kept."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _save(image: Image.Image, stem: Path) -> Path:
    path = stem.with_name(stem.name + lossless_suffix(image.mode))
    save_image(image, path)
    return path


def _painted_masks(strokes: Image.Image | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return where the brush's layer is green, and where it is red, each (h, w) in [0, 1]."""
    if strokes is None:
        return None, None
    layer = np.asarray(strokes.convert("RGBA"), dtype=np.float32)
    opacity, red = layer[..., 3] / 255, layer[..., 0] > layer[..., 1]
    paint, erase = np.where(red, 0, opacity), np.where(red, opacity, 0)
    return (paint if paint.any() else None), (erase if erase.any() else None)


def _num_bytes(prediction: Prediction) -> int:
    width, height = prediction.input.size
    return width * height * (4 + 4)  # the image, and the map at its size


def _safe_stem(name: str) -> str:
    """Return a file's name without its suffix, of letters, digits, hyphens and underscores only."""
    return re.sub(r"[^\w-]+", "_", Path(name).stem)[:60] or "image"
