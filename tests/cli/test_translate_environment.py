"""`agit translate` where the system stands in the way: links, names, permissions, encodings, pipes."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Translate, listing, paint
from tests.cli.test_translate import AGIT

AS_A_USER = [
    "setpriv",
    *(f"--{kind}=-dac_override,-dac_read_search" for kind in ("bounding-set", "inh-caps")),
]


def test_translate_broken_link_does_not_stop_others(translate: Translate, work: Path) -> None:
    """In a folder or pattern it is counted and left out; asked for by name it fails."""
    paint(work / "photos" / "a.png")
    (work / "photos" / "gone.png").symlink_to("nowhere.png")
    for arguments in (["photos"], ["photos/*.png"]):
        done = translate(*arguments, "--overwrite")
        assert done.exit_code == 0 and "1 broken link skipped" in done.stderr
        assert done.stdout == "Translated 1 image to zebra -> out/.\n"
    done = translate("photos/a.png", "photos/gone.png", "--overwrite")
    assert done.exit_code == 1
    assert done.stderr == "warning: photos/gone.png does not exist.\n"
    assert done.stdout == "Translated 1 image to zebra -> out/ (1 failed).\n"


def test_translate_follows_linked_folders_and_survives_circles(
    translate: Translate, work: Path
) -> None:
    paint(work / "elsewhere" / "b.png")
    paint(work / "photos" / "a.png")
    (work / "photos" / "linked").symlink_to(work / "elsewhere")
    (work / "photos" / "circle").symlink_to(".")
    assert translate("photos").exit_code == 0
    assert listing(work / "out") == ["a.png", "linked/b.png"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems restrict names")
def test_translate_names_that_are_long_or_not_utf8(translate: Translate, work: Path) -> None:
    names = [b"caf\xe9.png", b"x" * 236 + b".png"]
    (work / "photos").mkdir()
    for name in names:
        shutil.copy(paint(work / "a.png"), work / "photos" / os.fsdecode(name))
    done = translate("photos", "--maps", "--panels")
    assert done.exit_code == 0, done.output
    assert {os.fsencode(path.name) for path in (work / "out").iterdir()} >= set(names)


def test_translate_output_in_any_encoding(translate: Translate, work: Path) -> None:
    paint(work / "a.png")
    (work / "gone\u2192.png").symlink_to("nowhere")
    done = translate("a.png", "gone\u2192.png", "--out", "\u00e4\u2192", charset="ascii")
    assert done.exit_code == 1
    assert done.stdout == "Translated 1 image to zebra -> \\xe4\\u2192/ (1 failed).\n"


def test_translate_home_in_options_is_expanded(
    translate: Translate, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(work))
    paint(work / "a.png")
    assert translate("~/a.png", "--out=~/res").exit_code == 0
    assert listing(work / "res") == ["a.png"] and not (work / "~").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv")
def test_translate_without_permissions(work: Path, model: Path) -> None:
    """In a process of its own, which root's rights are taken from."""
    for name in ("a.png", "secret.png", "locked/b.png"):
        paint(work / "photos" / name)
    (work / "photos" / "secret.png").chmod(0)
    (work / "photos" / "locked").chmod(0)
    (work / "mine").mkdir(mode=0o555)
    user = AS_A_USER if os.geteuid() == 0 else []
    command = [*user, *AGIT, "translate", "photos", "--model", str(model), "--to", "zebra"]
    refused, done = (
        subprocess.run([*command, "--out", out], capture_output=True, text=True, check=False)
        for out in ("mine/out", "out")
    )
    (work / "photos" / "locked").chmod(0o755)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "error: --out is mine/out, which cannot be written to: perm" in refused.stderr
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stdout == "Translated 1 image to zebra -> out/ (1 failed).\n"
    left_out, failed = done.stderr.splitlines()
    assert left_out == "1 unreadable folder skipped: permission denied (locked/)"
    assert failed.startswith("warning: photos/secret.png")


@pytest.mark.parametrize("reader", ["true", "head -c 1 > /dev/null"])
def test_output_that_nobody_reads_is_no_traceback(reader: str) -> None:
    command = f"{shlex.join([*AGIT, 'train', '--help', 'all'])} | {reader}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
