"""Build a validated `TrainConfig` from defaults, YAML files and the command line, in that order.

jsonargparse parses the command line; keys and values of files are checked against the same dataclasses.
Every error is one sentence that names the key, the value and the nearest existing key.
"""

import argparse
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_type_hints

import yaml
from jsonargparse import ActionYesNo, ArgumentParser, set_parsing_settings

from agit_hub.config import describe_type, has_type, suggest
from agit_hub.errors import ConfigError
from agit_hub.runs import flatten, read_yaml
from agit_hub.training.config import TrainConfig

Section = TypeVar("Section")

_CONFIG_FOLDERS = (
    Path(__file__).parents[1] / "configs",  # in an installed package
    Path(__file__).parents[2] / "configs",  # in a checkout
)
# Set once, as tau of training; the model's follows it and is saved with the weights.
_LINKED = {"model.attention_threshold": "train.attention_threshold"}

RENAMED_KEYS: dict[str, str | None] = {
    "preset": "--config paper, official or cyclegan",
    "train.epochs": "train.num_epochs",
    "train.ema": "train.ema_decay",
    "train.clip_norm": "train.max_grad_norm",
    "train.checkpoint_every": "train.checkpointing_steps",
    "train.keep_checkpoints": "train.checkpoints_total_limit",
    "train.attention_bias": None,
    "train.lambda_labels": None,
    "train.lambda_floor": None,
    "train.discriminator_margin": None,
    "data.workers": "data.num_workers",
    "data.network_patience": "data.hub_timeout",
    "log.every": "log.steps",
    "log.samples_every": "log.sample_steps",
    "log.samples": "log.num_samples",
    "log.trackers": "log.report_to",
    "eval.every": "eval.steps",
    "eval.pictures": "eval.max_images",
    "hub.every": "hub.push_steps",
    **{
        f"{section}.{side}.{key}": f"{section}.{side}.storage (stream, download or remote)"
        for section in ("data", "eval")
        for side in ("source", "target")
        for key in ("streaming", "cache")
    },
}
"""Keys of earlier versions, with the option that replaces each; None for a removed one."""

_HELP = """\
usage: agit train [--config NAME_OR_FILE]... [--KEY VALUE]... [--resume]

Train attention-guided image-to-image translation on two sets of images. It needs two folders (or
datasets on the Hub) of unpaired images, and an output folder. `accelerate launch train_accelerate.py`
takes the same options.

Examples:
  agit train --config shapes --output_dir runs/shapes
  agit train --config horse2zebra --data.source.path horses/ --data.target.path zebras/ \\
      --output_dir runs/horse2zebra
  agit train --config paper --data.source.path user/pairs --data.target.path user/pairs \\
      --output_dir runs/paper --num_processes 2 --resume

Common options:
{common}

Configurations for --config, later ones override earlier ones:
  {configs}

More options: --help {sections}, or --help all.
"""
_OPTIONS = {
    "config": "A YAML file, or the name of a shipped configuration; may be repeated.",
    "output_dir": "The run folder; it must be new, or hold this run when resuming.",
    "resume": "Continue from the newest checkpoint in output_dir, or start if there is none.",
    "num_processes": "Train in several processes, one for each GPU.",
    "data.source.path": "Source images: a folder, a dataset on the Hub, or shapes.",
    "data.target.path": "Target images: a folder, a dataset on the Hub, or shapes.",
}
# Common options whose help text is that of their section.
_COMMON = (
    *("model.source_label", "model.target_label", "train.max_steps", "train.batch_size"),
    *("train.mixed_precision", "train.seed"),
)


@dataclass(frozen=True)
class Command:
    """A parsed command line."""

    config: TrainConfig
    resume: bool
    num_processes: int


def parse(arguments: Sequence[str]) -> Command:
    """Parse a command line and the configuration files that it names.

    Raises:
        ConfigError: If a key or value cannot be used.
        SystemExit: After printing, for `--help`.
    """
    _print_help(arguments)
    files, processes, rest = _split(arguments)
    given: dict[str, Any] = {}
    for file in files:
        given |= _read_file(file)
    resume = given.pop("resume", False)
    values = _parse(_parser(given, resume), rest)
    resume = bool(values.pop("resume"))
    values["model"]["attention_threshold"] = values["train"]["attention_threshold"]
    return Command(_build(TrainConfig, values, ""), resume, processes)


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Convert a configuration to the content of its YAML file."""
    values = asdict(config)
    del values["model"]["attention_threshold"]
    return values


def to_yaml(config: TrainConfig) -> str:
    """Convert a configuration to YAML that `--config` reads."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


class _Parser(ArgumentParser):
    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        raise ConfigError(message) from ex


