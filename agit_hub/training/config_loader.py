"""Build a validated `TrainConfig` from defaults, YAML files and the command line, in that order.

Keys and values are checked against the dataclasses, whose docstrings jsonargparse formats as help. Every
error is one sentence that names the key, the value and the option that is probably meant.
"""

import argparse
import re
import textwrap
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from agit_hub.config import describe_type, has_type
from agit_hub.environment import expand_home
from agit_hub.errors import ConfigError
from agit_hub.runs import RunFolder, flatten, read_yaml
from agit_hub.training.config import TrainConfig
from agit_hub.training.options.names import RENAMED_KEYS, refuse_renamed, unknown_key
from agit_hub.training.options.values import from_text, from_yaml, to_bool

Section = TypeVar("Section")
_UNSET = object()

_CONFIG_FOLDERS = (
    Path(__file__).parents[1] / "configs",  # in an installed package
    Path(__file__).parents[2] / "configs",  # in a checkout
)
# Set once, as tau of training; the model's follows it and is saved with the weights.
_LINKED = {"model.attention_threshold": "train.attention_threshold"}

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
      --output_dir runs/paper --num_processes 2
  agit train --resume --output_dir runs/paper

Common options:
{common}

Configurations for --config, later ones override earlier ones:
  {configs}

More options: --help {sections}, or --help all.
"""
_OPTIONS = {
    "config": "A YAML file, or the name of a shipped configuration; may be repeated.",
    "output_dir": "The run folder; it must be new, or hold this run when resuming.",
    "resume": "Continue the run in output_dir from its newest checkpoint, with its settings.",
    "dry_run": "Check settings, images and networks, say what would be trained, and write nothing.",
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
    dry_run: bool
    """Only check whether it can be trained."""


def parse(arguments: Sequence[str]) -> Command:
    """Parse a command line and the configuration files that it names.

    A run that is resumed keeps its own settings where the command line and its files state none.

    Raises:
        ConfigError: If a key or value cannot be used.
        SystemExit: After printing, for `--help`.
    """
    _print_help(arguments)
    options = _split(arguments)
    given: dict[str, Any] = {}
    for name in options.configs:
        given |= _read_file(_locate(name))
    resume = given.pop("resume", False)
    given |= {key: _checked(key, text, from_text) for key, text in options.texts.items()}
    if options.resume is not None:
        resume = options.resume
    if resume and given.get("output_dir"):
        run = RunFolder(given["output_dir"])
        if not given.get("data.source.path"):  # nothing but the run could state it
            run.check_resumable()
        if run.exists:
            run.read_config()  # written by this version
            given = _read_file(run.config_file) | given
    config = _build(TrainConfig, _nest(given), "")
    return Command(config, resume, options.num_processes, options.dry_run)


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Convert a configuration to the content of its YAML file."""
    values = asdict(config)
    del values["model"]["attention_threshold"]
    return values


def to_yaml(config: TrainConfig) -> str:
    """Convert a configuration to YAML that `--config` reads."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


@dataclass
class _Options:
    """A command line, not yet converted."""

    configs: list[str] = field(default_factory=list)
    num_processes: int = 1
    resume: bool | None = None
    """None if it is not stated."""
    dry_run: bool = False
    texts: dict[str, str] = field(default_factory=dict)


def _split(arguments: Sequence[str]) -> _Options:
    """Separate the options; a value follows its option, or an equals sign."""
    options, types = _Options(), _types(TrainConfig)
    rest = deque(arguments)
    while rest:
        argument = rest.popleft()
        if not argument.startswith("--"):
            raise ConfigError(
                f"Unexpected argument {argument!r}: options are given as --key.path value."
            )
        key, equals, text = argument[2:].partition("=")
        key = key if key in _OPTIONS or key in RENAMED_KEYS else key.replace("-", "_")
        value = text if equals else None
        if key in ("resume", "no_resume"):
            options.resume = _resume(key, value, rest)
            continue
        if key == "dry_run":
            options.dry_run = from_text(value or "true", bool) is True
            continue
        if key not in ("config", "num_processes"):
            _check_key(key)
        if value is None and rest and not rest[0].startswith("--"):
            value = rest.popleft()
        if value is None and types.get(key) is bool:
            value = "true"
        if value is None:
            raise ConfigError(f"--{key} needs a value.")
        if key == "config":
            options.configs.append(value)
        elif key == "num_processes":
            options.num_processes = _processes(value)
        else:
            options.texts[key] = value
    return options


def _resume(key: str, value: str | None, rest: deque[str]) -> bool:
    if value is None and rest and not rest[0].startswith("--"):
        value = rest.popleft()
    wanted = True if value is None else to_bool(value)
    if wanted is None:
        raise ConfigError(
            f"--{key} is {value!r}; it takes no value, or true or false. The run's folder is that of "
            f"--output_dir: --output_dir {value} --resume."
        )
    return wanted if key == "resume" else not wanted


def _processes(text: str) -> int:
    found = from_text(text, int)
    if not has_type(found, int) or found < 1:
        raise ConfigError(f"--num_processes is {text}; it must be a number, at least 1.")
    return int(found)


def _shipped() -> dict[str, Path]:
    return {path.stem: path for folder in _CONFIG_FOLDERS for path in sorted(folder.glob("*.yaml"))}


def _locate(name: str) -> Path:
    path = expand_home(name)
    if path.is_file():
        return path
    shipped = _shipped()
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    if stem in shipped:
        return shipped[stem]
    near = get_close_matches(stem, shipped, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise ConfigError(
        f"--config is {name!r}; expected a YAML file, or one of {', '.join(shipped)}.{hint}"
    )


def _read_file(path: Path) -> dict[str, Any]:
    """Read the dotted keys of a file, and check each key and the type of its value."""
    where = f" in {path}"
    flat = flatten(read_yaml(path))
    return {key: _checked(key, value, from_yaml, where) for key, value in flat.items()}


def _check_key(key: str, where: str = "", value: Any = None) -> None:
    known = _types(TrainConfig) | {"resume": bool}
    sections = {each.rpartition(".")[0] for each in known} - {""}
    refuse_renamed(key, where)
    if key in sections or key.rpartition(".")[0] in known:
        raise ConfigError(f"{key} is {value!r}{where}; expected a section of keys.")
    if key not in known:
        raise unknown_key(key, [*known, *(["config"] if not where else [])], where)
    if key in _LINKED:
        raise ConfigError(f"{key} follows {_LINKED[key]}: set that one instead.")


def _checked(key: str, value: Any, convert: Callable[[Any, Any], Any], where: str = "") -> Any:
    """Return the value of a key in its type."""
    _check_key(key, where, value)
    expected = (_types(TrainConfig) | {"resume": bool})[key]
    found = convert(value, expected)
    if not has_type(found, expected):
        raise ConfigError(f"{key} is {found!r}; expected {describe_type(expected)}.")
    return found


def _nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Nest dotted keys into sections, and set what follows another key."""
    nested: dict[str, Any] = {}
    linked = {target: flat[source] for target, source in _LINKED.items() if source in flat}
    for key, value in {**flat, **linked}.items():
        *sections, name = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    if nested.get("output_dir"):
        nested["output_dir"] = str(expand_home(nested["output_dir"]))
    return nested


