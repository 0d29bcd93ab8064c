"""Packs photographs for training elsewhere, re-encoded until the archive is small enough."""

import argparse
import io
import tarfile
from pathlib import Path

from PIL import Image

_FOLDERS = ("trainA", "trainB")
_QUALITIES = (85, 80, 77, 74, 71, 68, 60, 50, 40, 30)


def pack(archive: Path, folder: Path, shown: Path | None, most: int) -> None:
    """Write the archive with the highest quality that fits.

    Args:
        archive: A tar.
        folder: Holds trainA and trainB.
        shown: Holds publishable photographs of each label, packed unchanged.
        most: Maximum size of the archive in bytes.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    files = [path for name in _FOLDERS for path in sorted((folder / name).glob("*.jpg"))]
    if not files:
        raise SystemExit(f"error: {folder} holds no JPEG files in trainA and trainB.")
    for quality in _QUALITIES:
        with tarfile.open(archive, "w") as tar:
            for path in files:
                _add(tar, f"{path.parent.name}/{path.name}", _encoded(path, quality))
            for path in sorted(shown.rglob("*.*")) if shown else ():
                _add(tar, f"shown/{path.relative_to(shown)}", path.read_bytes())
        size = archive.stat().st_size
        print(f"{len(files)} photographs at quality {quality}: {size / 1e6:.1f} MB")
        if size <= most:
            return
    raise SystemExit(f"error: the photographs do not fit {most / 1e6:g} MB at any quality.")


def _encoded(path: Path, quality: int) -> bytes:
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "JPEG", quality=quality, optimize=True)
    # The smaller of both: encoding again must not enlarge a file.
    return min(buffer.getvalue(), path.read_bytes(), key=len)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shown", type=Path)
    parser.add_argument("--bytes", type=int, default=45_000_000)
    arguments = parser.parse_args()
    pack(arguments.archive, arguments.folder, arguments.shown, arguments.bytes)
