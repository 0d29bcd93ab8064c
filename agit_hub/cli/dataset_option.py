"""Datasets on the command line: `PATH_OR_REPO,KEY=VALUE,...`."""

from dataclasses import fields
from typing import Any

from agit_hub.config import suggest
from agit_hub.data.config import DomainConfig
from agit_hub.environment import expand_home
from agit_hub.errors import ConfigError

DATASET = "PATH_OR_REPO[,KEY=VALUE...]"


def parse_dataset(text: str, name: str, *, masks: bool = False, **unset: Any) -> DomainConfig:
    """Parse `user/pair,split=test`; an existing path is taken whole, with its commas.

    Args:
        text: The argument.
        name: How error messages call it: `--source`.
        masks: Whether the key `masks` is known: only a training reads them.
        **unset: Values of keys that the text does not set.

    Raises:
        ConfigError: If a key is unknown, or has no value.
    """
    if expand_home(text).exists():
        return DomainConfig(path=text, **unset)
    path, *rest = text.split(",")
    unknown = {"path"} if masks else {"path", "masks"}
    known = [field.name for field in fields(DomainConfig) if field.name not in unknown]
    values: dict[str, Any] = {}
    for item in rest:
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals:
            raise ConfigError(f"{name} has {item!r}; settings are KEY=VALUE, such as split=test.")
        if key not in known:
            raise ConfigError(
                f"{name} has the unknown key {key!r}; known keys are {', '.join(known)}."
                f"{suggest(key, known)}"
            )
        values[key] = {"true": True, "false": False}.get(value, value)
    return DomainConfig(path=path, **{**unset, **values})
