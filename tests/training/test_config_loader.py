"""From what a person types to a checked configuration, or to a sentence that says what is wrong."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from agit_hub.errors import ConfigError
from agit_hub.training.config import TrainConfig
from agit_hub.training.config_loader import flatten, parse, to_yaml
from tests.training.conftest import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PLACES = [
    *("--data.source.path", "horses", "--data.target.path", "zebras"),
    *("--output_dir", "runs/zebras"),
]

# What the paper and the authors' code say; none of it is left to a default.
PAPER: dict[str, Any] = {
    "model.channels": 32,
    "model.blocks": 9,
    "model.upsampling": "transposed",
    "model.attention": "network",
    "model.attention_channels": 32,
    "model.attention_decoder": "paper",
    "model.image_size": 256,
    "data.crop_size": None,
    "data.crop_margin": 286 / 256,
    "data.zoom": 1.0,
    "data.flip": True,
    "data.pairing": "random",
    "train.epochs": 100,
    "train.max_steps": None,
    "train.batch_size": 1,
    "train.learning_rate": 1e-4,
    "train.attention_learning_rate": None,
    "train.discriminator_learning_rate": None,
    "train.decay_from": 0.5,
    "train.adam_beta1": 0.5,
    "train.lambda_cyc": 10,
    "train.lambda_cyc_warmup_steps": 0,
    "train.attention_threshold": 0.1,
    "train.attention_bias": 0,
    "train.switch.epoch": 30,
    "train.switch.step": None,
    "train.switch.mask": True,
    "train.switch.freeze_attention": True,
    "train.switch.bypass_norm": True,
    "train.switch.on_collapse": "warn",
    "train.pool_size": 50,
    "train.update_order": "joint",
    "train.discriminator": "patch",
    "train.discriminator_channels": 64,
    "train.discriminator_layers": 3,
    "train.clip_norm": None,
    "train.ema": 0,
}
PRESETS = {
    "paper": PAPER,
    "official": PAPER
    | {
        "model.attention_decoder": "official",
        "data.pairing": "fixed",
        "train.update_order": "official",
    },
    "cyclegan": PAPER | {"model.attention": "ones", "train.switch.epoch": None},
}


def _config(*arguments: str) -> TrainConfig:
    return parse([*PLACES, *arguments]).config


def _refusal(*arguments: str) -> str:
    with pytest.raises(ConfigError) as refusal:
        parse([*PLACES, *arguments])
    message = str(refusal.value)
    assert "\n" not in message
    return message


def _yaml(folder: Path, text: str) -> list[str]:
    file = folder / "typed.yaml"
    file.write_text(text)
    return ["--config", str(file)]


def _nested(key: str, value: str) -> str:
    for part in reversed(key.split(".")):
        value = f"{{{part}: {value}}}"
    return value


def test_overrides_win_over_yaml_over_preset_over_defaults(tmp_path: Path) -> None:
    file = _yaml(tmp_path, "train: {update_order: joint, batch_size: 3, switch: {step: 7}}")
    assert _config().train.update_order == "joint"
    assert _config("--preset", "official").train.update_order == "official"
    both = _config("--preset", "official", *file)
    # Although it is the default, too; and its neighbours stay the preset's.
    assert both.train.update_order == "joint"
    assert (both.train.switch.step, both.train.switch.on_collapse) == (7, "warn")
    assert both.model.attention_decoder == "official"
    typed = _config("--preset=official", *file, "--train.batch_size=5", "--train.switch.step=null")
    assert (typed.train.update_order, typed.train.batch_size) == ("joint", 5)
    assert typed.train.switch.step is None


def test_an_override_wins_wherever_it_stands(tmp_path: Path) -> None:
    file = _yaml(tmp_path, "train: {batch_size: 3, seed: 4}")
    config = _config("--train.batch_size", "5", *file)
    assert (config.train.batch_size, config.train.seed) == (5, 4)


def test_a_preset_in_a_file_yields_to_the_files_own_keys_and_to_the_command_line(
    tmp_path: Path,
) -> None:
    file = _yaml(tmp_path, "preset: paper\nmodel: {blocks: 6}\ntrain: {epochs: 200, ema: 0.9}")
    config = _config(*file, "--train.epochs", "150")
    assert (config.preset, config.model.blocks) == ("paper", 6)
    assert (config.train.epochs, config.train.ema) == (150, 0.9)
    assert config.train.switch.on_collapse == "warn"
    assert _config(*file, "--preset", "null").preset is None
    other = _config(*file, "--preset", "cyclegan")
    assert (other.preset, other.model.attention, other.model.blocks) == ("cyclegan", "ones", 6)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_what_the_paper_says(preset: str) -> None:
    found = flatten(asdict(_config("--preset", preset)))
    expected = PRESETS[preset]
    assert {key: found[key] for key in expected} == expected
    # The threshold that travels with the weights is the one of training.
    assert found["model.attention_threshold"] == 0.1


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--preset", "official", "--train.switch.step", "9"],
        ["--preset", "cyclegan", "--train.max_steps", "10", "--train.mixed_precision", "bf16"],
        ["--log.trackers", "[tensorboard, wandb]", "--train.learning_rate", "1e-7"],
        ["--model.source_label", "no: #ünï", "--model.target_label", "null"],
        ["--train.attention_threshold", "0.25", "--data.source.name", "1", "--data.flip", "false"],
    ],
    ids=["defaults", "official", "cyclegan", "lists", "words", "threshold"],
)
def test_the_resolved_configuration_reads_back_as_itself(
    tmp_path: Path, arguments: list[str]
) -> None:
    config = _config(*arguments)
    text = to_yaml(config)
    assert parse(_yaml(tmp_path, text)).config == config
    # It is plain YAML, and holds every key there is with its value.
    plain = flatten(yaml.safe_load(text))
    expected = flatten(asdict(config))
    threshold = expected.pop("model.attention_threshold")
    assert plain == expected
    assert threshold == plain["train.attention_threshold"]


@pytest.mark.parametrize("file", CONFIGS, ids=[file.stem for file in CONFIGS])
def test_every_shipped_configuration_can_be_used(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_path = parse(["--config", str(file), *PLACES]).config
    assert by_path.data.source.path == "horses"
    assert by_path.model.labels != ("source", "target")
    # By name and by its path in the repository, wherever one is.
    monkeypatch.chdir(tmp_path)
    for name in (file.stem, f"configs/{file.name}"):
        assert parse(["--config", name, *PLACES]).config == by_path
        assert parse([f"--config={name}", *PLACES]).config == by_path


def test_the_built_in_shapes_need_only_a_place(tmp_path: Path) -> None:
    config = parse(["--config", "shapes", "--output_dir", "runs/shapes"]).config
    assert [d.path for d in (config.data.source, config.data.target)] == ["shapes", "shapes"]
    assert config.model.labels == (config.data.source.name, config.data.target.name)
    assert config.model.labels == ("plain", "striped")


def test_a_file_of_ones_own_wins_over_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes").write_text("train: {seed: 77}")
    assert _config("--config", "shapes").train.seed == 77


def test_resume_stands_bare_and_is_no_part_of_the_configuration() -> None:
    assert not parse(PLACES).resume
    for arguments in (["--resume", *PLACES], [*PLACES, "--resume"]):
        command = parse(arguments)
        assert command.resume and command.config == parse(PLACES).config
    assert "resume" not in to_yaml(command.config)


def test_help_lists_every_key_and_explains_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        parse(["--help"])
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    keys = set(flatten(asdict(parse(PLACES).config))) - {"model.attention_threshold"}
    assert [key for key in sorted(keys) if f"--{key} " not in text] == []
    assert "--resume" in text
    assert "Weight of the two cycle consistency losses." in text


# Mistyped key, and the nearest there is.
MISTYPED = [
    ("train.max_step", "train.max_steps"),
    ("train.switch.freeze_atention", "train.switch.freeze_attention"),
    ("model.chanels", "model.channels"),
    ("data.source.pth", "data.source.path"),
    ("lgo.every", "log.every"),
    ("trian.max_steps", "train.max_steps"),
    ("ouput_dir", "output_dir"),
    ("prest", "preset"),
]


@pytest.mark.parametrize(("key", "nearest"), MISTYPED)
@pytest.mark.parametrize("where", ["typed", "yaml"])
def test_an_unknown_key_is_named_with_the_nearest(
    tmp_path: Path, key: str, nearest: str, where: str
) -> None:
    for arguments in (
        [[f"--{key}=3"], [f"--{key}", "3"]]
        if where == "typed"
        else [_yaml(tmp_path, _nested(key, "3"))]
    ):
        message = _refusal(*arguments)
        assert f"Unknown key {key!r}" in message
        assert f"Did you mean {nearest!r}?" in message


@pytest.mark.parametrize("key", ["train.max_ste", "train.ema_", "res", "resum", "conf", "out"])
def test_abbreviations_are_refused(key: str) -> None:
    assert f"Unknown key {key!r}" in _refusal(f"--{key}=3")


def test_what_is_nothing_like_a_key_is_refused_without_a_guess(tmp_path: Path) -> None:
    assert _refusal("--xyzzy=1") == "Unknown key 'xyzzy'."
    assert "'xyzzy'" in _refusal(*_yaml(tmp_path, "xyzzy: 1"))
    assert "'runs/zebras'" in _refusal("runs/zebras")


# A value that cannot be, and what the refusal says of it.
WRONG = [
    ("train.max_steps", "many", ["many", "int or null"]),
    ("train.max_steps", "1.5", ["1.5", "int"]),
    ("train.max_steps", "0", ["at least 1"]),
    ("train.learning_rate", "fast", ["fast", "float"]),
    ("train.learning_rate", "0", ["greater than 0"]),
    ("train.learning_rate", ".nan", ["nan"]),
    ("train.learning_rate", ".inf", ["inf"]),
    ("train.batch_size", "true", ["True", "int"]),
    ("train.attention_threshold", "2", ["2", "at most 1"]),
    ("train.ema", "1", ["less than 1"]),
    ("train.update_order", "both", ["both", "'joint', 'official'"]),
    ("train.mixed_precision", "fp32", ["fp32", "'no', 'bf16', 'fp16'"]),
    ("train.switch.mask", "5", ["5", "bool"]),
    ("train.switch.epoch", "-1", ["-1", "at least 0"]),
    ("train.seed", "-1", ["at least 0"]),
    ("train.seed", str(2**32), [str(2**32)]),
    ("preset", "papper", ["papper", "'paper', 'official', 'cyclegan'"]),
    ("model.image_size", "65", ["65", "64 or 68"]),
    ("model.image_size", "8", ["16"]),
    ("data.crop_size", "65", ["65", "64 or 68"]),
    ("data.crop_margin", "0.5", ["0.5", "at least 1"]),
    ("log.every", "0", ["at least 1"]),
]


@pytest.mark.parametrize(
    ("key", "value", "said"), WRONG, ids=[f"{key}={value}" for key, value, _ in WRONG]
)
@pytest.mark.parametrize("where", ["typed", "yaml"])
def test_a_wrong_value_is_named_with_its_key_and_what_would_do(
    tmp_path: Path, key: str, value: str, said: list[str], where: str
) -> None:
    if where == "typed":
        message = _refusal(f"--{key}={value.removeprefix('.')}")
    else:
        message = _refusal(*_yaml(tmp_path, _nested(key, value)))
    assert message.startswith(f"{key} is "), message
    assert all(part in message for part in said), message


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match="output_dir is missing"):
        parse(PLACES[:4])
    with pytest.raises(ConfigError, match=r"data\.target\.path is missing"):
        parse([*PLACES[:2], *PLACES[4:]])
    assert "output_dir is missing" in _refusal("--output_dir=")
    assert "data.source.path is missing" in _refusal("--data.source.path=")


def test_the_threshold_is_set_in_one_place(tmp_path: Path) -> None:
    message = _refusal("--model.attention_threshold=0.3")
    assert "model.attention_threshold" in message and "train.attention_threshold" in message
    # In a file, too, it must not be dropped in silence.
    message = _refusal(*_yaml(tmp_path, "model: {attention_threshold: 0.3}"))
    assert "model.attention_threshold" in message and "train.attention_threshold" in message


def test_a_missing_file_is_named_with_what_there_is() -> None:
    for arguments in (["--config", "horse2zbra"], ["--config=horse2zbra"]):
        message = _refusal(*arguments)
        assert "'horse2zbra'" in message and all(file.stem in message for file in CONFIGS)
    assert "--config" in _refusal("--config")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {switch: null}", "train.switch"),
        ("train: {switch: 5}", "train.switch"),
        ("train: 5", "train "),
        ("train: {max_steps: 3, max_steps: 4}", "max_steps"),
        ("a: b: c", "mapping values are not allowed"),
        ("- 1", "typed.yaml"),
        ("resume: maybe", "resume"),
        ("1: 2", "1"),
        ("train: {on: 2}", "train"),
        ("? [train]\n: 1", "typed.yaml"),
        ("train: {seed: {deep: 1}}", "train.seed"),
    ],
)
def test_a_file_of_another_shape_is_refused_in_a_sentence(
    tmp_path: Path, text: str, said: str
) -> None:
    assert said in _refusal(*_yaml(tmp_path, text))


def test_a_file_that_is_no_text_is_refused_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "picture.yaml").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    assert "picture.yaml" in _refusal("--config", str(tmp_path / "picture.yaml"))
