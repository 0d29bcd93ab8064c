"""From what a person types to a checked `TrainConfig`.

YAML files with dotted overrides, read by jsonargparse. What it refuses is said again in one sentence
that names the key, the value and the nearest key that exists.
"""

import re
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

import yaml
from jsonargparse import ActionYesNo, ArgumentParser

from agit_hub.config import ConfigError, describe_type, suggest
from agit_hub.training.config import PRESETS, TrainConfig

Section = TypeVar("Section")

_SHIPPED = (
    Path(__file__).parents[1] / "configs",  # in an installed package
    Path(__file__).parents[2] / "configs",  # in a checkout
)


@dataclass(frozen=True)
class Command:
    """What was asked for."""

    config: TrainConfig
    resume: bool


def parse(arguments: Sequence[str]) -> Command:
    """Read command line, configuration files and preset.

    Explicit keys win over the preset, the preset over the defaults.

    Raises:
        ConfigError: In one sentence, for anything that cannot be used.
        SystemExit: After printing, for `--help`.
    """
    arguments = _locate_configs(arguments)
    preset = _parse(_parser(), arguments)["preset"]
    values = _parse(_parser(PRESETS[preset] if preset else {}), arguments)
    resume = bool(values.pop("resume"))
    return Command(_build(TrainConfig, values, ""), resume)


def to_yaml(config: TrainConfig) -> str:
    """The resolved configuration, as `--config` reads it."""
    return yaml.safe_dump(_without_links(asdict(config)), sort_keys=False, allow_unicode=True)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(message) from ex


def _parser(defaults: Mapping[str, Any] | None = None) -> ArgumentParser:
    parser = _Parser(
        prog="train_accelerate.py",
        description="Train attention-guided image-to-image translation on two sets of pictures.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument(
        "--config",
        action="config",
        help="A YAML file, or the name of a shipped one such as shapes.",
    )
    parser.add_class_arguments(TrainConfig, as_group=False)
    parser.link_arguments("train.attention_threshold", "model.attention_threshold")
    parser.add_argument(
        "--resume",
        action=ActionYesNo(no_prefix="no_"),
        default=False,
        help="Go on from the newest checkpoint in output_dir; starts anew if there is none.",
    )
    if defaults:
        parser.set_defaults(flatten(defaults))
    return parser


def _parse(parser: ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    try:
        namespace = parser.parse_args(list(arguments))
    except (ArgumentError, ConfigError) as error:
        raise ConfigError(_in_plain_words(str(error))) from error
    values: dict[str, Any] = namespace.as_dict()
    values.pop("config")
    return values


def _build(section: type[Section], values: Mapping[str, Any], prefix: str) -> Section:
    """Make the frozen dataclass of a section, naming keys in full where its checks refuse."""
    types = get_type_hints(section)
    arguments = {
        key: _build(types[key], value, f"{prefix}{key}.") if is_dataclass(types[key]) else value
        for key, value in values.items()
    }
    try:
        return section(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from error


def _locate_configs(arguments: Sequence[str]) -> list[str]:
    """Replace the name of a shipped configuration by its path."""
    located = list(arguments)
    for place, argument in enumerate(located):
        if argument.startswith("--config="):
            located[place] = "--config=" + _locate(argument.removeprefix("--config="))
        elif argument == "--config" and place + 1 < len(located):
            located[place + 1] = _locate(located[place + 1])
    return located


def _locate(name: str) -> str:
    if Path(name).is_file():
        return name
    shipped = {path.stem: path for folder in _SHIPPED for path in sorted(folder.glob("*.yaml"))}
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    if stem in shipped:
        return str(shipped[stem])
    raise ConfigError(
        f"There is no configuration {name!r}: give a YAML file, or one of {', '.join(shipped)}."
    )


def _in_plain_words(message: str) -> str:
    known = [*_known_keys(TrainConfig), "config", "resume"]
    if found := re.search(r"[Uu]nrecognized arguments: (\S+)", message):
        key = found[1].lstrip("-").split("=")[0]
        if not found[1].startswith("-"):
            return f"Unexpected argument {found[1]!r}: settings are given as --key.path value."
        return f"Unknown key {key!r}.{suggest(key, known)}"
    if found := re.search(r"Group '([^']*)' does not accept option '([^']*)'", message):
        key = f"{found[1]}.{found[2]}"
        return f"Unknown key {key!r}.{suggest(key, known)}"
    if found := re.search(r'Linked "(\S+)" must be given via "(\S+)"', message):
        return f"{found[1]} follows {found[2]}: set that one instead."
    key_found = re.search(r'Parser key "([^"]+)"', message)
    given = re.search(r"(?:Given value|Got value): (.*)", message)
    if key_found and given and key_found[1] in known:
        expected = describe_type(_known_keys(TrainConfig)[key_found[1]])
        return f"{key_found[1]} is {given[1]}; expected {expected}."
    return " ".join(message.split())


def _known_keys(section: type, prefix: str = "") -> dict[str, Any]:
    types = get_type_hints(section)
    keys: dict[str, Any] = {}
    for field in fields(section):
        kind = types[field.name]
        if is_dataclass(kind):
            assert isinstance(kind, type)
            keys |= _known_keys(kind, f"{prefix}{field.name}.")
        else:
            keys[prefix + field.name] = kind
    return keys


def _without_links(values: dict[str, Any]) -> dict[str, Any]:
    del values["model"]["attention_threshold"]
    return values
