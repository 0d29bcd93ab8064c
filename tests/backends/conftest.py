from collections.abc import Callable
from pathlib import Path

import pytest

from agit_hub.backends.export import Exported, export
from agit_hub.backends.runtimes import Format
from agit_hub.models.agit import AGITModel
from tests.conftest import MakeModel

Files = Callable[[Format, bool], list[Exported]]


@pytest.fixture(scope="session")
def model(make_model: MakeModel) -> AGITModel:
    """Small, with maps between 0 and 1 that differ from place to place."""
    made = make_model(channels=8, blocks=5, attention_threshold=0.25).eval()
    for network in (made.attention_s, made.attention_t):
        network.head.weight.data.mul_(4)
    return made


@pytest.fixture(scope="session")
def files(model: AGITModel, tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Files of a format, written once."""
    written: dict[tuple[Format, bool], list[Exported]] = {}

    def get(format: Format, half: bool) -> list[Exported]:
        if (format, half) not in written:
            folder: Path = tmp_path_factory.mktemp(format)
            written[format, half] = list(export(model, folder, format, half))
        return written[format, half]

    return get
