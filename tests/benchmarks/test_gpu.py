"""What goes to a GPU machine and what comes back, in miniature on the CPU."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.gpu.pack import pack

ROOT = Path(__file__).resolve().parents[2]


def _run(*arguments: str, work: Path) -> subprocess.CompletedProcess[str]:
    """`benchmarks/gpu.sh` with this Python."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", str(ROOT / "benchmarks" / "gpu.sh"), *arguments],
        env=os.environ | {"PATH": path, "AGIT_GPU_WORK": str(work)},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.soak
def test_gpu_script_measures_steps_and_ends_in_time(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = _run(
        *(str(out), "--device", "cpu", "--minutes", "1", "--only", "step"), work=tmp_path / "work"
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert sorted(path.name for path in out.iterdir()) == ["log.txt", "step.json"]
    rows = json.loads((out / "step.json").read_text("utf-8"))["rows"]
    assert rows[0]["variant"] == "plain fp32"
    for row in rows:
        assert "error" not in row
        assert row["ms"] > 0 and row["launches"] > 1000
        assert len(row["longest"]) == 5 and row["share_of_peak"] > 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "OUT"),
        (["out", "--only", "steps"], "steps"),
        (["out", "--minutes", "soon"], "soon"),
        (["out", "--device", "tpu"], "tpu"),
        (["out", "--photos"], "--photos"),
        (["out", "--quick"], "--quick"),
    ],
)
def test_gpu_script_refuses_what_it_does_not_know(
    tmp_path: Path, arguments: list[str], named: str
) -> None:
    ended = _run(*arguments, work=tmp_path / "work")
    assert ended.returncode == 2
    assert named in ended.stderr and not (tmp_path / "work").exists()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two noisy JPEG files, and one that may be shown."""
    pixels = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for place in ("trainA/a", "trainB/b", "shown/source/s"):
        path = tmp_path / "photos" / f"{place}.jpg"
        path.parent.mkdir(parents=True)
        Image.fromarray(pixels).save(path, quality=95)
    return tmp_path / "photos"


def _packed(archive: Path) -> dict[str, bytes]:
    found = {}
    with tarfile.open(archive) as tar:
        for entry in tar:
            file = tar.extractfile(entry)
            assert file is not None
            found[entry.name] = file.read()
    return found


def test_pack_lowers_the_quality_until_the_archive_fits(photos: Path, tmp_path: Path) -> None:
    sizes = []
    for most in (1_000_000, 150_000):
        pack(tmp_path / "photos.tar", photos, photos / "shown", most)
        packed = _packed(tmp_path / "photos.tar")
        assert sorted(packed) == ["shown/source/s.jpg", "trainA/a.jpg", "trainB/b.jpg"]
        assert packed["shown/source/s.jpg"] == (photos / "shown/source/s.jpg").read_bytes()
        assert Image.open(io.BytesIO(packed["trainA/a.jpg"])).size == (256, 256)
        assert (tmp_path / "photos.tar").stat().st_size <= most
        sizes.append(len(packed["trainA/a.jpg"]))
    assert sizes[1] < sizes[0]


def test_pack_refuses_what_never_fits(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"0\.001 MB"):
        pack(tmp_path / "photos.tar", photos, None, 1000)
    with pytest.raises(SystemExit, match="trainA"):
        pack(tmp_path / "photos.tar", tmp_path / "nothing", None, 1000)
