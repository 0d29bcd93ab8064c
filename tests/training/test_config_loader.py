"""From the command line and files to a validated configuration, or to an error message."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from agit_hub.errors import ConfigError
from agit_hub.runs import flatten
from agit_hub.training.config import TrainConfig
from agit_hub.training.config_loader import parse, to_yaml
from agit_hub.training.options.names import RENAMED_KEYS
from tests.training.conftest import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
PLACES = [
    *("--data.source.path", "horses", "--data.target.path", "zebras"),
    *("--output_dir", "runs/zebras"),
]

# The values of the paper and of the authors' code; none of them is a default of ours.
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
    "train.num_epochs": 100,
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
    "train.max_grad_norm": None,
    "train.ema_decay": 0,
}
RECIPES = {
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


def _error(*arguments: str) -> str:
    with pytest.raises(ConfigError) as error:
        parse([*PLACES, *arguments])
    message = str(error.value)
    assert "\n" not in message
    return message


def _yaml(folder: Path, text: str, name: str = "typed") -> list[str]:
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return ["--config", str(file)]


def _nested(key: str, value: str) -> str:
    for part in reversed(key.split(".")):
        value = f"{{{part}: {value}}}"
    return value


def test_parse_command_line_overrides_files_override_defaults(tmp_path: Path) -> None:
    file = _yaml(tmp_path, "train: {update_order: joint, batch_size: 3, switch: {step: 7}}")
    assert _config().train.update_order == "joint"
    assert _config("--config", "official").train.update_order == "official"
    both = _config("--config", "official", *file)
    # Although it is the default too; other keys of the section keep their values.
    assert both.train.update_order == "joint"
    assert (both.train.switch.step, both.train.switch.on_collapse) == (7, "warn")
    assert both.model.attention_decoder == "official"
    typed = _config("--config=official", *file, "--train.batch_size=5", "--train.switch.step=null")
    assert (typed.train.update_order, typed.train.batch_size) == ("joint", 5)
    assert typed.train.switch.step is None


def test_parse_options_before_config_still_override_it(tmp_path: Path) -> None:
    file = _yaml(tmp_path, "train: {batch_size: 3, seed: 4}")
    config = _config("--train.batch_size", "5", *file)
    assert (config.train.batch_size, config.train.seed) == (5, 4)


def test_parse_several_files_later_one_overrides(tmp_path: Path) -> None:
    first = _yaml(tmp_path, "model: {blocks: 6}\ntrain: {num_epochs: 200, ema_decay: 0.9}", "first")
    second = _yaml(tmp_path, "train: {ema_decay: 0.5}", "second")
    config = _config("--config", "paper", *first, *second, "--train.num_epochs", "150")
    assert config.model.blocks == 6
    assert (config.train.num_epochs, config.train.ema_decay) == (150, 0.5)
    assert config.train.switch.on_collapse == "warn"
    # A recipe over the file resets what it states.
    assert _config(*first, "--config", "paper").model.blocks == 9


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe_states_values_of_paper(recipe: str) -> None:
    found = flatten(asdict(_config("--config", recipe)))
    expected = RECIPES[recipe]
    assert {key: found[key] for key in expected} == expected
    # The threshold saved with the weights is that of training.
    assert found["model.attention_threshold"] == 0.1


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        ("paper", "horse2zebra_paper"),
        ("paper", "apple2orange_paper"),
        ("cyclegan", "cyclegan_horse2zebra"),
    ],
)
def test_shipped_run_of_recipe_differs_in_labels_and_workers_only(recipe: str, name: str) -> None:
    """Both files state every value, so one could change without the other."""
    expected, found = (flatten(asdict(_config("--config", each))) for each in (recipe, name))
    assert {key for key in expected if found[key] != expected[key]} == {
        *("model.source_label", "model.target_label", "data.num_workers"),
    }


@pytest.mark.parametrize("key", RENAMED_KEYS)
@pytest.mark.parametrize("where", ["typed", "yaml"])
def test_parse_renamed_key_names_replacement(tmp_path: Path, key: str, where: str) -> None:
    typed = where == "typed"
    message = _error(f"--{key}=3") if typed else _error(*_yaml(tmp_path, _nested(key, "3")))
    assert f"Unknown key {key!r}" in message
    new = RENAMED_KEYS[key]
    assert ("removed" if new is None else new) in message
    known = flatten(asdict(_config()))
    assert new is None or new.split()[0] in {*known, "--config"}
    assert key not in known


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--config", "official", "--train.switch.step", "9"],
        ["--config", "cyclegan", "--train.max_steps", "10", "--train.mixed_precision", "bf16"],
        ["--log.report_to", "[tensorboard, wandb]", "--train.learning_rate", "1e-7"],
        ["--model.source_label", "no: #ünï", "--model.target_label", "null"],
        ["--train.attention_threshold", "0.25", "--data.source.name", "1", "--data.flip", "false"],
    ],
    ids=["defaults", "official", "cyclegan", "lists", "words", "threshold"],
)
def test_to_yaml_of_parsed_config_parses_to_same(tmp_path: Path, arguments: list[str]) -> None:
    config = _config(*arguments)
    text = to_yaml(config)
    assert parse(_yaml(tmp_path, text)).config == config
    # It is plain YAML with every key.
    plain = flatten(yaml.safe_load(text))
    expected = flatten(asdict(config))
    threshold = expected.pop("model.attention_threshold")
    assert plain == expected
    assert threshold == plain["train.attention_threshold"]


def test_mistyped_configuration_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError, match=r"shapes.*\. Did you mean horse2zebra_small\?$"):
        parse(["--config", "configs/horse2zebra_smal.yaml"])
    with pytest.raises(ConfigError, match=r"zebra_small, [^?]*\.$"):
        parse(["--config", "monet"])


@pytest.mark.parametrize("file", CONFIGS, ids=[file.stem for file in CONFIGS])
def test_shipped_configuration_parses_by_name_and_path(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_path = parse(["--config", str(file), *PLACES]).config
    assert by_path.data.source.path == "horses"
    assert (by_path.model.labels == ("source", "target")) is (file.stem in RECIPES)
    # By name and by its path in the repository, from any folder.
    monkeypatch.chdir(tmp_path)
    for name in (file.stem, f"configs/{file.name}"):
        assert parse(["--config", name, *PLACES]).config == by_path
        assert parse([f"--config={name}", *PLACES]).config == by_path


def test_shapes_configuration_needs_output_dir_only() -> None:
    config = parse(["--config", "shapes", "--output_dir", "runs/shapes"]).config
    assert [d.path for d in (config.data.source, config.data.target)] == ["shapes", "shapes"]
    assert config.model.labels == (config.data.source.name, config.data.target.name)
    assert config.model.labels == ("plain", "striped")


def test_config_existing_file_overrides_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shapes").write_text("train: {seed: 77}")
    assert _config("--config", "shapes").train.seed == 77


def test_resume_is_a_flag_outside_the_configuration() -> None:
    assert not parse(PLACES).resume
    for arguments in (["--resume", *PLACES], [*PLACES, "--resume"]):
        command = parse(arguments)
        assert command.resume and command.config == parse(PLACES).config
    assert "resume" not in to_yaml(command.config)


def _help(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        parse(arguments)
    assert exit_.value.code == 0
    return capsys.readouterr().out


def test_help_all_lists_and_explains_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(_help(capsys, "--help", "all").split())
    keys = set(flatten(asdict(parse(PLACES).config))) - {"model.attention_threshold"}
    assert [key for key in sorted(keys) if f"--{key} " not in text] == []
    assert "--resume" in text
    assert "Weight of the two cycle consistency losses." in text


@pytest.mark.parametrize("section", ["model", "data", "train", "eval", "log", "hub"])
def test_help_section_lists_its_keys_only(section: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(capsys, "--help", section)
    keys = set(flatten(asdict(parse(PLACES).config))) - {"model.attention_threshold"}
    for key in keys:
        assert (f"--{key} " in text) is key.startswith(f"{section}."), key


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--config", "shapes", "--help"]])
def test_help_fits_a_screen(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    lines = _help(capsys, *arguments).splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 110
    text = "\n".join(lines)
    for part in ("--config", "--output_dir", "--resume", "--data.source.path", *RECIPES):
        assert part in text
    assert "--help all" in text
    assert text.count("agit train") == 5


def test_help_unknown_section_lists_sections() -> None:
    message = _error("--help", "trian")
    assert "'trian'" in message and "train" in message and "all" in message


# Mistyped key, and the nearest existing one.
MISTYPED = [
    ("train.max_step", "train.max_steps"),
    ("train.switch.freeze_atention", "train.switch.freeze_attention"),
    ("model.chanels", "model.channels"),
    ("data.source.pth", "data.source.path"),
    ("lgo.steps", "log.steps"),
    ("trian.max_steps", "train.max_steps"),
    ("ouput_dir", "output_dir"),
]


@pytest.mark.parametrize(("key", "nearest"), MISTYPED)
@pytest.mark.parametrize("where", ["typed", "yaml"])
def test_parse_unknown_key_suggests_nearest(
    tmp_path: Path, key: str, nearest: str, where: str
) -> None:
    for arguments in (
        [[f"--{key}=3"], [f"--{key}", "3"]]
        if where == "typed"
        else [_yaml(tmp_path, _nested(key, "3"))]
    ):
        message = _error(*arguments)
        assert f"Unknown key {key!r}" in message
        assert f"Did you mean {nearest!r}?" in message


@pytest.mark.parametrize("key", ["train.max_ste", "train.ema_", "res", "resum", "conf", "out"])
def test_parse_abbreviated_key_raises(key: str) -> None:
    assert f"Unknown key {key!r}" in _error(f"--{key}=3")


def test_parse_unknown_key_without_similar_one_suggests_nothing(tmp_path: Path) -> None:
    assert _error("--xyzzy=1") == "Unknown key 'xyzzy'."
    assert "'xyzzy'" in _error(*_yaml(tmp_path, "xyzzy: 1"))
    assert "'runs/zebras'" in _error("runs/zebras")


# An invalid value, and parts of the message.
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
    ("train.ema_decay", "1", ["less than 1"]),
    ("train.update_order", "both", ["both", "'joint', 'official'"]),
    ("train.mixed_precision", "fp32", ["fp32", "'no', 'bf16', 'fp16'"]),
    ("train.switch.mask", "5", ["5", "bool"]),
    ("train.switch.epoch", "-1", ["-1", "at least 0"]),
    ("train.seed", "-1", ["at least 0"]),
    ("train.seed", str(2**32), [str(2**32)]),
    ("model.image_size", "65", ["65", "64 or 68"]),
    ("model.image_size", "8", ["16"]),
    ("data.crop_size", "65", ["65", "64 or 68"]),
    ("data.crop_margin", "0.5", ["0.5", "at least 1"]),
    ("log.steps", "0", ["at least 1"]),
]


@pytest.mark.parametrize(
    ("key", "value", "parts"), WRONG, ids=[f"{key}={value}" for key, value, _ in WRONG]
)
@pytest.mark.parametrize("where", ["typed", "yaml"])
def test_parse_invalid_value_raises_with_key_and_expected_value(
    tmp_path: Path, key: str, value: str, parts: list[str], where: str
) -> None:
    if where == "typed":
        message = _error(f"--{key}={value.removeprefix('.')}")
    else:
        message = _error(*_yaml(tmp_path, _nested(key, value)))
    assert message.startswith(f"{key} is "), message
    assert all(part in message for part in parts), message


def test_parse_missing_option_raises_with_name() -> None:
    with pytest.raises(ConfigError, match="output_dir is missing"):
        parse(PLACES[:4])
    with pytest.raises(ConfigError, match=r"data\.target\.path is missing"):
        parse([*PLACES[:2], *PLACES[4:]])
    assert "output_dir is missing" in _error("--output_dir=")
    assert "data.source.path is missing" in _error("--data.source.path=")


def test_model_attention_threshold_is_refused(tmp_path: Path) -> None:
    message = _error("--model.attention_threshold=0.3")
    assert "model.attention_threshold" in message and "train.attention_threshold" in message
    message = _error(*_yaml(tmp_path, "model: {attention_threshold: 0.3}"))
    assert "model.attention_threshold" in message and "train.attention_threshold" in message


def test_config_missing_file_lists_shipped_ones() -> None:
    for arguments in (["--config", "horse2zbra"], ["--config=horse2zbra"]):
        message = _error(*arguments)
        assert "'horse2zbra'" in message and all(file.stem in message for file in CONFIGS)
    assert "--config" in _error("--config")


@pytest.mark.parametrize(
    ("text", "part"),
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
def test_config_file_of_invalid_structure_raises(tmp_path: Path, text: str, part: str) -> None:
    assert part in _error(*_yaml(tmp_path, text))


def test_config_binary_file_raises(tmp_path: Path) -> None:
    (tmp_path / "image.yaml").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    assert "image.yaml" in _error("--config", str(tmp_path / "image.yaml"))


def test_parse_fixed_pairs_with_further_updates_is_refused() -> None:
    """Each step takes the next pairs for each of its updates, and generators see the first of them."""
    error = _error("--data.pairing", "fixed", "--train.discriminator_updates", "2")
    assert "data.pairing is fixed" in error and "train.discriminator_updates 2" in error
    assert "--data.pairing random" in error


def _saved_run(folder: Path, *arguments: str) -> None:
    folder.mkdir(parents=True)
    config = parse([*PLACES[:4], "--output_dir", str(folder), *arguments]).config
    (folder / "config.yaml").write_text(to_yaml(config))


def test_resume_by_the_folder_alone_keeps_the_runs_settings(tmp_path: Path) -> None:
    run = tmp_path / "run"
    _saved_run(run, "--config", "official", "--train.batch_size=3", "--train.max_steps=9")
    alone = ["--resume", "--output_dir", str(run)]
    command = parse(alone)
    assert command.resume and command.config.data.source.path == "horses"
    assert command.config.train.update_order == "official" and command.config.train.batch_size == 3
    longer = parse([*alone, "--train.max_steps", "20"]).config
    assert (longer.train.max_steps, longer.train.batch_size) == (20, 3)
    # Without --resume, nothing of it is taken.
    with pytest.raises(ConfigError, match="path is missing"):
        parse(alone[1:])


def test_resume_of_a_mistyped_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rnu does not exist.*check the name"):
        parse(["--resume", "--output_dir", str(tmp_path / "rnu")])


def test_output_dir_and_config_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    _yaml(tmp_path, "train: {seed: 5}")
    config = parse([*PLACES[:4], "--config=~/typed.yaml", "--output_dir=~/run"]).config
    assert config.output_dir == str(tmp_path / "run") and config.train.seed == 5
