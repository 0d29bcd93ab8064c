"""Runs initialised from trained networks."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from agit_hub.cli.train import main
from agit_hub.errors import ConfigError
from agit_hub.training.config import TrainConfig
from agit_hub.training.trainer import Trainer
from testing.hub_server import Hub
from tests.online import connect
from tests.training.conftest import Arguments, Train, saved_networks

Configure = Callable[..., TrainConfig]
States = Callable[[Path], dict[str, Any]]
WEIGHTS = "model/model.safetensors"

# Steps of Adam are as long as the learning rate: with this one weights do not change.
STILL = {"train.learning_rate": 1e-30, "train.max_steps": 1}


def test_init_from_run_or_model_loads_weights(tmp_path: Path, train: Train, states: States) -> None:
    first, fresh = tmp_path / "first", tmp_path / "fresh"
    train(first, {"train.ema_decay": 0.5})
    train(fresh, STILL | {"train.seed": 5})
    published, drawn = (
        load_file(first / WEIGHTS),
        saved_networks(states(fresh), 1, "discriminator_"),
    )
    trained = saved_networks(states(first), 4, "discriminator_")
    for place, discriminators in ((first, trained), (first / "model", drawn)):
        name = tmp_path / f"from {place.name}"
        train(name, STILL | {"train.init_from": place, "train.seed": 5})
        found = states(name)
        for expected, prefix in ((published, "model."), (discriminators, "discriminator_")):
            weights = saved_networks(found, 1, prefix)
            assert weights.keys() == expected.keys()
            for key, tensor in weights.items():
                torch.testing.assert_close(tensor, expected[key], rtol=0, atol=1e-20)
    assert any(not torch.equal(trained[key], drawn[key]) for key in drawn)


def test_init_from_is_ignored_when_resuming(tmp_path: Path, train: Train, states: States) -> None:
    train(tmp_path / "first")
    settings = {"train.init_from": tmp_path / "first", "train.decay_from": 1.0}
    train(tmp_path / "whole", settings)
    train(tmp_path / "parts", settings | {"train.max_steps": 2})
    (tmp_path / "first").rename(tmp_path / "away")
    train(tmp_path / "parts", settings, resume=True)
    one, other = (saved_networks(states(tmp_path / name), 4) for name in ("whole", "parts"))
    assert all(torch.equal(one[key], other[key]) for key in one)


def _base_model(run: Path) -> object:
    return json.loads((run / "run.json").read_text()).get("base_model")


def test_init_from_hub_repo_is_recorded_as_base_model_and_kept_when_resuming(
    tmp_path: Path, train: Train, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect(monkeypatch, hub.url, tmp_path / "home")
    train(tmp_path / "first", STILL)
    files = {path.name: path.read_bytes() for path in (tmp_path / "first/model").iterdir()}
    hub.commit("user/base", files, kind="model")
    settings = {"train.init_from": "user/base"}
    train(tmp_path / "next", settings | {"train.max_steps": 2})
    assert _base_model(tmp_path / "next") == "user/base"
    train(tmp_path / "next", settings, resume=True)
    assert _base_model(tmp_path / "next") == "user/base"


def test_init_from_folder_is_no_base_model_even_when_it_is_gone(
    tmp_path: Path, train: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`runs/first` could be a repository's name."""
    monkeypatch.chdir(tmp_path)
    train(tmp_path / "runs/first", STILL)
    settings = {"train.init_from": "runs/first"}
    train(tmp_path / "next", settings | {"train.max_steps": 2})
    assert _base_model(tmp_path / "next") is None
    (tmp_path / "runs").rename(tmp_path / "away")
    train(tmp_path / "next", settings, resume=True)
    assert _base_model(tmp_path / "next") is None


@pytest.mark.parametrize(
    ("key", "ours", "theirs"),
    [
        ("channels", 5, 4),
        ("blocks", 1, 0),
        ("upsampling", "nearest", "transposed"),
        ("attention", "ones", "network"),
        ("attention_smoothing", 3, 1),
    ],
)
def test_init_from_other_architecture_raises_config_error(
    tmp_path: Path, train: Train, configure: Configure, key: str, ours: object, theirs: object
) -> None:
    train(tmp_path / "first", STILL)
    config = configure(
        tmp_path / "next", {"train.init_from": tmp_path / "first", f"model.{key}": ours}
    )
    with pytest.raises(ConfigError) as raised:
        Trainer(config)
    message = str(raised.value)
    assert f"{key} {theirs!r}" in message and f"model.{key} {ours!r}" in message
    assert not (tmp_path / "next").exists()


def test_init_from_missing_exits_with_two(
    tmp_path: Path, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (tmp_path / "nowhere", "a/b/c", "nobody/no-such-model"):
        assert main(arguments(tmp_path / "run", {"train.init_from": place})) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and str(place) in line
