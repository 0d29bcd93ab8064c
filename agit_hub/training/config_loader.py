"""From what a person types to a checked `TrainConfig`.

Values are laid over one another: defaults, preset, YAML files, command line. The command line is
jsonargparse's; a file's keys and values are checked against the same dataclasses, so that every refusal
is one sentence that names the key, the value and the nearest key that exists.
"""

import argparse
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

import yaml
from jsonargparse import ActionYesNo, ArgumentParser, set_parsing_settings

from agit_hub.config import describe_type, has_type, suggest
from agit_hub.errors import ConfigError
from agit_hub.training.config import TrainConfig
from agit_hub.training.presets import PRESETS

Section = TypeVar("Section")

_SHIPPED = (
    Path(__file__).parents[1] / "configs",  # in an installed package
    Path(__file__).parents[2] / "configs",  # in a checkout
)
# Written once, as tau of training; it then travels with the weights.
_LINKED = {"model.attention_threshold": "train.attention_threshold"}


@dataclass(frozen=True)
class Command:
    """What was asked for."""

    config: TrainConfig
    resume: bool


def parse(arguments: Sequence[str]) -> Command:
    """Read command line, configuration files and preset.

    Raises:
        ConfigError: In one sentence, for anything that cannot be used.
        SystemExit: After printing, for `--help`.
    """
    files, preset, rest = _split(arguments)
    given: dict[str, Any] = {}
    for file in files:
        given |= _read_file(file)
    if preset is not None:
        given["preset"] = None if preset == "null" else preset
    resume = given.pop("resume", False)
    defaults = {key: default for key, (_, default) in _keys(TrainConfig).items()}
    values = defaults | flatten(_preset(given.get("preset"))) | given
    typed = _parse(_parser(values, resume), rest)
    resume = bool(typed.pop("resume"))
    typed["model"]["attention_threshold"] = typed["train"]["attention_threshold"]
    return Command(_build(TrainConfig, typed, ""), resume)


def to_yaml(config: TrainConfig) -> str:
    """The resolved configuration, as `--config` reads it."""
    values = asdict(config)
    del values["model"]["attention_threshold"]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections to dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds sections.

    Raises:
        ConfigError: If it is no such file, naming it.
    """
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds {_name(values)}; sections such as train: are needed.")
    return values


class _Loader(yaml.SafeLoader):
    """YAML in which no key stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.YAMLError(f"a key is a word{key.start_mark}")
            if key.value in seen:
                raise yaml.YAMLError(f"the key {key.value!r} stands twice{key.start_mark}")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(message) from ex


def _split(arguments: Sequence[str]) -> tuple[list[Path], str | None, list[str]]:
    """Take `--config` and `--preset` out: what they bring lies beneath all else that is typed."""
    before = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    before.add_argument("--config", action="append", default=[])
    before.add_argument("--preset")
    try:
        found, rest = before.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error.argument_name} needs a value.") from error
    return [_locate(name) for name in found.config], found.preset, rest


def _locate(name: str) -> Path:
    if Path(name).is_file():
        return Path(name)
    shipped = {path.stem: path for folder in _SHIPPED for path in sorted(folder.glob("*.yaml"))}
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    if stem in shipped:
        return shipped[stem]
    raise ConfigError(
        f"There is no configuration {name!r} for --config: give a YAML file, or one of "
        f"{', '.join(shipped)}."
    )


def _preset(name: Any) -> Mapping[str, Any]:
    if name is None:
        return {}
    if name not in PRESETS:
        options = ", ".join(repr(preset) for preset in PRESETS)
        raise ConfigError(f"preset is {name}; expected one of {options} or null.")
    return PRESETS[name]


