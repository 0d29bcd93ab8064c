"""Options as people type them: values, flags, and the names that other projects give them."""

from dataclasses import asdict
from pathlib import Path

import pytest

from agit_hub.runs import flatten
from agit_hub.training.config_loader import parse
from agit_hub.training.options import names
from tests.training.test_config_loader import PLACES, _config, _error, _yaml

# What people type, and the value.
TYPED = [
    ("train.max_steps", "1e3", 1000),
    ("train.max_steps", "1000.0", 1000),
    ("train.max_steps", "None", None),
    ("train.learning_rate", "1E-4", 1e-4),
    ("train.num_epochs", "5", 5.0),
    *[("data.flip", word, True) for word in ("yes", "True", "ON", "1")],
    *[("data.flip", word, False) for word in ("no", "FALSE", "off", "0")],
    ("data.in_memory", "none", None),
    ("train.mixed_precision", "no", "no"),
    ("log.report_to", "tensorboard,wandb", ["tensorboard", "wandb"]),
    ("log.report_to", "[tensorboard, 'wandb']", ["tensorboard", "wandb"]),
    ("log.report_to", "wandb", "wandb"),
    ("model.source_label", "null", "null"),
]


@pytest.mark.parametrize(("key", "text", "value"), TYPED)
def test_parse_values_as_people_type_them(key: str, text: str, value: object) -> None:
    for arguments in ([f"--{key}={text}"], [f"--{key}", text]):
        found = flatten(asdict(_config(*arguments)))[key]
        assert found == value and type(found) is type(value)


def test_parse_yaml_values_as_people_write_them(tmp_path: Path) -> None:
    text = "train: {max_steps: 1e3, learning_rate: 1e-4, mixed_precision: no}"
    train = _config(*_yaml(tmp_path, text)).train
    assert (train.max_steps, train.learning_rate, train.mixed_precision) == (1000, 1e-4, "no")


def test_parse_flag_without_value_is_yes_and_dashes_are_underscores() -> None:
    config = _config("--train.torch_compile", "--train.max-steps=3", "--train.augment")
    assert config.train.torch_compile and config.train.augment and config.train.max_steps == 3
    assert _error("--train.max_steps") == "--train.max_steps needs a value."


@pytest.mark.parametrize(
    ("arguments", "resume"),
    [
        (["--resume=True"], True),
        (["--resume", "yes"], True),
        (["--resume=false"], False),
        (["--no_resume"], False),
        (["--resume", "--train.seed=1"], True),
    ],
)
def test_parse_resume_takes_words_for_yes_and_no(arguments: list[str], resume: bool) -> None:
    assert parse([*PLACES, *arguments]).resume is resume


def test_parse_resume_with_a_folder_names_output_dir() -> None:
    for arguments in (["--resume", "runs/a"], ["--resume=runs/a"]):
        assert "--output_dir runs/a --resume" in _error(*arguments)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.lr", "train.learning_rate"),
        ("lr", "train.learning_rate"),
        ("learning_rate", "train.learning_rate"),
        ("report_to", "log.report_to"),
        ("dataset_name", "data.source.path and data.target.path"),
        ("resume_from_checkpoint", "--resume with --output_dir"),
        ("num_train_epochs", "train.num_epochs"),
        ("train_batch_size", "train.batch_size"),
        ("batchSize", "train.batch_size"),
        ("max_train_steps", "train.max_steps"),
        ("niter", "train.num_epochs"),
        ("niter_decay", "train.decay_from"),
        ("gpu_ids", "num_processes"),
        ("lambda_A", "train.lambda_cyc"),
        ("resolution", "model.image_size"),
        ("dataroot", "data.source.path"),
        ("push_to_hub", "hub.push_to_hub"),
        ("train.hub_model_id", "hub.hub_model_id"),
        ("seeed", "train.seed"),
    ],
)
def test_parse_names_of_neighbours_lead_to_ours(key: str, meant: str) -> None:
    message = _error(f"--{key}=3")
    assert f"Unknown key {key!r}" in message and meant in message


def test_parse_bare_name_of_several_options_lists_them() -> None:
    message = _error("--patience=3")
    assert "'eval.patience'" in message
    message = _error("--split=train")
    assert "'data.source.split' or 'data.target.split'" in message


def test_neighbours_names_are_no_options_and_lead_to_options() -> None:
    known = {*flatten(asdict(_config())), "output_dir", "num_processes"}
    for name, meant in names._NEIGHBOURS.items():
        assert name not in known and name == name.lower()
        assert {meant.split()[0].rstrip(",")} <= known | {"HF_TOKEN", "HF_HOME", "--resume"}, meant
