"""Configuration of one image domain, and of the data pipeline of a training run."""

from dataclasses import dataclass, field
from typing import Literal

from agit_hub.config import check_range, check_size, check_types, check_value_range
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
    label_value: str | int | float | bool | None = None
    """Select the images with this label, by name or number."""
    data_dir: str | None = None
    """A folder inside the path, such as `trainA`."""
    masks: str | None = None
    """Masks of some or all images, white on objects, towards which attention is trained: a folder with
    masks named like the images, or a column with them or their paths. null for none: the method needs
    none."""
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


@dataclass(frozen=True)
class DataConfig:
    """The two domains, and how images become training samples."""

    source: DomainConfig = field(default_factory=DomainConfig)
    """Images to translate from, such as horses."""
    target: DomainConfig = field(default_factory=DomainConfig)
    """Images to translate to, such as zebras."""
    pairing: Literal["random", "fixed"] = "random"
    """`random` shuffles each domain separately; `fixed` keeps the order of both, as the authors' CSV
    file does."""
    crop_size: int | None = None
    """Side in pixels of the training crops; null uses `model.image_size`, the size at which the networks
    translate. Smaller crops train faster (not in the paper)."""
    crop_margin: float = 286 / 256
    """The shorter side of an image is resized to `crop_size` times this before the random crop."""
    zoom: float = 1.0
    """Largest factor of a further random enlargement of each image before the crop, so that objects
    appear at many sizes (not in the paper)."""
    flip: bool = True
    """Mirror half of the samples horizontally."""
    value_range: list[float] | Literal["auto"] = "auto"
    """Pixel values of images with more than 8 bits (16-bit, 32-bit, float) that become black and white:
    [low, high], such as [0, 4095] for 12 bits or [-1024, 3071] for CT; `auto` infers them from the
    images of a folder. The model keeps them for translation. 8-bit images are not affected."""
    num_workers: int | None = None
    """Loader processes per training process; 0 decodes images in the training process. null is 0 on a
    CPU, and on a GPU one less than the CPU cores per training process, between 1 and 8."""
    in_memory: bool | None = None
    """Decode all images once and keep them in memory. null does so on a GPU for folders whose images
    take at most a quarter of the free memory."""
    hub_timeout: float = 300
    """Seconds for which failed requests to the Hub are retried before the run stops."""

    def __post_init__(self) -> None:
        check_types(self)
        if self.crop_size is not None:
            check_size("crop_size", self.crop_size)
        if self.value_range != "auto":
            check_value_range("value_range", self.value_range)
        check_range(self, "hub_timeout", "num_workers", low=0)
        check_range(self, "crop_margin", "zoom", low=1)