def _read_file(path: Path) -> dict[str, Any]:
    """The dotted keys of a file, each known and each value of its type."""
    known = _types() | {"resume": bool}
    sections = {key.rpartition(".")[0] for key in known} - {""}
    flat = flatten(read_yaml(path))
    for key, value in flat.items():
        if key in sections or key.rpartition(".")[0] in known:
            raise ConfigError(
                f"{key} is {value!r} in {path}; it is a section with keys of its own."
            )
        if key not in known:
            raise ConfigError(f"Unknown key {key!r} in {path}.{suggest(key, [*known])}")
        if key in _LINKED:
            raise ConfigError(f"{key} follows {_LINKED[key]}: set that one instead.")
        flat[key] = value = _as_number(value, known[key])
        if not has_type(value, known[key]):
            raise ConfigError(f"{key} is {value!r}; expected {describe_type(known[key])}.")
    return flat


def _as_number(value: Any, expected: Any) -> Any:
    # YAML 1.1 takes 1e-4 for a word; whoever writes it means a number.
    if isinstance(value, str) and has_type(0.5, expected) and not has_type(value, expected):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _parser(defaults: Mapping[str, Any], resume: bool) -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = _Parser(
        prog="train_accelerate.py",
        description="Train attention-guided image-to-image translation on two sets of pictures.",
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument(
        "--config",
        help="A YAML file, or the name of a shipped one such as shapes; may be given several times.",
    )
    parser.add_class_arguments(TrainConfig, as_group=False)
    for target, source in _LINKED.items():
        parser.link_arguments(source, target)
    parser.add_argument(
        "--resume",
        action=ActionYesNo(no_prefix="no_"),
        default=resume,
        help="Go on from the newest checkpoint in output_dir; starts anew if there is none.",
    )
    parser.set_defaults({key: value for key, value in defaults.items() if key not in _LINKED})
    return parser


def _parse(parser: ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    try:
        namespace = parser.parse_args(list(arguments))
    except (argparse.ArgumentError, ConfigError) as error:
        raise ConfigError(_in_plain_words(str(error))) from error
    values: dict[str, Any] = namespace.as_dict()
    values.pop("config")
    return values


def _build(section: type[Section], values: Mapping[str, Any], prefix: str) -> Section:
    """Make the frozen dataclass of a section, naming keys in full where its checks refuse."""
    types = get_type_hints(section)
    # From the last section up: train holds the threshold that model follows.
    arguments = {
        key: _build(types[key], value, f"{prefix}{key}.") if is_dataclass(types[key]) else value
        for key, value in reversed(list(values.items()))
    }
    try:
        return section(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from error


def _in_plain_words(message: str) -> str:
    known = _types() | {"config": str, "resume": bool}
    if found := re.search(r"[Uu]nrecognized arguments: (\S+)", message):
        key = found[1].lstrip("-").split("=")[0]
        if not found[1].startswith("-"):
            return f"Unexpected argument {found[1]!r}: settings are given as --key.path value."
        return f"Unknown key {key!r}.{suggest(key, [*known])}"
    if found := re.search(r'Linked "(\S+)" must be given via "(\S+)"', message):
        return f"{found[1]} follows {found[2]}: set that one instead."
    if found := re.search(r"argument --(\S+): expected one argument", message):
        return f"--{found[1]} needs a value."
    key_found = re.search(r'Parser key "([^"]+)"', message)
    given = re.search(r"(?:Given value|Got value): (.*)", message)
    if key_found and given and key_found[1] in known:
        return f"{key_found[1]} is {given[1]}; expected {describe_type(known[key_found[1]])}."
    return " ".join(message.split())


def _types() -> dict[str, Any]:
    return {key: kind for key, (kind, _) in _keys(TrainConfig).items()}


def _keys(section: type, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Every dotted key there is, with its type and its default."""
    types = get_type_hints(section)
    keys: dict[str, tuple[Any, Any]] = {}
    for field in fields(section):
        kind = types[field.name]
        if is_dataclass(kind):
            assert isinstance(kind, type)
            keys |= _keys(kind, f"{prefix}{field.name}.")
        else:
            keys[prefix + field.name] = (kind, field.default)
    return keys


def _name(value: Any) -> str:
    return {list: "a list", type(None): "nothing"}.get(type(value), repr(value))
