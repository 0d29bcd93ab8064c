"""People's text (labels, paths, names) as it must be written in Markdown, in Python and in a shell."""

import json
import re
import shlex

# Markdown's punctuation, and that of the Hub's mathematics. HTML's is escaped as entities.
_ACTIVE = re.compile(r"([\\`*_\[\]|~$#])")
_ENTITIES = {"&": "&amp;", "<": "&lt;"}
_AT_START = re.compile(r"^(\s*)([-+=>]|\d+[.)])")
_BACKTICKS = re.compile("`+")


def markdown(text: str) -> str:
    """Return text that Markdown shows as it is, in a line or in a table's cell."""
    escaped = _ACTIVE.sub(r"\\\1", _one_line(text))
    for character, entity in _ENTITIES.items():
        escaped = escaped.replace(character, entity)
    # A list, a quotation or a rule, at the beginning of a line.
    return _AT_START.sub(lambda found: found[1] + found[2][:-1] + "\\" + found[2][-1:], escaped)


def code(text: str) -> str:
    """Return text as Markdown's code in a line or in a table's cell."""
    line = _one_line(text).replace("|", "\\|")
    fence = "`" * (_longest(line) + 1)
    # A space beside a backtick, which Markdown removes again.
    pad = " " if line.startswith(("`", " ")) or line.endswith(("`", " ")) else ""
    return f"{fence}{pad}{line}{pad}{fence}" if line else ""


def fence(text: str) -> str:
    """Return a fence for a block of code, longer than any in it."""
    return "`" * max(3, _longest(text) + 1)


def python(text: str) -> str:
    """Return a string of Python's, in double quotes."""
    # JSON's escapes are Python's.
    return json.dumps(text, ensure_ascii=False)


def shell(text: str) -> str:
    """Return an argument for a POSIX shell."""
    return shlex.quote(text)


def _one_line(text: str) -> str:
    return " ".join(str(text).splitlines())


def _longest(text: str) -> int:
    return max(map(len, _BACKTICKS.findall(text)), default=0)
