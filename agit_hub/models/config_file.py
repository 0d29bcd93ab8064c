"""Reading of a model's `config.json`."""

import json
from pathlib import Path
from typing import Any

from agit_hub.config import AGITConfig
from agit_hub.errors import ConfigError, ModelLoadError

MAX_CONFIG_BYTES = 2**16


def read_config(source: str, path: Path, name: str) -> AGITConfig:
    """Read a config.

    Args:
        source: How messages name the model.
        path: The file.
        name: How messages name the file.

    Raises:
        ModelLoadError: If it is too large, no JSON, or not a config.
    """
    size = path.stat().st_size
    if size > MAX_CONFIG_BYTES:
        raise ModelLoadError(f"{name} has {size} bytes; at most {MAX_CONFIG_BYTES} are possible.")
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ModelLoadError(f"{name} is nested too deeply to be a config.") from error
    except ValueError as error:
        raise ModelLoadError(f"{name} is not valid JSON: {error}") from error
    if not isinstance(values, dict):
        raise ModelLoadError(f"{name} holds a {type(values).__name__}, not an object.")
    try:
        return AGITConfig.from_dict(values)
    except ConfigError as error:
        raise ModelLoadError(f"{source}: {error}") from error
