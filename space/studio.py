"""What the Space does when something is asked of it: plain functions, nothing of a user's is kept.

Everything shown is a function of the request alone: the picture's file, the direction, the model and
the settings. What the networks said is only remembered, so that a slider need not ask them again.
"""

import re
import shutil
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import gradio as gr
import numpy as np
from huggingface_hub import HfApi, ModelCard, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

from agit_hub import AGITPipeline
from agit_hub.data.images import open_image
from agit_hub.errors import ImageError, ModelLoadError
from agit_hub.inference.edits import AttentionEdits, Point
from agit_hub.inference.image_io import grey, lossless_ending, save, small_panel
from agit_hub.inference.prediction import Prediction, Rendering
from borrowed import MODELS_KEPT, BorrowedGpu
from memory import Memory

MAX_MEGAPIXELS = 24
MAX_MEGABYTES = 40
MAX_BATCH = 50
MAX_FEATHER = 100  # pixels: the slider has 40, and more takes its time
PREVIEW = 1280  # pixels of the longer side on the page; files and API have the picture's own size
PAINT, ERASE = "#22c55e", "#ef4444"

_REPO = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}")
_ARROW = " → "
_MEMORY = 500 * 10**6  # bytes of what is remembered
_FILES_KEPT = 3600  # seconds
_FILES: dict[str, Callable[[Rendering], Image.Image]] = {
    "translated": lambda rendering: rendering.image,
    "attention": lambda rendering: grey(rendering.attention),
    "panel": lambda rendering: rendering.panel(),
}

DEMO_MODEL = Path(__file__).resolve().parent / "model"


class SpaceError(ValueError):
    """What a person should change; the message is shown as it is."""


@dataclass(frozen=True)
class TranslateOptions:
    """A person's settings for one picture, as the page's controls give them."""

    threshold: float | None = None
    """None takes the model's own."""
    feather: float = 0.0
    strength: float = 1.0
    invert: bool = False
    points: Sequence[Point] = ()
    """Where objects were chosen."""
    strokes: Image.Image | None = None
    """The brush's layer, RGBA, of any size: green attends, red does not."""
    every_point: bool = False
    """Whether a point without attention is an error; else what was chosen vanishes while a slider leaves
    it none, and comes back after."""

    def edits(self) -> AttentionEdits:
        """The same in the pipeline's words.

        Raises:
            ValueError: If a value is out of range.
        """
        if isinstance(self.feather, int | float) and self.feather > MAX_FEATHER:
            raise SpaceError(
                f"feather is {self.feather}; {MAX_FEATHER} pixels is the most taken here."
            )
        paint, erase = _masks(self.strokes)
        return AttentionEdits(
            threshold=self.threshold,
            feather=self.feather,
            strength=self.strength,
            invert=self.invert,
            points=self.points,
            every_point=self.every_point,
            paint=paint,
            erase=erase,
        )


