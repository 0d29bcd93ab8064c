"""What the tests of a GPU share: the device, and small networks on it.

`AGIT_GPU_DEVICE=cpu` runs them on the CPU, against itself, to see that they run at all.
"""

import os
from collections.abc import Iterator

import pytest
import torch

DEVICE = os.environ.get("AGIT_GPU_DEVICE", "cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no GPU"))


@pytest.fixture
def device() -> torch.device:
    """Where the tests run."""
    return torch.device(DEVICE)


@pytest.fixture(autouse=True)
def _arithmetic() -> Iterator[None]:
    """Full fp32, and what a test changes about it put back."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    cuda.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = False
    yield
    cuda.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
    torch.use_deterministic_algorithms(False)
