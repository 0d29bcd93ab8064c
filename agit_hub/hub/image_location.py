"""Image files without the place where they were taken, for datasets; their pixels are unchanged."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from agit_hub.image_metadata import exif_bytes, has_location, mentions_location
from agit_hub.inference.compositing import to_upright
from agit_hub.inference.image_io import lossless_suffix, save_image

_START_OF_IMAGE, _END_OF_IMAGE, _START_OF_SCAN = 0xD8, 0xD9, 0xDA
# Segments of metadata: EXIF and XMP; Photoshop's and IPTC; comments.
_METADATA = (0xE1, 0xED, 0xFE)
# Of further images behind the first, which have metadata of their own.
_FURTHER_IMAGES = b"MPF\0"


def without_location(data: bytes, name: str) -> tuple[bytes, str]:
    """Return an image file and its name, without where the image was taken.

    A file that does not state it stays as it is. A JPEG keeps its compressed pixels; other formats are
    written again, as PNG or TIFF, which keep every pixel.

    Args:
        data: The file, which can be decoded.
        name: Its name.
    """
    with Image.open(io.BytesIO(data)) as image:
        if image.format in ("JPEG", "MPO"):
            segments = list(_segments(data))
            end = segments[-1][2] if segments else len(data)
            hidden = any(
                marker in _METADATA and mentions_location(data[start:stop])
                for marker, start, stop in segments
            )
            if not (hidden or has_location(image) or mentions_location(data[end:])):
                return data, name
            return _without_segments(data, segments, exif_bytes(image, False, True)), name
        if not has_location(image):
            return data, name
        image.load()
        suffix = lossless_suffix(image.mode)
        # Upright as it is displayed; the orientation is among what is removed.
        orientation = exif_bytes(image, False, True)
        plain = image.copy()
    plain.info = {key: plain.info[key] for key in ("icc_profile", "dpi") if key in plain.info}
    plain.info["exif"] = orientation
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"image{suffix}"
        save_image(to_upright(plain), path)
        return path.read_bytes(), Path(name).stem + suffix


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment of the first image of a JPEG file."""
    at = 0
    while at + 2 <= len(data):
        if data[at] != 0xFF:
            at = _next_marker(data, at)
            continue
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        has_length = marker not in (_START_OF_IMAGE, _END_OF_IMAGE, 0x01, *range(0xD0, 0xD8), 0x00)
        length = int.from_bytes(data[at + 2 : at + 4], "big") if has_length else 0
        stop = at + 2 + length
        if marker == _START_OF_SCAN:
            stop = _next_marker(data, stop)
        yield marker, at, stop
        if marker == _END_OF_IMAGE:
            return
        at = stop


def _next_marker(data: bytes, at: int) -> int:
    """Return where the next marker is that is neither part of a scan nor a restart."""
    while (at := data.find(b"\xff", at)) >= 0:
        if at + 1 < len(data) and data[at + 1] not in (0x00, 0xFF, *range(0xD0, 0xD8)):
            return at
        at += 1
    return len(data)


def _without_segments(data: bytes, segments: list[tuple[int, int, int]], exif: bytes) -> bytes:
    kept = []
    for marker, start, stop in segments:
        further = marker == 0xE2 and data[start + 4 : start + 8] == _FURTHER_IMAGES
        if marker not in _METADATA and not further:
            kept.append(data[start:stop])
        if marker == _START_OF_IMAGE and exif:
            kept.append(b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif)
    return b"".join(kept)
