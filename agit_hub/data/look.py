"""Look at a domain before a training: all files of a folder, or a sample of shards or of the Hub."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TypeAlias

from agit_hub.data.domains.base import locations
from agit_hub.data.domains.files import FilesDomain
from agit_hub.data.domains.parquet import Footer, ParquetDomain, count_missing
from agit_hub.data.domains.webdataset import WebDataset
from agit_hub.data.images import DEEP_MODES, UNREADABLE, Range
from agit_hub.data.listing import DAMAGED, Skipped
from agit_hub.data.ordering import Order, ShuffledIndex
from agit_hub.data.ranges import describe_range, infer_range
from agit_hub.data.store import FileStore
from agit_hub.data.survey import Survey, deep_values, survey
from agit_hub.errors import DataError

# Images of shards, and of datasets on the Hub, whose headers are read.
_SAMPLE = 32
StoredDomain: TypeAlias = FilesDomain | ParquetDomain | WebDataset


def look_at_folder(
    store: FileStore, domain: StoredDomain, skipped: Skipped
) -> tuple[StoredDomain, Survey]:
    """Look at all files of a folder, or at some rows of its shards.

    Args:
        store: The folder.
        domain: Its images.
        skipped: Gets the damaged files.

    Returns:
        The domain, without damaged files, and what was seen.

    Raises:
        DataError: If no image can be read.
    """
    if isinstance(domain, FilesDomain):
        found = survey(domain)
        if found.unreadable:
            domain, found = _readable(domain, found, skipped)
    else:
        if isinstance(domain, WebDataset):
            domain.count()
        places = list(locations(domain))
        some = places[:: max(1, len(places) // _SAMPLE)]
        found = survey(domain, some, f"the {len(some)} images looked at")
    _check_readable(store, domain)
    return domain, found


def look_at_first(store: FileStore, domain: StoredDomain, order: Order, number: int) -> Survey:
    """Look at the first images that a training takes from a dataset on the Hub.

    Args:
        store: The dataset.
        domain: Its images.
        order: That of the training.
        number: 0 for the source domain, 1 for the target domain.

    Raises:
        DataError: If none of many can be read, as in a column of sounds.
        FetchError: If the network keeps failing.
    """
    # A copy: the training's own must not count shards that a resumed run has not counted.
    domain = replace(domain)
    places = ShuffledIndex(domain, (order.seed, number), order.shuffle).beginning(_SAMPLE)
    found = survey(domain, places, f"the first {len(places)} images taken")
    if len(found.unreadable) == len(places) and len(places) in (_SAMPLE, domain.length):
        column = "" if isinstance(domain, FilesDomain) else f" in column {domain.column}"
        raise DataError(
            f"None of the first {len(places)} images{column} of {store.name} can be read: are they "
            "images, and complete?"
        )
    return found


def choose_range(
    domain: StoredDomain,
    found: Survey | None,
    ranges: tuple[Range | None, Range | None] | None,
    number: int,
) -> tuple[Range | None, list[str]]:
    """Return the range of values that is given or else inferred, and what is said about it.

    Args:
        domain: The images.
        found: What was seen of them; None for nothing.
        ranges: Those given for both domains, as in `Loading`.
        number: 0 for the source domain, 1 for the target domain.
    """
    given = None if ranges is None else ranges[number]
    values = None if found is None else deep_values(domain, found)
    if found is None or values is None:
        return given, []
    default = 0.0, float(DEEP_MODES[values.mode])
    chosen = infer_range(values) if ranges is None else given or default
    notes = found.of_sample(describe_range(values, chosen, ranges is None))
    return (None if chosen == default else chosen), notes


def empty_rows(footers: Sequence[Footer], domain: ParquetDomain, found: Survey | None) -> list[str]:
    """Return what is said of rows without an image: of all if the footers count them, or of a sample."""
    known = sum(count_missing(footer, domain.column) for footer in footers)
    number = known or (len(found.missing) if found else 0)
    note = [f"{number} row{'s' * (number > 1)} without an image skipped"] if number else []
    return found.of_sample(note) if found and not known else note


def _readable(domain: FilesDomain, found: Survey, skipped: Skipped) -> tuple[FilesDomain, Survey]:
    """Return the images of a domain that can be opened, unless none can."""
    if not found.headers:
        return domain, found
    skipped.add(DAMAGED, *(domain.describe(*at) for at in found.unreadable))
    items = dict(zip(locations(domain), domain.images, strict=True))
    again = replace(domain, images=tuple(items[at] for at in found.headers))
    headers = zip(locations(again), found.headers.values(), strict=True)
    return again, Survey(dict(headers), [], [])


def _check_readable(store: FileStore, domain: StoredDomain) -> None:
    """Refuse a folder without a readable image before a training begins."""
    count = 0
    for location in locations(domain):
        with suppress(UNREADABLE):
            domain.image(*location)
            return
        count += 1
    raise DataError(
        f"None of the {count} image files in {store.name} can be read: are they complete?"
    )
