"""Give a domain the masks that its configuration names: of a folder, or of a column."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from agit_hub.data.domains.base import EncodedDomain, locations
from agit_hub.data.domains.columns import LIST, steps_to
from agit_hub.data.domains.files import FilesDomain, Item
from agit_hub.data.domains.parquet import ParquetDomain
from agit_hub.data.domains.webdataset import WebDataset
from agit_hub.data.images import UNREADABLE, open_encoded
from agit_hub.data.inventory import Inventory
from agit_hub.data.listing import Reason, Skipped
from agit_hub.data.masks import fits, match_masks
from agit_hub.data.survey import Survey
from agit_hub.errors import DataError, DatasetError, MaskError

_THREADS = 8
_DAMAGED = Reason("damaged mask{s}", "their images count as images without a mask")
_MISFIT = Reason(
    "mask{s} of another aspect ratio than their image's", "these images count as images without a mask"
)  # fmt: skip


class MaskCount(NamedTuple):
    """How many images of a domain have a mask."""

    found: int | None
    """None if masks are counted as they arrive."""
    images: int | None
    place: str
    """The folder or the column."""

    def __str__(self) -> str:
        found = "an uncounted number" if self.found is None else self.found
        return f"{found} of {'uncounted' if self.images is None else self.images}"


def attach_masks(
    domain: FilesDomain | ParquetDomain | WebDataset,
    inventory: Inventory,
    masks: str,
    key: str,
    survey: Survey | None,
    skipped: Skipped,
) -> MaskCount:
    """Give a domain masks, and count them.

    Args:
        domain: The images.
        inventory: What their store holds.
        masks: A folder, or the name of a column.
        key: Of the configuration, for messages.
        survey: The headers of the images, if they are known.
        skipped: Gets the masks that cannot be used.

    Raises:
        DataError: If there is no such folder or column, or none of the images has a mask.
    """
    folder = Path(masks).expanduser()
    if isinstance(domain, FilesDomain):
        found = _in_folder(domain, folder) if folder.is_dir() else _in_table(inventory, masks, key)
        sizes = _sizes(domain, survey)
        domain.masks = _usable(domain, found, sizes, skipped)
        count: int | None = len(domain.masks)
    else:
        if folder.is_dir():
            raise DataError(
                f"{key} is the folder {masks}, whose files are found by the names of image files, and "
                f"{inventory.store.name} holds its images in tables or shards: name a column of masks."
            )
        _check_column(domain, inventory, masks, key)
        domain.mask_column = masks
        count = _count(domain, inventory)
    if count == 0:
        reasons = "".join(f" {sentence}." for sentence in skipped.sentences())
        raise DataError(
            f"{key} is {masks}, and none of the {domain.length} images of {inventory.store.name} has a "
            f"mask there: name masks like their images, or unset it.{reasons}"
        )
    domain.has_masks = True
    return MaskCount(count, domain.length, masks)


def _in_folder(domain: FilesDomain, folder: Path) -> dict[Item, Path | Item]:
    items = {Path(domain.store.describe(item.path)): item for item in domain.images}
    try:
        found = match_masks(folder, list(items)).found
    except MaskError as error:
        raise DataError(str(error)) from error
    return {items[image]: mask for image, mask in found.items()}


def _in_table(inventory: Inventory, column: str, key: str) -> dict[Item, Path | Item]:
    columns = inventory.metadata.path_columns
    if column not in columns:
        raise _no_masks(inventory, column, key, columns)
    return dict(inventory.metadata.beside(column))


def _sizes(domain: FilesDomain, survey: Survey | None) -> dict[Item, tuple[int, int]]:
    if survey is None:
        return {}
    items = zip(locations(domain), domain.images, strict=True)
    return {item: survey.headers[at].size for at, item in items if at in survey.headers}


def _usable(
    domain: FilesDomain,
    masks: Mapping[Item, Path | Item],
    sizes: Mapping[Item, tuple[int, int]],
    skipped: Skipped,
) -> dict[Item, Path | Item]:
    """Return the masks that can be opened and have their image's shape; those of a Hub come later."""
    images = set(domain.images)
    masks = {image: mask for image, mask in masks.items() if image in images}
    if domain.store.fetches and any(isinstance(mask, Item) for mask in masks.values()):
        return masks

    def reason(image: Item) -> Reason | None:
        mask = masks[image]
        try:
            with open_encoded(domain.read(mask) if isinstance(mask, Item) else mask) as file:
                size = file.size
                file.verify()
        except DatasetError:
            raise
        except UNREADABLE:
            return _DAMAGED
        # The header does not say whether the image is on its side.
        other = sizes.get(image, size)
        return None if fits(size, other) or fits(size, other[::-1]) else _MISFIT

    with ThreadPoolExecutor(_THREADS) as threads:
        reasons = dict(zip(masks, threads.map(reason, masks), strict=True))
    for image, why in reasons.items():
        if why is not None:
            mask = masks[image]
            skipped.add(why, mask.path if isinstance(mask, Item) else str(mask))
    return {image: mask for image, mask in masks.items() if reasons[image] is None}


def _check_column(domain: EncodedDomain, inventory: Inventory, column: str, key: str) -> None:
    if isinstance(domain, WebDataset):
        columns = inventory.columns(domain.files[0])
        if column not in columns:
            raise _no_masks(inventory, column, key, columns)
        return
    assert isinstance(domain, ParquetDomain)
    for file in dict.fromkeys(group.file for group in domain.groups):
        columns = inventory.all_image_columns(file)
        if column not in columns or column == domain.column:
            raise _no_masks(
                inventory, column, key, [each for each in columns if each != domain.column]
            )
        schema = inventory.footer(file).schema
        if any(LIST in steps_to(schema, name) for name in (column, domain.column)):
            raise DataError(
                f"{key} is the column {column}, and {inventory.store.name} holds images in lists, whose "
                "masks cannot be told apart: unset it."
            )


def _count(domain: ParquetDomain | WebDataset, inventory: Inventory) -> int | None:
    """Count the masks of a column; on the Hub only if the footers of its shards say so."""
    if not inventory.store.fetches:
        return domain.count_masks()
    if isinstance(domain, WebDataset):
        return None
    count = 0
    for group in domain.groups:
        nulls = inventory.footer(group.file).nulls[group.group]
        missing = nulls.get(f"{domain.mask_column}.bytes", nulls.get(str(domain.mask_column)))
        if missing is None or (missing and group.rows is not None):
            return None
        count += group.length - missing
    return count


def _no_masks(inventory: Inventory, masks: str, key: str, columns: list[str]) -> DataError:
    known = ", ".join(columns) or "none"
    return DataError(
        f"{key} is {masks!r}: there is no such folder, and {inventory.store.name} has no such column of "
        f"images; columns of images are: {known}."
    )
