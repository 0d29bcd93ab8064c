"""Columns of tables: which hold images, also inside structs and lists, and how to reach them."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

# A step into the elements of a list.
LIST = None
Steps = list[str | None]
Rows = npt.NDArray[np.int32]


def image_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that hold images; `data.image` is a field of a struct."""
    return [name for field in schema for name in _image_fields(field.name, field.type)]


def text_columns(schema: pa.Schema) -> list[str]:
    """Return the columns of text, which may name image files."""
    is_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return [field.name for field in schema if any(test(field.type) for test in is_text)]


def label_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that can hold labels: numbers, truth values and text, also in structs."""
    return [name for field in schema for name in _label_fields(field.name, field.type)]


def class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Return the names of labels that the datasets library wrote into a schema."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    return dict(_named(features, "")) if isinstance(features, dict) else {}


def steps_to(schema: pa.Schema, column: str) -> Steps:
    """Return the way to a column: the top-level column, fields of structs, and `LIST`.

    Raises:
        KeyError: If there is no such column.
    """
    if column in schema.names:
        return [column, *_lists(schema.field(column).type)]
    top = max(
        (name for name in schema.names if column.startswith(f"{name}.")), key=len, default=None
    )
    if top is None:
        raise KeyError(column)
    steps: Steps = [top]
    kind, rest = schema.field(top).type, column[len(top) + 1 :]
    while rest:
        for _ in _lists(kind):
            steps.append(LIST)
            kind = kind.value_type
        if not pa.types.is_struct(kind):
            raise KeyError(column)
        names = [kind.field(number).name for number in range(kind.num_fields)]
        name = next((n for n in names if rest == n or rest.startswith(f"{n}.")), None)
        if name is None:
            raise KeyError(column)
        steps.append(name)
        kind, rest = kind.field(kind.get_field_index(name)).type, rest[len(name) + 1 :]
    return [*steps, *_lists(kind)]


def reach(table: pa.Table, steps: Steps) -> pa.ChunkedArray:
    """Return the values at the end of the way to a column, those of lists one after the other."""
    values = table.column(steps[0])
    for step in steps[1:]:
        values = pc.list_flatten(values) if step is LIST else pc.struct_field(values, step)
    return values


def parent_rows(table: pa.Table, steps: Steps) -> Rows:
    """Return the row of the table in which each value lies that `reach` returns, up to its last list."""
    values = table.column(steps[0]).combine_chunks()
    rows: Rows = np.arange(len(values), dtype=np.int32)
    last = len(steps) - steps[::-1].index(LIST)
    for step in steps[1:last]:
        if step is LIST:
            rows = rows[pc.list_parent_indices(values).to_numpy(zero_copy_only=False)]
            values = pc.list_flatten(values)
        else:
            values = pc.struct_field(values, step)
    return rows


def has_content(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return which images of a column have bytes, or a path."""
    if not pa.types.is_struct(values.type):
        return values.is_valid()
    fields = (n for n in ("bytes", "path") if values.type.get_field_index(n) >= 0)
    first, *others = (pc.struct_field(values, name).is_valid() for name in fields)
    return pc.or_(first, others[0]) if others else first


def same_value(value: Any, wanted: Any) -> bool:
    """Return whether a value in a table is the one that an option names.

    Truth values are also named by `true` and `false`, and numbers as they are written.
    """
    if value is None:
        return False
    if isinstance(value, bool) or isinstance(wanted, bool):
        return str(value).lower() == str(wanted).lower()
    if isinstance(value, float):
        try:  # a column of single precision has 0.1 as 0.10000000149
            return bool(np.isclose(value, float(wanted), rtol=1e-6, atol=0))
        except ValueError:
            return False
    return str(value) == str(wanted)


def _image_fields(name: str, kind: pa.DataType) -> Iterator[str]:
    if _is_list(kind):
        yield from _image_fields(name, kind.value_type)
    elif pa.types.is_struct(kind):
        if kind.get_field_index("bytes") >= 0:
            yield name
            return
        for number in range(kind.num_fields):
            yield from _image_fields(f"{name}.{kind.field(number).name}", kind.field(number).type)
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        yield name


def _label_fields(name: str, kind: pa.DataType) -> Iterator[str]:
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") < 0:
        for number in range(kind.num_fields):
            yield from _label_fields(f"{name}.{kind.field(number).name}", kind.field(number).type)
    elif pa.types.is_dictionary(kind):
        yield from _label_fields(name, kind.value_type)
    elif (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
    ):
        yield name


def _named(feature: Any, name: str) -> Iterator[tuple[str, list[str]]]:
    if not isinstance(feature, dict):
        return
    if feature.get("_type") == "ClassLabel":
        yield name, [str(each) for each in feature.get("names") or []]
        return
    for key, each in feature.items():
        yield from _named(each, f"{name}.{key}" if name else key)


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def _lists(kind: pa.DataType) -> Steps:
    return [LIST, *_lists(kind.value_type)] if _is_list(kind) else []
