"""The header of a weights file: names, shapes and dtypes, checked before any weight is read or fetched.

A safetensors file is eight bytes with the length of its header, the header in JSON, and the weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from agit_hub.errors import ModelLoadError

# A header has about 100 bytes for each weight, of which the largest configuration has two thousand.
MAX_HEADER_BYTES = 2**20
LENGTH_BYTES = 8

# Dtypes as headers name them.
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


class Weight(NamedTuple):
    """What a header states of a weight."""

    shape: tuple[int, ...]
    dtype: str


Header = Mapping[str, Weight]


def read_header(path: Path) -> Header:
    """Read the header of a file.

    Raises:
        ModelLoadError: If it is not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no dict
            return {
                name: Weight(tuple(each.get_shape()), each.get_dtype())
                for name, each in slices.items()
            }
    except SafetensorError as error:
        raise ModelLoadError(f"{path} cannot be read as safetensors: {error}") from error


def header_length(name: str, start: bytes) -> int:
    """Return the length of a header from a file's first eight bytes.

    Raises:
        ModelLoadError: If it is not a safetensors file, or the header longer than any model's.
    """
    length = int.from_bytes(start[:LENGTH_BYTES], "little")
    if len(start) < LENGTH_BYTES or not 2 <= length <= MAX_HEADER_BYTES:
        raise ModelLoadError(
            f"{name} cannot be read as safetensors: its header is damaged, or longer than that of any "
            "AGIT model."
        )
    return length


def parse_header(name: str, data: bytes) -> Header:
    """Parse a header's JSON.

    Args:
        name: The file's, for messages.
        data: The header without its length, at most `MAX_HEADER_BYTES`.

    Raises:
        ModelLoadError: If it is damaged.
    """
    try:
        entries = json.loads(data)
        entries.pop("__metadata__", None)
        return {str(key): _weight(entry) for key, entry in entries.items()}
    # Nested too deeply is a RecursionError.
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ModelLoadError(
            f"{name} cannot be read as safetensors: its header is damaged."
        ) from error


def check_header(source: str, header: Header, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Check that a file holds exactly the weights that a configuration asks for.

    Args:
        source: How messages name the model.
        header: The file's.
        expected: Shapes by name.

    Raises:
        ModelLoadError: Naming what is missing, unknown, or of another shape or dtype.
    """
    missing = sorted(expected.keys() - header.keys())
    unexpected = sorted(header.keys() - expected.keys())
    if missing or unexpected:
        parts = [f"lacks {_few(missing)}"] * bool(missing)
        parts += [f"has {_few(unexpected)}, which no network uses"] * bool(unexpected)
        raise ModelLoadError(
            f"The weights of {source} do not match its config: the file {' and '.join(parts)}."
        )
    for name, (shape, dtype) in header.items():
        wanted = expected[name]
        if shape != wanted or dtype not in _ITEM_BYTES:
            raise ModelLoadError(
                f"The weight {name} of {source} is {str(shape)[:100]} "
                f"{_DTYPES.get(dtype, dtype)[:20]}; its config requires {wanted} float32, float16 or "
                "bfloat16."
            )


def num_bytes(header: Header) -> int:
    """Return the bytes of all weights of a checked header."""
    total = 0
    for shape, dtype in header.values():
        count = 1
        for side in shape:
            count *= side
        total += count * _ITEM_BYTES[dtype]
    return total


def _weight(entry: Any) -> Weight:
    shape, dtype = entry["shape"], entry["dtype"]
    sizes = isinstance(shape, list) and all(type(side) is int and side >= 0 for side in shape)
    if not sizes or not isinstance(dtype, str):
        raise TypeError("a weight's shape is a list of sizes, and its dtype a name")
    return Weight(tuple(shape), dtype)


def _few(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(name[:100] for name in names[:limit]) + more
