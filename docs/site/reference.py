"""A hook of MkDocs: reference pages that are made from the code when the site is built."""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml
from docstring_parser import parse_from_object
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from typer.main import get_command

from agit_hub.cli import app
from agit_hub.config import describe_type
from agit_hub.data.config import DomainConfig
from agit_hub.inference.edits import AttentionEdits
from agit_hub.training.config import TrainConfig
from agit_hub.training.config_loader import _LINKED

CONFIGURATION = """\
# Configuration

Every setting of a training run, as `agit train --KEY VALUE` and YAML files for `--config` take it. A key
is the path through the sections of the file: `train.max_steps` is `max_steps` in the section `train`.
Type `null` as `null` or `none`. The guide is [Train](../guides/train.md).
"""
DOMAIN_NOTE = "The keys of `{0}` and `{1}` are those of [a domain](#a-domain).\n"
COMMAND_LINE = """\
# Command line

`agit COMMAND --help` shows the same. Errors are one sentence; the exit code is 0 for success, 2 for what
you can correct, 1 for other failures, and 130 after Ctrl-C.
"""
TRAIN_NOTE = """\
Its options are the keys of [the configuration](configuration.md), and `--config`, `--resume`, `--dry_run`
and `--num_processes`. `agit train --help` shows those used most.
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    for place, text in (
        ("reference/configuration.md", configuration()),
        ("reference/command-line.md", command_line()),
    ):
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Describe the attention edits, which have no docstrings of their own, where a page asks for them."""
    rows = (
        f"| `{name}` | {_cell(option.help)} | {f'`{option.flag}`' if option.flag else ''} |"
        for name, option in AttentionEdits.options().items()
    )
    table = "\n".join(["| field | meaning | option |", "|---|---|---|", *rows])
    return markdown.replace("<!-- fields of AttentionEdits -->", table)


def configuration() -> str:
    """Describe every key of `TrainConfig`: type, default, and its docstring."""
    sections = {
        name: kind for name, kind in get_type_hints(TrainConfig).items() if is_dataclass(kind)
    }
    parts = [CONFIGURATION, "## The run", *_table(TrainConfig, "")]
    for name, kind in sections.items():
        parts += ["", f"## {name}", "", _summary(kind), "", *_table(kind, f"{name}.")]
        domains = [key for key, each in get_type_hints(kind).items() if each is DomainConfig]
        if domains:
            parts += ["", DOMAIN_NOTE.format(*(f"{name}.{key}" for key in domains))]
        for key, each in get_type_hints(kind).items():
            if is_dataclass(each) and each is not DomainConfig:
                parts += ["", f"### {name}.{key}", "", _summary(each), ""]
                parts += _table(each, f"{name}.{key}.")
    parts += ["", "## A domain", "", _summary(DomainConfig), ""]
    parts += _table(DomainConfig, "data.source.")
    return "\n".join(parts) + "\n"


def command_line() -> str:
    """Describe the commands of `agit`: help, arguments and options."""
    group = get_command(app)
    context = group.make_context("agit", [], resilient_parsing=True)
    parts = [COMMAND_LINE]
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        parts += [f"## agit {name}", _help(command.help)]
        if name == "train":
            parts.append(TRAIN_NOTE)
            continue
        inner = command.make_context(name, [], parent=context, resilient_parsing=True)
        records = [each.get_help_record(inner) for each in command.get_params(inner)]
        rows = (f"| `{name}` | {_cell(text)} |" for name, text in filter(None, records))
        parts.append("\n".join(["| argument or option | meaning |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _help(text: str) -> str:
    """Show the example at the end of a command's help as code."""
    return re.sub(r"^Example: (.*)$", r"```\n\1\n```", text, flags=re.MULTILINE)


def _summary(section: Any) -> str:
    return str(parse_from_object(section).short_description)


def _table(section: Any, prefix: str) -> Iterator[str]:
    """Yield the rows of a section's keys, without its subsections."""
    documented = {each.arg_name: each.description for each in parse_from_object(section).params}
    yield "\n| key | type | default | meaning |\n|---|---|---|---|"
    types = get_type_hints(section)
    for field in fields(section):
        if is_dataclass(types[field.name]):
            continue
        key, text = prefix + field.name, " ".join(documented[field.name].split())
        if key in _LINKED:
            text += f" It follows `{_LINKED[key]}`: set that one."
        default = _default(field.default)
        yield f"| `{key}`{{ #{key} }} | {_kind(types[field.name])} | `{default}` | {_cell(text)} |"


def _kind(expected: Any) -> str:
    """Show a type, the values of a choice as they are written."""
    if get_origin(expected) is Literal:
        return " or ".join(f"`{option}`" for option in get_args(expected))
    options = get_args(expected) if get_origin(expected) is not list else ()
    return " or ".join(map(_kind, options)) or describe_type(expected)


def _default(value: Any) -> str:
    return "not set" if value == "" else yaml.safe_dump(value).splitlines()[0]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
