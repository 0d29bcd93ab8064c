"""Backends serve threads at once: 100 simultaneous requests are equal to sequential ones."""

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from agit_hub.backends import base, runtimes
from agit_hub.backends.base import Backend, ExportedBackend, TorchBackend
from agit_hub.backends.runtimes import Format
from agit_hub.models.agit import AGITModel
from tests.backends.conftest import Files

pytestmark = pytest.mark.slow

REQUESTS = 100


@pytest.fixture(autouse=True)
def _hurried_threads() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def _check(sequential: Backend, threaded: Backend) -> None:
    images = [torch.full((1, 3, 32, 32), 2 * n / REQUESTS - 1) for n in range(REQUESTS)]
    expected = [sequential(image, "zebra") for image in images]
    start = threading.Barrier(20)

    def ask(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        if n < 20:  # all at once, while the backend opens its file
            start.wait()
        return threaded(images[n], "zebra")

    with ThreadPoolExecutor(20) as threads:
        for wanted, found in zip(expected, threads.map(ask, range(REQUESTS)), strict=True):
            assert torch.equal(wanted[0], found[0]) and torch.equal(wanted[1], found[1])


def test_torch_backend_serves_100_requests_at_once(model: AGITModel) -> None:
    _check(TorchBackend(model), TorchBackend(model))


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_exported_backend_opens_once_and_serves_100_requests_at_once(
    model: AGITModel, files: Files, format: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = files(format, torch.float32)[0].path.parent
    sequential = ExportedBackend(model.config, folder, format)
    opened: list[Path] = []
    open_session = runtimes.open_session

    def counting(path: Path, dtype: torch.dtype) -> runtimes.Session:
        opened.append(path)
        return open_session(path, dtype)

    monkeypatch.setattr(base, "open_session", counting)
    threaded = ExportedBackend(model.config, folder, format)
    _check(sequential, threaded)
    assert len(opened) == 2  # one by each of the two backends


def test_openvino_core_is_one_for_all_threads() -> None:
    runtimes._make_core.cache_clear()
    start = threading.Barrier(20)

    def ask(_: int) -> int:
        start.wait()
        return id(runtimes.openvino_core())

    with ThreadPoolExecutor(20) as threads:
        assert len(set(threads.map(ask, range(20)))) == 1
