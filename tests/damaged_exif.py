"""Images whose EXIF data Pillow fails on, at opening or at saving, with different exceptions."""

import struct
from pathlib import Path

from PIL import Image


def _entry(tag: int, kind: int, count: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag, kind, count) + value.ljust(4, b"\0")


def _ifd(*entries: bytes) -> bytes:
    body = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8) + body


# A value's type is: 2 text, 3 short, 4 long, 5 rational, 12 double.
DAMAGED = {
    "not a TIFF": b"no tiff at all",
    "wrong byte order": b"XX*\0" + bytes(20),
    "cut": _ifd(_entry(0x0112, 3, 1, b"\1\0"))[:15],
    "orientation is text": _ifd(_entry(0x0112, 2, 4, b"abc\0")),
    "orientation is huge": _ifd(_entry(0x0112, 4, 1, b"\xff\xff\xff\xff")),
    "values outside the file": _ifd(_entry(0x010E, 2, 10**6, struct.pack("<I", 10**8))),
    "sub-IFD is text": _ifd(_entry(0x8769, 2, 4, b"abc\0")),
    "GPS is text": _ifd(_entry(0x8825, 2, 4, b"abc\0")),
    "GPS is rational": _ifd(_entry(0x8825, 5, 1, struct.pack("<I", 8))),
    "IFD points to itself": _ifd(_entry(0x8769, 4, 1, struct.pack("<I", 8))),
    "good orientation": _ifd(_entry(0x0112, 3, 1, b"\6\0"), _entry(0x0128, 2, 4, b"abc\0")),
    "wide orientation": _ifd(_entry(0x0112, 12, 1, struct.pack("<I", 8))),
}


def write_damaged(path: Path, kind: str) -> None:
    """Write an image with damaged EXIF data, in the format of the path's suffix."""
    Image.new("RGB", (32, 32), "blue").save(path, exif=b"Exif\0\0" + DAMAGED[kind])