def _split(arguments: Sequence[str]) -> tuple[list[Path], int, list[str]]:
    """Separate the files of `--config`, and `--num_processes`, from the options of the run."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--num_processes", type=int, default=1)
    try:
        found, rest = parser.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        reason = "needs a value" if "expected one" in error.message else error.message
        raise ConfigError(f"{error.argument_name}: {reason}.") from error
    if found.num_processes < 1:
        raise ConfigError(f"--num_processes is {found.num_processes}; it must be at least 1.")
    for argument in rest:
        if argument.startswith("--"):
            _refuse_renamed(argument[2:].partition("=")[0])
    return [_locate(name) for name in found.config], found.num_processes, rest


def _shipped() -> dict[str, Path]:
    return {path.stem: path for folder in _CONFIG_FOLDERS for path in sorted(folder.glob("*.yaml"))}


def _locate(name: str) -> Path:
    if Path(name).is_file():
        return Path(name)
    shipped = _shipped()
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    if stem in shipped:
        return shipped[stem]
    raise ConfigError(
        f"--config is {name!r}; expected a YAML file, or one of {', '.join(shipped)}."
    )


def _refuse_renamed(key: str, where: str = "") -> None:
    if key not in RENAMED_KEYS:
        return
    new = RENAMED_KEYS[key]
    remedy = "this option was removed" if new is None else f"use {new}"
    raise ConfigError(f"Unknown key {key!r}{where}: {remedy}.")


def _read_file(path: Path) -> dict[str, Any]:
    """Read the dotted keys of a file, and check each key and the type of its value."""
    known = _types(TrainConfig) | {"resume": bool}
    sections = {key.rpartition(".")[0] for key in known} - {""}
    flat = flatten(read_yaml(path))
    for key, value in flat.items():
        _refuse_renamed(key, f" in {path}")
        if key in sections or key.rpartition(".")[0] in known:
            raise ConfigError(f"{key} is {value!r} in {path}; expected a section of keys.")
        if key not in known:
            raise ConfigError(f"Unknown key {key!r} in {path}.{suggest(key, [*known])}")
        if key in _LINKED:
            raise ConfigError(f"{key} follows {_LINKED[key]}: set that one instead.")
        flat[key] = value = _to_number(value, known[key])
        if not has_type(value, known[key]):
            raise ConfigError(f"{key} is {value!r}; expected {describe_type(known[key])}.")
    return flat


def _to_number(value: Any, expected: Any) -> Any:
    # YAML 1.1 parses 1e-4 as a string.
    if isinstance(value, str) and has_type(0.5, expected) and not has_type(value, expected):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _parser(defaults: Mapping[str, Any], resume: bool) -> ArgumentParser:
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = _Parser(usage=argparse.SUPPRESS, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", help=_OPTIONS["config"])
    parser.add_class_arguments(TrainConfig, as_group=False)
    for target, source in _LINKED.items():
        parser.link_arguments(source, target)
    parser.add_argument(
        "--resume", action=ActionYesNo(no_prefix="no_"), default=resume, help=_OPTIONS["resume"]
    )
    parser.set_defaults(dict(defaults))
    return parser


def _print_help(arguments: Sequence[str]) -> None:
    """Print the help that `--help [SECTION]` asks for, if it does, and exit."""
    position = next((n for n, each in enumerate(arguments) if each in ("-h", "--help")), None)
    if position is None:
        return
    sections = {k: t for k, t in get_type_hints(TrainConfig).items() if is_dataclass(t)}
    topic = "".join(arguments[position + 1 : position + 2])
    if topic == "all":
        print(_parser({}, resume=False).format_help())
    elif topic in sections:
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        parser = _Parser(usage=argparse.SUPPRESS, add_help=False)
        parser.add_class_arguments(sections[topic], topic)
        print(parser.format_help())
    elif not topic or topic.startswith("-"):
        print(_short_help(sections), end="")
    else:
        raise ConfigError(f"--help is {topic!r}; expected {', '.join(sections)} or all.")
    raise SystemExit(0)


def _short_help(sections: Mapping[str, Any]) -> str:
    documented = {action.dest: str(action.help) for action in _parser({}, False)._actions}
    common = _OPTIONS | {key: documented[key] for key in _COMMON}
    # One line each: the first clause.
    lines = (
        f"  --{key:<22} {re.split('[.;:] ', text)[0].rstrip('.')}" for key, text in common.items()
    )
    configs = textwrap.fill(", ".join(_shipped()), width=96, subsequent_indent="  ")
    return _HELP.format(common="\n".join(lines), configs=configs, sections="|".join(sections))


def _parse(parser: ArgumentParser, arguments: Sequence[str]) -> dict[str, Any]:
    try:
        namespace = parser.parse_args(list(arguments))
    except (argparse.ArgumentError, ConfigError) as error:
        raise ConfigError(_simplify(str(error))) from error
    values: dict[str, Any] = namespace.as_dict()
    values.pop("config")
    return values


def _build(section: type[Section], values: Mapping[str, Any], prefix: str) -> Section:
    """Create the dataclass of a section, with full key names in its errors."""
    types = get_type_hints(section)
    # From the last section on: model.attention_threshold is checked as train.attention_threshold.
    arguments = {
        key: _build(types[key], value, f"{prefix}{key}.") if is_dataclass(types[key]) else value
        for key, value in reversed(list(values.items()))
    }
    try:
        return section(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from error


def _simplify(message: str) -> str:
    """Reword an error message of jsonargparse."""
    known = _types(TrainConfig) | {"config": str, "resume": bool}
    if found := re.search(r"[Uu]nrecognized arguments: (\S+)", message):
        key = found[1].lstrip("-").split("=")[0]
        if not found[1].startswith("-"):
            return f"Unexpected argument {found[1]!r}: options are given as --key.path value."
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


def _types(section: Any, prefix: str = "") -> dict[str, Any]:
    """Return the type of every dotted key."""
    types: dict[str, Any] = {}
    for name, kind in get_type_hints(section).items():
        if is_dataclass(kind):
            types |= _types(kind, f"{prefix}{name}.")
        else:
            types[prefix + name] = kind
    return types
