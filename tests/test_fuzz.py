"""Odd inputs of all kinds: every command works on them or says why not, and all files are counted."""

import contextlib
import csv
import io
import json
import os
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from agit_hub.cli import app
from agit_hub.cli.train import main
from agit_hub.errors import AgitError
from agit_hub.shipped import SMALL_MODEL
from agit_hub.space.service import SpaceService
from tests.modes import MODES, noise
from tests.training.conftest import TINY

COUNT = 400
NAMES = (
    "a",
    "a b",
    "ünï-çødé",
    "日本",
    "😀",
    "train station",
    "x" * 120,
    "-dash",
    "%41",
    "a'b\"c",
    "#1",
    "UP",
)
SIZES = ((16, 16), (24, 17), (1, 1), (3, 90), (200, 16), (64, 64))
FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".webp": "WEBP",
    ".tiff": "TIFF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".JPEG": "JPEG",
}
LAYOUTS = (
    "flat",
    "flat",
    "nested",
    "train and test",
    "linked",
    "zip",
    "tar",
    "tar.gz",
    "metadata",
    "stray archive",
    "empty",
)


class Odd:
    """A source of odd files, all from one seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def choose(self, options: Any) -> Any:
        return self._random.choice(list(options))

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def image(self) -> tuple[str, bytes]:
        """Return an extension and the content of an image of any mode."""
        mode, size = self.choose(MODES), self.choose(SIZES)
        extension = self.choose(FORMATS)
        image, file = noise(mode, size, self._random.randrange(10**6)), io.BytesIO()
        try:
            image.save(file, FORMATS[extension])
        except (OSError, ValueError):  # the format lacks the mode
            file, extension = io.BytesIO(), ".png"
            image.convert("RGB").save(file, "PNG")
        return extension, file.getvalue()

    def file(self) -> tuple[str, bytes]:
        """Return an extension and a content: mostly an image, else a damaged or other file."""
        extension, content = self.image()
        kind = self.choose(("image",) * 8 + ("cut", "flipped", "empty", "text", "renamed", "other"))
        if kind == "cut":
            content = content[: max(1, len(content) // 2)]
        elif kind == "flipped":
            damaged = bytearray(content)
            for _ in range(20):
                damaged[self._random.randrange(len(damaged))] ^= 255
            content = bytes(damaged)
        elif kind == "empty":
            content = b""
        elif kind == "text":
            content = b"not an image at all\n" * 3
        elif kind == "renamed":
            extension = self.choose((".png", ".jpg", ".heic", ".xyz", "", ".npy"))
        elif kind == "other":
            extension, content = self.choose(
                ((".txt", b"notes"), (".json", b"{"), (".mp4", b"no film"))
            )
        return extension, content

    def folder(self, root: Path) -> Path:
        """Write a domain, and return the path that a user would give."""
        layout = self.choose(LAYOUTS)
        place = root / {"nested": "deep/deeper", "train and test": "train"}.get(layout, "")
        place.mkdir(parents=True)
        for number in range(0 if layout == "empty" else self._random.randint(1, 6)):
            extension, content = self.file()
            (place / f"{self.choose(NAMES)}{number}{extension}").write_bytes(content)
        for odd, make in ODDITIES.items():
            if self.chance(0.1):
                make(place / odd)
        return ARRANGE.get(layout, lambda _, folder: folder)(self, root)


def _broken_link(path: Path) -> None:
    path.symlink_to("nowhere")


def _loop(path: Path) -> None:
    path.symlink_to(path.parent, target_is_directory=True)


def _hidden(path: Path) -> None:
    path.write_bytes(b"hidden")


ODDITIES: dict[str, Callable[[Path], Any]] = {
    "gone.png": _broken_link,
    "loop": _loop,
    ".hidden.png": _hidden,
    "folder.png": lambda path: path.mkdir(),
    "pipe.png": os.mkfifo,
    "Thumbs.db": lambda path: path.write_bytes(b"\0" * 10),
}


def _linked(odd: Odd, root: Path) -> Path:
    link = root.with_name(root.name + " link")
    link.symlink_to(root, target_is_directory=True)
    return link


def _tested(odd: Odd, root: Path) -> Path:
    (root / "test").mkdir()
    extension, content = odd.image()
    (root / "test" / f"t{extension}").write_bytes(content)
    return root


def _packed(ending: str) -> Callable[[Odd, Path], Path]:
    def pack(odd: Odd, root: Path) -> Path:
        files = [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
        archive = root.with_name(root.name + ending)
        if ending == ".zip":
            with zipfile.ZipFile(archive, "w") as zipped:
                for path in files:
                    zipped.write(path, path.relative_to(root))
        else:
            with tarfile.open(archive, "w:gz" if ending.endswith("gz") else "w") as tar:
                for path in files:
                    tar.add(path, str(path.relative_to(root)))
        content = archive.read_bytes()
        if odd.chance(0.15):
            archive.write_bytes(content[: len(content) // 2])
        return archive

    return pack


def _described(odd: Odd, root: Path) -> Path:
    with (root / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label"])
        for path in sorted(root.iterdir()):
            if path.is_file() and odd.chance(0.8):
                writer.writerow([path.name, odd.choose(("cat", "dog", ""))])
    return root


def _stray(odd: Odd, root: Path) -> Path:
    with tarfile.open(root / "backup.tar", "w") as tar:
        member = tarfile.TarInfo("old.png")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"old"))
    return root


ARRANGE: dict[str, Callable[[Odd, Path], Path]] = {
    "linked": _linked,
    "train and test": _tested,
    "zip": _packed(".zip"),
    "tar": _packed(".tar"),
    "tar.gz": _packed(".tar.gz"),
    "metadata": _described,
    "stray archive": _stray,
}


def _agit(*arguments: Any) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.exit_code, done.stdout, done.stderr


def _train(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return code, out.getvalue(), err.getvalue()


def _check_sentence(code: int, printed: str, log: str) -> None:
    assert code in (0, 1, 2), (code, log)
    assert "Traceback" not in log + printed
    if code:
        # A file that fails alone is a warning of its own.
        errors = [line for line in log.splitlines() if line.startswith(("error: ", "warning: "))]
        assert errors, log
        assert all(len(line) < 700 for line in errors), log


def _inspect(path: Path) -> None:
    """All files that were given are read, or skipped for a reason."""
    code, printed, log = _agit("inspect", path, "--json", "--out", path.with_name("sheet.png"))
    _check_sentence(code, "", log)
    report = json.loads(printed)
    if not report["domains"] or path.is_file():
        return
    domains = report["domains"]
    found = sum(each["images"] + each["skipped_total"] for each in domains)
    # A table that describes images is neither one of them nor left out.
    found += len(domains[0].get("tables", ()))
    assert found == len(_walk(path)), (report, sorted(_walk(path)))


def _walk(folder: Path) -> list[str]:
    """Files, broken links and links that lead back, each once."""
    found = []
    for parent, folders, files in os.walk(folder.resolve()):
        found += [os.path.join(parent, name) for name in files]  # noqa: PTH118
        found += [name for name in folders if Path(parent, name).is_symlink()]
    return found


@pytest.fixture(scope="module")
def service() -> SpaceService:
    return SpaceService({"demo": str(SMALL_MODEL)})


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(COUNT))
def test_odd_inputs_work_or_get_a_sentence(
    seed: int, tmp_path: Path, service: SpaceService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    odd = Odd(seed)
    source, target = (odd.folder(tmp_path / odd.choose(NAMES) / side) for side in ("s", "t"))
    _inspect(source)
    settings = TINY | {"data.source.path": source, "data.target.path": target}
    arguments = [f"--{key}={'null' if v is None else v}" for key, v in settings.items()]
    _check_sentence(*_train(*arguments, f"--output_dir={tmp_path / 'run'}", "--dry-run"))
    assert not (tmp_path / "run").exists()
    model = ("--model", SMALL_MODEL)
    _check_sentence(
        *_agit("translate", target, *model, "--to", "striped", "--out", tmp_path / "out")
    )
    if seed % 5 == 0:  # slow
        both = ("--source", source, "--target", target, "--out", tmp_path / "report")
        _check_sentence(*_agit("evaluate", *model, *both, "--no-fid"))
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    _ask_the_space(service, source)


def _ask_the_space(service: SpaceService, folder: Path) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else [folder]
    for path in files[:2]:
        message = ""
        try:
            service.render(str(path), service.directions("demo")[0], "demo")
        except AgitError as error:
            message = str(error)
        assert str(folder) not in message
