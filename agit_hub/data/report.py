"""Describe what would be read from datasets, without training: for `agit inspect`."""

from collections.abc import Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from agit_hub.data.domains.base import EncodedDomain, Location, locations
from agit_hub.data.images import UNREADABLE
from agit_hub.data.inventory import Inventory
from agit_hub.data.load import LoadedDomain
from agit_hub.data.survey import survey
from agit_hub.fonts import lettering
from agit_hub.visualization import side_by_side, stacked

_SHOWN = 12
_COLUMNS = 6
_TILE = 128
_TITLE = 24
_GAP = 4
# Values of a label column that are listed.
_VALUES = 20


def describe_domain(loaded: LoadedDomain) -> dict[str, Any]:
    """Return what is known of a domain, as JSON has it.

    Raises:
        DatasetError: If images are unavailable.
    """
    domain, inventory = loaded.domain, loaded.inventory
    facts: dict[str, Any] = {"sizes": {}, "modes": {}, "formats": {}}
    sampled = 0
    if isinstance(domain, EncodedDomain):
        found = loaded.survey or survey(domain, shown_locations(loaded))
        facts, sampled = found.facts(), len(found.headers)
    skipped = loaded.skipped
    return {
        "path": loaded.config.path,
        "from": loaded.summary,
        "images": domain.length,
        "settings": {
            key: value
            for key in ("name", "split", "column", "label_column", "label_value", "data_dir")
            if (value := getattr(loaded.config, key)) is not None
        },
        **facts,
        "headers_read": sampled,
        "value_range": loaded.value_range,
        "masks": None if loaded.masks is None else loaded.masks._asdict(),
        "skipped": skipped.to_list(),
        "skipped_total": len(skipped),
        "notes": list(loaded.notes),
        **({} if inventory is None else describe_contents(inventory)),
    }


def describe_contents(inventory: Inventory) -> dict[str, Any]:
    """Return all that a store holds: its kind, configs, splits, columns and labels."""
    groups = inventory.groups(inventory.items)
    splits: dict[str, int] = {}
    for group in groups:
        splits[group.split] = splits.get(group.split, 0) + len(group.items)
    if inventory.kind == "files":
        metadata = inventory.metadata
        columns, names = inventory.path_columns, metadata.columns
        labels = {name: metadata.values(inventory.items, name) for name in names}
    else:
        first = inventory.items[0].file
        columns = inventory.image_columns(first)
        names = [name for name in inventory.label_columns(first) if name not in columns]
        files = [item.file for item in inventory.items]
        labels = {name: inventory.labels(files, name) or [] for name in names}
    return {
        "kind": {"files": "image files", "parquet": "tables"}.get(inventory.kind, inventory.kind),
        "configs": [name for name in dict.fromkeys(group.name for group in groups) if name],
        "splits": splits,
        "image_columns": columns,
        "labels": {
            name: [str(value) for value in values] if len(values) <= _VALUES else len(values)
            for name, values in labels.items()
        },
        "tables": [item.path for item in inventory.tables],
    }


def shown_locations(loaded: LoadedDomain) -> list[Location]:
    """Return some images of a domain: evenly spaced, or of a dataset on the Hub those looked at."""
    inventory = loaded.inventory
    if inventory is not None and inventory.store.fetches and loaded.survey is not None:
        return list(islice(loaded.survey.headers, _SHOWN))
    if inventory is not None and inventory.store.fetches:
        return list(islice(locations(loaded.domain), _SHOWN))
    places = list(locations(loaded.domain))
    count = min(_SHOWN, len(places))
    return [places[number * len(places) // count] for number in range(count)]


def contact_sheet(titled: Sequence[tuple[str, LoadedDomain]]) -> Image.Image:
    """Draw some images of each domain below its title.

    Raises:
        DatasetError: If images are unavailable.
    """
    bands = []
    for title, loaded in titled:
        tiles = [ImageOps.pad(image, (_TILE, _TILE), color="white") for image in _images(loaded)]
        rows = [tiles[n : n + _COLUMNS] for n in range(0, len(tiles), _COLUMNS)]
        bands += [_title(title), *map(side_by_side, rows)]
    return stacked(bands, _GAP)


def _title(text: str) -> Image.Image:
    width = _COLUMNS * (_TILE + _GAP) - _GAP
    band = Image.new("RGB", (width, _TITLE), "white")
    font, shown = lettering(text, _TITLE // 2)
    ImageDraw.Draw(band).text((_GAP, _TITLE // 2), shown, "black", font, anchor="lm")
    return band


def _images(loaded: LoadedDomain) -> list[Image.Image]:
    images = []
    for at in shown_locations(loaded):
        with suppress(UNREADABLE):
            images.append(loaded.domain.image(*at))
    return images
