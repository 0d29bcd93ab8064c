"""What every test shares."""

import os

# Read by the libraries at import: no test may talk to anything beyond this machine.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    # Tiny tensors gain nothing from more, and lose much when another process wants the cores.
    torch.set_num_threads(1)
