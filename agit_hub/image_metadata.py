"""Metadata of images: damaged data that must not fail an image, and what tells where it was taken."""

import re
from typing import Any

from PIL import ExifTags, Image

from agit_hub.logging import get_logger

_log = get_logger(__name__)

# IFDs and tags of EXIF that state a place, or may: makers' notes are undocumented.
_PLACES = (ExifTags.Base.GPSInfo, 0x02BC, 0x83BB, 0x8649)  # GPS, XMP, IPTC, Photoshop
_MAKER_NOTE = ExifTags.Base.MakerNote
# In XMP and text: coordinates, and names of places.
_LOCATION = re.compile(
    rb"GPS|latitude|longitude|photoshop:(City|State|Country)|Iptc4xmp\w+:\w*(Location|Country|City)|"
    rb"\bgeo:",
    re.IGNORECASE,
)
# In IPTC: sublocation, city, province and country.
_IPTC_LOCATION = re.compile(rb"\x1c\x02[\x1a\x1b\x5a\x5c\x5f\x64\x65]")
# What `Image.info` holds of EXIF and XMP, in any format.
_EXIF_KEYS = ("exif", "Raw profile type exif", "Raw profile type APP1", "xmp", "XML:com.adobe.xmp")


def without_damaged_exif(image: Image.Image) -> Image.Image:
    """Return a decoded image whose EXIF data can be read and written: of damaged data, the orientation.

    Pillow parses EXIF late, when an image is turned upright or saved, and raises almost anything.
    """
    orientation: Any = None
    try:
        # Of another image, because Pillow reports damage only when it first parses the data, which for a
        # JPEG is when it is opened.
        probe = Image.new("1", (1, 1))
        probe.info = dict(image.info)
        for exif in (probe.getexif(), image.getexif()):
            orientation = exif.get(ExifTags.Base.Orientation)
            exif.tobytes()
        return image
    except Exception:  # Pillow raises almost anything
        plain = image.copy()
        for key in _EXIF_KEYS:
            plain.info.pop(key, None)
        if orientation in range(2, 9):
            kept = Image.Exif()
            kept[ExifTags.Base.Orientation] = int(orientation)
            plain.info["exif"] = kept.tobytes()
        return plain


def exif_bytes(image: Image.Image, keep_location: bool, keep_orientation: bool = False) -> bytes:
    """Return an image's EXIF data to save; empty if there are none, or they are damaged."""
    try:
        # Of a copy, because what is removed here must stay in the image.
        exif = Image.Exif()
        exif.load(image.getexif().tobytes())
        if not keep_orientation:
            exif.pop(ExifTags.Base.Orientation, None)
        if not keep_location:
            for tag in _PLACES:
                exif.pop(tag, None)
            exif.get_ifd(ExifTags.IFD.Exif).pop(_MAKER_NOTE, None)
        return exif.tobytes() if len(exif) else b""
    except Exception as error:  # Pillow raises almost anything
        _log.warning("Damaged EXIF data are left out of a result: %s", error)
        return b""


def has_nested_data(exif: bytes) -> bool:
    """Return whether EXIF data have more than one directory, as those of cameras do."""
    parsed = Image.Exif()
    parsed.load(exif)
    return any(tag in parsed for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo, 0xA005))


def has_location(image: Image.Image) -> bool:
    """Return whether an image's metadata state where it was taken, or may."""
    try:
        exif = image.getexif()
        if exif.get_ifd(ExifTags.IFD.GPSInfo):
            return True
        values: list[Any] = [exif.get(tag) for tag in _PLACES[1:]]
        values.append(exif.get_ifd(ExifTags.IFD.Exif).get(_MAKER_NOTE))
    except Exception:  # damaged, and still readable by others
        return True
    texts = {key: value for key, value in image.info.items() if key not in ("exif", "icc_profile")}
    return any(mentions_location(value) for value in [*values, *texts.values()])


def mentions_location(value: Any) -> bool:
    """Return whether text, bytes or a collection of them name a place or coordinates."""
    if isinstance(value, dict):
        return any(map(mentions_location, value.values()))
    if isinstance(value, list | tuple):
        return any(map(mentions_location, value))
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")
    if not isinstance(value, bytes):
        return False
    # Raw profiles of PNG are hexadecimal text.
    found = _LOCATION.search(value) or _IPTC_LOCATION.search(value)
    return found is not None or bool(_LOCATION.search(_hexadecimal(value)))


def _hexadecimal(value: bytes) -> bytes:
    digits = re.sub(rb"\s", b"", value.rpartition(b"\n\n")[2] or value)
    try:
        return bytes.fromhex(digits.decode())
    except ValueError:
        return b""
