"""What a person says about where one domain's pictures come from."""

from dataclasses import dataclass

from agit_hub.config import check_types
from agit_hub.errors import ConfigError


@dataclass(frozen=True)
class DomainConfig:
    """Where one domain's pictures come from. What is left out is read off the files."""

    path: str = ""
    """A folder (searched with its subfolders), a dataset on the Hub such as `user/horse2zebra`, or
    `shapes`, the built-in pictures. An existing folder wins."""
    name: str | None = None
    """Which of the dataset's configs; for `shapes`: `plain` or `striped`."""
    split: str | None = None
    """Which split; null takes `train`, or the only one."""
    column: str | None = None
    """The image column, such as `imageA`; in webdataset shards the picture's ending, such as `jpg`."""
    label_column: str | None = None
    """A column that tells the domains apart; in webdataset shards `cls`, or `json.KEY`."""
    label_value: str | int | bool | None = None
    """Pictures whose label is this one, by name or number, are taken."""
    data_dir: str | None = None
    """A folder inside the path, such as `trainA`."""
    revision: str | None = None
    """A branch, tag or commit of the dataset; null for its newest, which is then written down."""
    streaming: bool = True
    """Begin at once and fetch files when they are first needed; false fetches all of them first."""
    cache: bool = True
    """Keep fetched files in the Hub's cache; false reads them from the Hub each time, for small disks."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.label_value is not None and self.label_column is None:
            raise ConfigError("label_value is set and label_column is not: name the column too.")
        if not self.cache and not self.streaming:
            raise ConfigError("cache is false, and streaming false would keep everything: set one.")
