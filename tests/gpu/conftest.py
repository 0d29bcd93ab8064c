"""Fixtures of the tests on a GPU: the device, and full fp32 precision.

`AGIT_GPU_DEVICE=cpu` runs the tests on the CPU, which is then compared with itself.
"""

import os
from collections.abc import Iterator

import pytest
import torch

DEVICE = os.environ.get("AGIT_GPU_DEVICE", "cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a GPU if there is none."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU"))


@pytest.fixture
def device() -> torch.device:
    """The device that the tests run on."""
    return torch.device(DEVICE)


@pytest.fixture(autouse=True)
def _full_fp32() -> Iterator[None]:
    """Disable TF32 and cuDNN's benchmark, and restore all flags after the test."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    cuda.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = False
    yield
    cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
    torch.use_deterministic_algorithms(False)
