"""Tables of image files: `metadata.csv`, `metadata.jsonl`, and shards with a column of paths."""

import csv
import io
import json
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from agit_hub.data.domains.columns import label_columns
from agit_hub.data.domains.files import Item, read_item
from agit_hub.data.domains.parquet import read_footer, read_values
from agit_hub.data.listing import is_table
from agit_hub.data.splits import shard_split
from agit_hub.data.store import FileStore
from agit_hub.errors import DataError

Row = dict[str, Any]


@dataclass
class Table:
    """One table: its rows by the image that a column of it names."""

    name: str
    columns: list[str]
    """All columns but those of paths."""
    named: dict[str, dict[Item, Row]]
    """For each column of paths, the rows of the images that it names, in order."""
    missing: int
    """Rows that name files which are not there."""


class Metadata:
    """The tables of a dataset."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = [table for table in tables if table.named]
        self._rows = {
            item: (table, row)
            for table in self.tables
            for rows in table.named.values()
            for item, row in rows.items()
        }

    @property
    def path_columns(self) -> list[str]:
        """The columns that name images."""
        return list(dict.fromkeys(c for table in self.tables for c in table.named))

    @property
    def columns(self) -> list[str]:
        """The other columns."""
        return list(dict.fromkeys(c for table in self.tables for c in table.columns))

    def items(self, column: str) -> set[Item]:
        """Return the images that a column names."""
        return {item for table in self.tables for item in table.named.get(column, {})}

    def beside(self, column: str) -> dict[Item, Item]:
        """Return the file that a column names for each image that another one names."""
        found: dict[Item, Item] = {}
        for table in self.tables:
            files = {id(row): item for item, row in table.named.get(column, {}).items()}
            for other, rows in table.named.items():
                if other != column:
                    found |= {i: files[id(row)] for i, row in rows.items() if id(row) in files}
        return found

    def split(self, item: Item) -> str | None:
        """Return the split that the name of the table is which names an image."""
        if item not in self._rows:
            return None
        table, _ = self._rows[item]
        return shard_split(PurePosixPath(table.name).name)

    def value(self, item: Item, column: str) -> Any:
        """Return the value of a column for an image; None if it has none."""
        return self._rows[item][1].get(column) if item in self._rows else None

    def values(self, items: Sequence[Item], column: str) -> list[Any]:
        """Return the values of a column that occur among images, in order."""
        found = {self.value(item, column) for item in items} - {None, ""}
        return sorted(found, key=str)


def read_metadata(store: FileStore, files: Sequence[Item], images: Sequence[Item]) -> Metadata:
    """Read the tables that describe images.

    Raises:
        DataError: If a table is damaged.
    """
    by_path = {posixpath.normpath(image.path): image for image in images}
    return Metadata([_read_table(store, file, by_path) for file in files])


def _read_table(store: FileStore, file: Item, images: dict[str, Item]) -> Table:
    rows = list(_rows(store, file))
    columns = list(dict.fromkeys(column for row in rows for column in row))
    folder = posixpath.dirname(file.path)
    named: dict[str, dict[Item, Row]] = {}
    missing = 0
    for column in columns:
        found: dict[Item, Row] = {}
        # An image without a mask has no path in that column.
        paths = [
            (row[column], row) for row in rows if isinstance(row.get(column), str) and row[column]
        ]
        for path, row in paths:
            if (item := _find(path, folder, store, images)) is not None:
                found[item] = row
        # Text that happens to be the name of one file does not make a column of paths.
        if 2 * len(found) > len(paths):
            named[column] = found
            missing += len(paths) - len(found)
    return Table(file.path, [c for c in columns if c not in named], named, missing)


def _find(path: str, folder: str, store: FileStore, images: dict[str, Item]) -> Item | None:
    path = path.replace("\\", "/")
    near = posixpath.normpath(posixpath.join(folder, path))
    found = images.get(near) or images.get(posixpath.normpath(path))
    if found is None and path.startswith("/"):
        root = store.describe("")
        found = images.get(posixpath.normpath(path.removeprefix(root)))
    return found


def _rows(store: FileStore, file: Item) -> Iterator[Row]:
    try:
        if is_table(file.path):
            yield from _shard_rows(store, file.path)
            return
        text = read_item(store, file).decode("utf-8-sig")
        if file.path.endswith(".csv"):
            yield from csv.DictReader(io.StringIO(text, newline=""))
            return
        for line in text.splitlines():
            if line.strip():
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError("a line is not a JSON object")
                yield row
    except (csv.Error, ValueError) as error:
        raise DataError(f"{store.describe(file.path)} is damaged: {error}.") from error


def _shard_rows(store: FileStore, file: str) -> Iterator[Row]:
    footer = read_footer(store, file)
    columns = label_columns(footer.schema)
    values = [
        [value for group in read_values(store, file, footer, column) for value in group]
        for column in columns
    ]
    for row in zip(*values, strict=True):
        yield dict(zip(columns, row, strict=True))
