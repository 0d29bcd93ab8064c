"""Configuration of one image domain."""

from dataclasses import dataclass
from typing import Literal

from agit_hub.config import check_types
from agit_hub.errors import ConfigError


@dataclass(frozen=True)
class DomainConfig:
    """Where the images of one domain are. Unset options are inferred from the dataset."""

    path: str = ""
    """A folder (searched with its subfolders), a dataset on the Hub such as `user/horse2zebra`, or
    `shapes`, the built-in images. An existing folder takes precedence."""
    name: str | None = None
    """Config of the dataset; for `shapes`: `plain` or `striped`."""
    split: str | None = None
    """Split; null selects `train`, or the only one."""
    column: str | None = None
    """Image column, such as `imageA`; in webdataset shards the file extension, such as `jpg`."""
    label_column: str | None = None
    """Column that separates the domains; in webdataset shards `cls`, or `json.KEY`."""
    label_value: str | int | bool | None = None
    """Select the images with this label, by name or number."""
    data_dir: str | None = None
    """A folder inside the path, such as `trainA`."""
    revision: str | None = None
    """A branch, tag or commit of the dataset; null for the newest commit, which is then recorded."""
    storage: Literal["stream", "download", "remote"] = "stream"
    """`stream` fetches each file into the Hub's cache when it is first needed, `download` fetches all
    files first, `remote` reads ranges of files from the Hub each time and stores nothing on disk."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.label_value is not None and self.label_column is None:
            raise ConfigError(
                f"label_value is {self.label_value!r} and label_column is unset: set label_column too."
            )
