"""Values of options as people type them: `1e3` for an integer, `yes`, `none`, `a,b` for a list."""

from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from agit_hub.config import has_type

_BOOLEANS = {
    **dict.fromkeys(("true", "yes", "on", "y", "1"), True),
    **dict.fromkeys(("false", "no", "off", "n", "0"), False),
}
_NULLS = ("null", "none", "~", "")


def from_text(text: str, expected: Any) -> Any:
    """Convert the text of an option to its type.

    Returns:
        A value of the type; if there is none, what YAML reads, for a message that shows it.
    """
    kinds = _alternatives(expected)
    word = text.strip().lower()
    if type(None) in kinds and word in _NULLS:
        return None
    if (converted := _to_list(text, kinds)) is not None:
        return converted
    if str in kinds or any(text in get_args(kind) for kind in kinds if get_origin(kind) is Literal):
        return text
    if bool in kinds and word in _BOOLEANS:
        return _BOOLEANS[word]
    if int in kinds and (whole := _to_whole(text)) is not None:
        return whole
    if float in kinds and (number := _to_float(text)) is not None:
        return number
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def from_yaml(value: Any, expected: Any) -> Any:
    """Convert a value that YAML reads in another type than people mean, such as `1e-4` or `no`."""
    if has_type(value, expected):
        return value
    if isinstance(value, str | float):
        return from_text(str(value), expected)
    if value is False and has_type("no", expected):  # YAML's `no`
        return "no"
    return value


def to_bool(text: str) -> bool | None:
    """Return what a word for yes or no means, or None if it is none."""
    return _BOOLEANS.get(text.strip().lower())


def _alternatives(expected: Any) -> tuple[Any, ...]:
    return get_args(expected) if get_origin(expected) in (Union, UnionType) else (expected,)


def _to_list(text: str, kinds: tuple[Any, ...]) -> list[Any] | None:
    items = next((get_args(kind)[0] for kind in kinds if get_origin(kind) is list), None)
    is_one = "," not in text and not text.startswith("[") and str in kinds
    if items is None or is_one:
        return None
    parts = text.strip().removeprefix("[").removesuffix("]").split(",")
    return [from_text(part.strip().strip("'\""), items) for part in parts if part.strip()]


def _to_whole(text: str) -> int | None:
    number = _to_float(text)
    try:
        return int(text)
    except ValueError:
        return int(number) if number is not None and number.is_integer() else None


def _to_float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
