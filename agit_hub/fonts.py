"""Fonts for labels of any script: the built-in one, an installed one, or a spelling that it can draw."""

import shutil
import subprocess
import unicodedata
from functools import cache
from typing import NamedTuple

from PIL import ImageFont

from agit_hub.logging import get_logger

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
_log = get_logger(__name__)
# A character that no font has: what is drawn for it is the font's box for missing ones.
_MISSING = "\U0010ffff"


class Lettering(NamedTuple):
    """A font, and the text in characters that it has."""

    font: Font
    text: str


def lettering(text: str, size: int) -> Lettering:
    """Choose a font that has every character of a text, or spell the others out.

    Args:
        text: Of one line.
        size: In pixels.
    """
    built_in = ImageFont.load_default(size)
    if _draws(built_in, text):
        return Lettering(built_in, text)
    characters = "".join(sorted(set(text)))
    path = _installed_font(characters)
    if path is not None:
        return Lettering(ImageFont.truetype(path, size), text)
    spelled = "".join(each if _draws(built_in, each) else _spell(each) for each in text)
    _warn(text, spelled)
    return Lettering(built_in, " ".join(spelled.split()) or "?")


def _draws(font: Font, text: str) -> bool:
    box = bytes(font.getmask(_MISSING))
    return all(each.isspace() or bytes(font.getmask(each)) != box for each in text)


@cache
def _installed_font(characters: str) -> str | None:
    """Return the file of an installed font with all characters, as fontconfig knows them."""
    if shutil.which("fc-match") is None:
        return None
    wanted = " ".join(f"{ord(each):x}" for each in characters if not each.isspace())
    # Colour fonts have one size only. The first is the best; it may lack a character.
    query = f"sans:charset={wanted}:scalable=true:color=false"
    command = ["fc-match", "--sort", "-f", "%{file}\n", query]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    for path in filter(None, listed.splitlines()):
        try:
            if _draws(ImageFont.truetype(path, 16), characters):
                return path
        except OSError:  # a format that FreeType cannot read
            continue
    return None


def _spell(character: str) -> str:
    """Return a character without its accents, or its Unicode name or number."""
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    if plain.strip():
        return plain
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn"):
        return ""
    number = f"U+{ord(character):04X}"
    name = unicodedata.name(character, number).lower()
    # An ideograph's name is its number.
    return f" {number if number[2:].lower() in name else name} "


@cache
def _warn(text: str, spelled: str) -> None:
    _log.warning(
        "No font on this machine has all characters of the label %r: images show it as %r. Install one, "
        "such as fonts-noto-cjk, for Chinese, Japanese and Korean.",
        text,
        " ".join(spelled.split()),
    )
