from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from agit_hub.backends.export import Exported, export
from agit_hub.backends.runtimes import Format
from agit_hub.models.agit import AGITModel
from tests.conftest import MakeModel

Files = Callable[..., list[Exported]]


@pytest.fixture(scope="session")
def model(make_model: MakeModel) -> AGITModel:
    """Return a small model with maps between 0 and 1 that vary over the image."""
    made = make_model(channels=8, blocks=5, attention_threshold=0.25).eval()
    for network in (made.attention_s, made.attention_t):
        network.head.weight.data.mul_(4)
    return made


@pytest.fixture(scope="session")
def files(model: AGITModel, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Export the first `count` directions to files of a format and dtype, once per session.

    A direction takes ten seconds to trace, so most tests look at the first alone.
    """
    running: dict[tuple[Format, torch.dtype], tuple[Iterator[Exported], list[Exported]]] = {}

    def get(format: Format, dtype: torch.dtype, count: int = 1) -> list[Exported]:
        if (format, dtype) not in running:
            folder: Path = tmp_path_factory.mktemp(format)
            running[format, dtype] = export(model, folder, format, dtype), []
        exporting, written = running[format, dtype]
        while len(written) < count:
            written.append(next(exporting))
        return written

    return get
