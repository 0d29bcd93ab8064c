"""Translate images in both directions, and write a page that shows them."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader
from PIL import Image

from agit_hub.atomic import atomic_path, write_bytes
from agit_hub.data.images import open_image, to_rgb
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.shipped import EXAMPLES, example_images
from agit_hub.visualization import fit_size

# Pixels of the longer side of images on the page.
_SIZE = 1280
_QUALITY = 90
_PNG_UP_TO = 256  # pixels: of drawings, whose edges JPEG blurs


@dataclass(frozen=True)
class Row:
    """One image of the page; paths are relative to it."""

    name: str
    size: tuple[int, int]
    seconds: float
    input: str
    attention: str
    output: str
    unchanged: float
    """Percentage of pixels whose bytes are the input's."""


@dataclass(frozen=True)
class Section:
    """All images of one direction."""

    source: str
    target: str
    rows: list[Row]


def demo_images(
    pipe: AGITPipeline, images: Iterable[Path], to: str | None, limit: int
) -> dict[str, list[Path]]:
    """Return the images to translate to each label: those given, or the examples that ship.

    Args:
        pipe: The model.
        images: Images of the label that is not `to`; the examples of both labels if there are none.
        to: The label to translate to. If None, both, or the target label of images that are given.
        limit: At most so many examples of each label, evenly spaced.
    """
    given, config = list(images), pipe.model.config
    if given:
        return {config.goal(to): given}
    goals = config.labels[::-1] if to is None else (config.goal(to),)
    source_of = dict(zip(config.labels, config.labels[::-1], strict=True))
    found = {goal: example_images(source_of[goal]) for goal in goals}
    return {goal: paths[:: -(-len(paths) // limit)] for goal, paths in found.items() if paths}


def write_demo(
    pipe: AGITPipeline,
    model: str,
    images: dict[str, list[Path]],
    folder: Path,
    progress: Callable[[int, int], None],
) -> Path:
    """Translate images, write them and `index.html` into a folder, and return its path.

    Args:
        pipe: The model.
        model: Its name on the page.
        images: By the label to translate to.
        folder: Created if needed; files of the same names are replaced.
        progress: Called with the number of images done and their total.

    Raises:
        ImageError: If an image cannot be read.
    """
    labels = pipe.model.config.labels
    source_of = dict(zip(labels, labels[::-1], strict=True))
    total, done = sum(map(len, images.values())), 0
    sections: list[Section] = []
    for to, paths in images.items():
        rows = []
        for number, path in enumerate(paths):
            rows.append(_row(pipe, path, to, folder, f"{len(sections)}-{number:02d}"))
            done += 1
            progress(done, total)
        sections.append(Section(source_of[to], to, rows))
    page = _render(model, sections, with_credits=_are_examples(images))
    write_bytes(folder / "index.html", page.encode())
    return folder / "index.html"


def _row(pipe: AGITPipeline, path: Path, to: str, folder: Path, prefix: str) -> Row:
    image: Image.Image = open_image(path)
    started = time.perf_counter()
    rendering = pipe.predict(image, to).render()
    seconds = time.perf_counter() - started
    shares = (rendering.attention == 0).mean()
    shown = rendering.resize(fit_size(image.size, _SIZE))
    suffix = ".png" if max(image.size) <= _PNG_UP_TO else ".jpg"
    drawn = {"input": shown.input, "attention": shown.overlay(), "output": shown.image}
    files = {}
    for kind, each in drawn.items():
        files[kind] = f"images/{prefix}-{kind}{suffix}"
        with atomic_path(folder / files[kind]) as draft:
            to_rgb(each).save(draft, "PNG" if suffix == ".png" else "JPEG", quality=_QUALITY)
    return Row(path.name, image.size, seconds, **files, unchanged=100 * float(shares))


def _are_examples(images: dict[str, list[Path]]) -> bool:
    return all(path.is_relative_to(EXAMPLES) for paths in images.values() for path in paths)


def _render(model: str, sections: list[Section], with_credits: bool) -> str:
    environment = Environment(loader=PackageLoader("agit_hub.demo", "."), autoescape=True)
    template = environment.get_template("page.html.jinja")
    names = list(_credits(sections)) if with_credits else []
    return template.render(model=model, sections=sections, credits=names)


def _credits(sections: list[Section]) -> Iterator[str]:
    """Yield the lines of the credits, if photographs are shown: drawings are the project's own."""
    if any(row.name.endswith((".jpg", ".webp")) for section in sections for row in section.rows):
        text = (EXAMPLES / "CREDITS.md").read_text(encoding="utf-8")
        yield from (part.replace("\n", " ").strip() for part in text.split("\n- ")[1:])