class SpaceService:
    """Models, and what they said about the pictures that were asked about last.

    Args:
        models: What is offered at the start: names, and the repo or folder that each stands for.
        gpu: On a ZeroGPU Space, what runs networks on a GPU that is borrowed for each call. Without it
            they are on this machine's accelerator, if it has one, as soon as they are loaded.
    """

    def __init__(self, models: Mapping[str, str], gpu: BorrowedGpu | None = None) -> None:
        self.models = dict(models)
        self._gpu = gpu
        self._pipelines = Memory[AGITPipeline](MODELS_KEPT)
        self._proposals = Memory[Prediction](_MEMORY, _bytes)
        self._folder = TemporaryDirectory(prefix="agit-space-")

    def pipeline(self, model: str) -> AGITPipeline:
        """A model, loaded once.

        Raises:
            SpaceError: If there is none of that name, or it cannot be loaded.
        """
        place = self._place(model)
        try:
            return self._pipelines.get(place, lambda: self._loaded(place))
        except ModelLoadError as error:
            raise SpaceError(str(error)) from error
        except (HfHubHTTPError, OSError) as error:
            raise SpaceError(f"{model} cannot be loaded: {type(error).__name__}.") from error

    def _loaded(self, place: str) -> AGITPipeline:
        if self._gpu is None:
            return AGITPipeline.from_pretrained(place)
        waiting = AGITPipeline.from_pretrained(place, device="cpu", backend="torch")
        return self._gpu.pipeline(place, waiting.model)

    def _place(self, model: str) -> str:
        if not isinstance(model, str):
            raise SpaceError("A model is named by a word: a repo of the Hub, such as user/model.")
        name = model.strip()
        # Folders are the host's to name: a visitor's word is a repo, or nothing.
        if name in self.models or (_REPO.fullmatch(name) and not Path(name).exists()):
            return self.models.get(name, name)
        raise SpaceError(f"{name[:100]!r} is no model: name a repo of the Hub, such as user/model.")

    def directions(self, model: str) -> list[str]:
        """The two directions of a model, such as "horse → zebra"."""
        source, target = self.pipeline(model).model.config.labels
        return [f"{source}{_ARROW}{target}", f"{target}{_ARROW}{source}"]

    def label(self, model: str, to: str) -> str:
        """The label that a direction, or a label itself, leads to.

        Raises:
            SpaceError: If the model does not know it.
        """
        labels = self.pipeline(model).model.config.labels
        label = str(to or "").rpartition(_ARROW)[2].strip() or labels[1]
        if label not in labels:
            raise SpaceError(
                f"{model} translates to {labels[1]} or to {labels[0]}, not to {label}."
            )
        return label

    def predict(self, path: str, to: str, model: str) -> Prediction:
        """What a model says about a picture; asked once, for as long as there is memory.

        Raises:
            SpaceError: If picture, direction or model cannot be used.
            gr.Error: If ZeroGPU lends no GPU.
        """
        label = self.label(model, to)

        def ask() -> Prediction:
            picture = _open(Path(path))
            try:
                return self.pipeline(model).predict(picture, label)
            except gr.Error:  # a ValueError too; ZeroGPU's own words, which have links in them
                raise
            except ValueError as error:
                raise SpaceError(str(error)) from error

        # Gradio names an upload's folder after the file's content: one path is one picture.
        return self._proposals.get((path, label, model), ask)

    def render(self, path: str, to: str, model: str, wishes: TranslateOptions) -> Rendering:
        """A picture's translation, steered; networks run only if this is the first time.

        Raises:
            SpaceError: If anything asked for cannot be done.
        """
        proposal = self.predict(path, to, model)
        try:
            return proposal.render(wishes.edits())
        except ValueError as error:
            raise SpaceError(str(error)) from error

    def files(
        self, rendering: Rendering, name: str, kinds: Sequence[str] = tuple(_FILES)
    ) -> list[str]:
        """Save a translation, its map and a panel of all three without loss, at their own size.

        Args:
            rendering: What is saved.
            name: Of the picture's file.
            kinds: Of `translated`, `attention` and `panel` those that are wanted.
        """
        folder, stem = self._new_folder(), _safe(name)
        return [str(_saved(_FILES[kind](rendering), folder / f"{stem}-{kind}")) for kind in kinds]

    def batch(
        self,
        paths: Sequence[str],
        to: str,
        model: str,
        wishes: TranslateOptions,
        progress: Callable[[Sequence[str]], Any],
    ) -> tuple[list[tuple[Image.Image, str]], str | None, list[str]]:
        """Translate many pictures.

        Returns:
            Panels with their names, a zip of the translations (None if there are none), and a sentence
            for each file that could not be used.
        """
        if len(paths) > MAX_BATCH:
            raise SpaceError(
                f"{len(paths)} pictures are too many at once: {MAX_BATCH} is the most."
            )
        panels: list[tuple[Image.Image, str]] = []
        refused = []
        folder = self._new_folder()
        with zipfile.ZipFile(folder / "translations.zip", "w") as archive:
            for number, path in enumerate(progress(paths)):
                try:
                    rendering = self.render(path, to, model, wishes)
                except SpaceError as error:
                    refused.append(str(error))
                    continue
                except gr.Error as error:  # ZeroGPU lends no more for now: what is done stays
                    refused.append(f"{Path(path).name} and those after it: {error.message!s}")
                    break
                saved = _saved(rendering.image, folder / f"{number:02d}-{_safe(path)}")
                archive.write(saved, saved.name)
                saved.unlink()
                panels.append((small_panel(rendering), Path(path).name))
        return panels, str(folder / "translations.zip") if panels else None, refused

    def card(self, model: str) -> str:
        """A model's card as Markdown, without its front matter; a word if it has none."""
        try:
            place = self._place(model)
            folder = Path(place)
            file = folder / "README.md" if folder.is_dir() else hf_hub_download(place, "README.md")
            return str(ModelCard.load(file, ignore_metadata_errors=True).text)
        except Exception:  # likewise
            return f"*{model} has no card, or the Hub cannot be reached.*"

    def known_models(self) -> list[str]:
        """Models to offer: the host's, and the Hub's that carry our tag, if it answers."""
        try:
            found = [info.id for info in HfApi().list_models(filter="agit-hub", limit=30)]
        except Exception:  # a laptop with no network: each transport has errors of its own
            found = []
        return list(dict.fromkeys([*self.models, *found]))

    def _new_folder(self) -> Path:
        root = Path(self._folder.name)
        for old in root.iterdir():
            try:
                if old.stat().st_mtime < time.time() - _FILES_KEPT:
                    shutil.rmtree(old, ignore_errors=True)
            except FileNotFoundError:
                continue  # another visitor's request was quicker
        folder = root / uuid4().hex
        folder.mkdir()
        return folder


