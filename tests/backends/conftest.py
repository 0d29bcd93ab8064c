from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from agit_hub.backends.export import Exported, export
from agit_hub.backends.runtimes import Format
from agit_hub.models.agit import AGITModel
from tests.conftest import MakeModel

Files = Callable[[Format, torch.dtype], list[Exported]]


@pytest.fixture(scope="session")
def model(make_model: MakeModel) -> AGITModel:
    """Return a small model with maps between 0 and 1 that vary over the image."""
    made = make_model(channels=8, blocks=5, attention_threshold=0.25).eval()
    for network in (made.attention_s, made.attention_t):
        network.head.weight.data.mul_(4)
    return made


@pytest.fixture(scope="session")
def files(model: AGITModel, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Export files of a format and dtype, once per session."""
    written: dict[tuple[Format, torch.dtype], list[Exported]] = {}

    def get(format: Format, dtype: torch.dtype) -> list[Exported]:
        if (format, dtype) not in written:
            folder: Path = tmp_path_factory.mktemp(format)
            written[format, dtype] = list(export(model, folder, format, dtype))
        return written[format, dtype]

    return get
