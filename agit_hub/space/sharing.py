"""Images to share: a card of input, attention and output, and an animation from one to the other."""

from bisect import bisect_right
from collections.abc import Sequence
from math import ceil
from pathlib import Path

from PIL import Image, ImageDraw

from agit_hub.data.images import to_rgb
from agit_hub.fonts import lettering
from agit_hub.inference.prediction import Rendering
from agit_hub.space.previews import attention_view
from agit_hub.visualization import fit_size, side_by_side

ANIMATION_SIDE = 640  # pixels of the longer side
_PROJECT = "AGIT Hub: unsupervised attention-guided image-to-image translation"
_TILE = 480  # pixels of the longer side of each image of a card
_MARGIN, _HEADING, _CAPTION, _SMALL = 32, 34, 22, 18
_BACKGROUND, _TEXT, _FAINT = (250, 250, 248), (40, 40, 44), (96, 90, 86)
_LEAST_SIZE, _MOST_CHARACTERS = 12, 100
# A wipe in a second each way, and most of a second at rest.
_STEPS, _STEP_MS, _REST_MS = 20, 50, 900


def share_card(rendering: Rendering, model: str, labels: tuple[str, str]) -> Image.Image:
    """Draw a card, RGB: the model's name above input, attention and output, and the project below.

    Args:
        rendering: The rendering.
        model: The model's name, shortened if it is wider than the card.
        labels: Of input and output.
    """
    small = rendering.resize(fit_size(rendering.input.size, _TILE))
    tiles = [to_rgb(small.input), attention_view(small), to_rgb(small.image)]
    row = side_by_side(tiles)
    width = max(row.width, _TILE) + 2 * _MARGIN
    top = _MARGIN + round(1.6 * _HEADING)
    below = top + row.height
    card = Image.new("RGB", (width, below + 2 * _CAPTION + 2 * _SMALL + _MARGIN // 2), _BACKGROUND)
    left = (width - row.width) // 2
    card.paste(row, (left, top))
    room = width - 2 * _MARGIN
    _write(card, model, (_MARGIN, _MARGIN + _HEADING // 2), "lm", _HEADING, _TEXT, room)
    step = (row.width - tiles[0].width) / 2
    for number, caption in enumerate((labels[0], "attention", labels[1])):
        place = left + tiles[0].width / 2 + number * step, below + _CAPTION
        _write(card, caption, place, "mm", _CAPTION, _TEXT, tiles[0].width)
    place = (_MARGIN, below + 2 * _CAPTION + _SMALL // 2)
    _write(card, _PROJECT, place, "lm", _SMALL, _FAINT, room)
    return card


def before_after(rendering: Rendering) -> list[Image.Image]:
    """Draw the frames of a loop, RGB: a line wipes from the input to the output, and back."""
    small = rendering.resize(fit_size(rendering.input.size, ANIMATION_SIDE))
    before, after = to_rgb(small.input), to_rgb(small.image)
    frames = [_wiped(before, after, number / _STEPS) for number in range(_STEPS + 1)]
    return [*frames, *frames[-2:0:-1]]


def save_animation(frames: Sequence[Image.Image], path: Path) -> None:
    """Write a loop of `before_after` as WebP."""
    rests = (0, len(frames) // 2)
    durations = [_REST_MS if number in rests else _STEP_MS for number in range(len(frames))]
    options = {"quality": 85, "method": 2, "loop": 0, "duration": durations}
    frames[0].save(path, "WEBP", save_all=True, append_images=list(frames[1:]), **options)


def _wiped(before: Image.Image, after: Image.Image, share: float) -> Image.Image:
    """Return an image with that share of the translation, from the left, slower at both ends."""
    at = round(share * share * (3 - 2 * share) * before.width)
    frame = before.copy()
    frame.paste(after.crop((0, 0, at, after.height)), (0, 0))
    if 0 < at < before.width:
        frame.paste((255, 255, 255), (at - 1, 0, at + 1, before.height))
    return frame


def _write(
    card: Image.Image,
    text: str,
    place: tuple[float, float],
    anchor: str,
    size: int,
    colour: tuple[int, int, int],
    room: int,
) -> None:
    """Write one line of text, smaller and then shortened so that it fits into `room` pixels."""
    line = " ".join(text[:_MOST_CHARACTERS].split()) or "?"
    draw = ImageDraw.Draw(card)
    font, shown = lettering(line, size)
    if (width := draw.textlength(shown, font)) > room:
        font, shown = lettering(line, max(_LEAST_SIZE, int(size * room / width)))
    if draw.textlength(shown, font) > room:
        # Of all prefixes the longest one that fits.
        length = bisect_right(
            range(len(shown)), room, key=lambda end: ceil(draw.textlength(shown[:end] + "…", font))
        )
        shown = shown[: max(0, length - 1)] + "…"
    draw.text(place, shown, colour, font, anchor=anchor)