def offered(models: str | None) -> dict[str, str]:
    """Names and places of models, from a list separated by commas; the built-in one without any."""
    places = [place.strip() for place in (models or "").split(",") if place.strip()]
    if not places:
        return {"demo": str(DEMO_MODEL)}
    return {Path(place).name if Path(place).is_dir() else place: place for place in places}


def shown(rendering: Rendering) -> Rendering:
    """A rendering small enough for the page."""
    return rendering.scaled(fitted(rendering.input.size, PREVIEW))


def fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """A size (width, height) with neither side longer than so many pixels, its aspect kept."""
    scale = min(1.0, longest / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _open(file: Path) -> Image.Image:
    try:
        return open_image(file, max_pixels=MAX_MEGAPIXELS * 10**6, max_bytes=MAX_MEGABYTES * 10**6)
    except ImageError as error:
        raise SpaceError(str(error)) from error


def _saved(picture: Image.Image, stem: Path) -> Path:
    path = stem.with_name(stem.name + lossless_ending(picture.mode))
    save(picture, path)
    return path


def _masks(strokes: Image.Image | None) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Where the brush's layer is green, and where it is red, each (h, w) in [0, 1]."""
    if strokes is None:
        return None, None
    layer = np.asarray(strokes.convert("RGBA"), dtype=np.float32)
    opacity, red = layer[..., 3] / 255, layer[..., 0] > layer[..., 1]
    green_part, red_part = np.where(red, 0, opacity), np.where(red, opacity, 0)
    return (green_part if green_part.any() else None), (red_part if red_part.any() else None)


def _bytes(proposal: Prediction) -> int:
    width, height = proposal.picture.size
    return width * height * (4 + 4)  # the picture, and the map at its size


def _safe(name: str) -> str:
    """A file's name without its ending, of harmless characters only."""
    return re.sub(r"[^\w-]+", "_", Path(name).stem)[:60] or "picture"