def _parser() -> ArgumentParser:
    """Return a parser of all options, for their documentation."""
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(usage=argparse.SUPPRESS)
    parser.add_argument("--config", help=_OPTIONS["config"])
    parser.add_class_arguments(TrainConfig, as_group=False)
    for target, source in _LINKED.items():
        parser.link_arguments(source, target)
    parser.add_argument("--resume", action="store_true", help=_OPTIONS["resume"])
    return parser


def _print_help(arguments: Sequence[str]) -> None:
    """Print the help that `--help [SECTION]` asks for, if it does, and exit."""
    position = next((n for n, each in enumerate(arguments) if each in ("-h", "--help")), None)
    if position is None:
        return
    sections = {k: t for k, t in get_type_hints(TrainConfig).items() if is_dataclass(t)}
    topic = "".join(arguments[position + 1 : position + 2])
    if topic == "all":
        print(_parser().format_help())
    elif topic in sections:
        set_parsing_settings(docstring_parse_attribute_docstrings=True)
        parser = ArgumentParser(usage=argparse.SUPPRESS, add_help=False)
        parser.add_class_arguments(sections[topic], topic)
        print(parser.format_help())
    elif not topic or topic.startswith("-"):
        print(_short_help(sections), end="")
    else:
        raise ConfigError(f"--help is {topic!r}; expected {', '.join(sections)} or all.")
    raise SystemExit(0)


def _short_help(sections: Mapping[str, Any]) -> str:
    documented = {action.dest: str(action.help) for action in _parser()._actions}
    common = _OPTIONS | {key: documented[key] for key in _COMMON}
    # One line each: the first clause.
    lines = (
        f"  --{key:<22} {re.split('[.;:] ', text)[0].rstrip('.')}" for key, text in common.items()
    )
    configs = textwrap.fill(", ".join(_shipped()), width=96, subsequent_indent="  ")
    return _HELP.format(common="\n".join(lines), configs=configs, sections="|".join(sections))


def _build(section: type[Section], values: Mapping[str, Any], prefix: str) -> Section:
    """Create the dataclass of a section, with full key names in its errors."""
    types = get_type_hints(section)
    # From the last section on: model.attention_threshold is checked as train.attention_threshold.
    arguments = {
        key: _build(types[key], value, f"{prefix}{key}.") if is_dataclass(types[key]) else value
        for key in reversed([each.name for each in fields(section)])  # type: ignore[arg-type]
        if (value := values.get(key, _UNSET)) is not _UNSET
    }
    try:
        return section(**arguments)
    except ConfigError as error:
        raise ConfigError(f"{prefix}{error}") from error


def _types(section: Any, prefix: str = "") -> dict[str, Any]:
    """Return the type of every dotted key."""
    types: dict[str, Any] = {}
    for name, kind in get_type_hints(section).items():
        if is_dataclass(kind):
            types |= _types(kind, f"{prefix}{name}.")
        else:
            types[prefix + name] = kind
    return types
