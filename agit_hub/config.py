"""Configuration of the architecture, saved with the weights as `config.json`, and its checks."""

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from reprlib import Repr
from types import UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from agit_hub.errors import ConfigError

FORMAT_VERSION = 1

AttentionDecoder = Literal["paper", "official"]
Upsampling = Literal["transposed", "nearest"]

# Keys that older files lack; they used the default.
_OPTIONAL_KEYS = (
    *("upsampling", "residual", "attention_smoothing", "attention_levels"),
    *("source_range", "target_range", "source_blur", "target_blur"),
)
# Left out of files where they are unset, as in most.
_UNSET_KEYS = ("source_range", "target_range", "source_blur", "target_blur")

# The generator downsamples an image twice by 2, and upsamples it again.
SIZE_MULTIPLE = 4
MIN_SIZE = 16
# Far beyond what trains on today's hardware, and small enough that a stranger's file, of which a few
# bytes could ask for any amount of memory, is refused when it is read.
MAX_SIZE = 4096
MAX_CHANNELS = 512
MAX_BLOCKS = 64
MAX_SMOOTHING = 255
# Its window still fits into the smallest image.
MAX_BLUR = 6.0
MAX_LABEL = 100
# Control characters, halves of surrogate pairs, and separators of lines and paragraphs.
_NOT_IN_LABELS = ("Cc", "Cs", "Zl", "Zp")
# Shortens values in messages, which may be a stranger's.
_shortener = Repr()
_shortener.maxstring = _shortener.maxother = 2 * MAX_LABEL
_shown = _shortener.repr


@dataclass(frozen=True)
class AGITConfig:
    """Architecture of the generators and attention networks. Defaults are the paper's.

    Raises:
        ConfigError: If a value is of the wrong type or out of range.
    """

    image_size: int = 256
    """Side in pixels at which the networks translate: a multiple of 4, from 16 to 4096."""
    channels: int = 32
    """Width of the generators' first layer, up to 512."""
    blocks: int = 9
    """Residual blocks in each generator, up to 64."""
    upsampling: Upsampling = "transposed"
    """Upsampling in generators: `transposed` convolutions (the paper), or `nearest` neighbour before a
    convolution, which avoids checkerboard artefacts."""
    residual: bool = False
    """Generators add their output to the image, and so start near identity (not in the paper)."""
    source_blur: float | None = None
    """With `residual`: add the output to a blurred source image instead, by a Gaussian of this standard
    deviation in pixels, up to 6. A texture that the target lacks, such as a zebra's stripes, need then
    not be cancelled stripe by stripe. Null does not blur."""
    target_blur: float | None = None
    """Likewise for target images, which the other generator translates."""
    attention: Literal["network", "features", "ones"] = "network"
    """`network` is trained from scratch (the paper); `features` is trained on the features of a frozen
    ImageNet classifier; `ones` is 1 everywhere, without weights (CycleGAN)."""
    attention_channels: int = 32
    """Width of the attention networks' first layer, or of the projected features, up to 512."""
    attention_decoder: AttentionDecoder = "paper"
    """Kernels of the attention decoder: `paper` 3x3, 3x3, 7x7; `official` 1x1, the authors' code."""
    attention_smoothing: int = 1
    """Side in pixels, odd, up to 255, of the window over which attention logits are averaged: if it is
    wider than the target's texture, attention cannot reproduce the texture. 1 disables it (the paper)."""
    attention_levels: int = 1
    """Number of scales of the image over which attention on features is averaged in translation: 2, 1 and
    3, in this order, for objects of different sizes."""
    attention_threshold: float = 0.1
    """tau: pixels with attention below it are background, after the switch and in translation."""
    source_label: str = "source"
    """Content of the source images, such as `horse`: a line of at most 100 characters."""
    target_label: str = "target"
    """Content of the target images, such as `zebra`: a line of at most 100 characters."""
    source_range: list[float] | None = None
    """Black and white of source images of more than 8 bits, [low, high]; null for those of their type.
    Training sets it from `data.value_range`, and translation applies it."""
    target_range: list[float] | None = None
    """Black and white of target images of more than 8 bits."""
    format_version: int = FORMAT_VERSION
    """Version of the format of `config.json`."""

    def __post_init__(self) -> None:
        _check_version(self.format_version)
        check_types(self)
        check_size("image_size", self.image_size)
        check_range(self, "image_size", low=MIN_SIZE, high=MAX_SIZE)
        check_range(self, "format_version", low=1)
        check_range(self, "channels", "attention_channels", low=1, high=MAX_CHANNELS)
        check_range(self, "attention_smoothing", low=1, high=MAX_SMOOTHING)
        check_range(self, "blocks", low=0, high=MAX_BLOCKS)
        check_range(self, "source_blur", "target_blur", low=0, high=MAX_BLUR, open_low=True)
        if not self.residual and (self.source_blur, self.target_blur) != (None, None):
            raise ConfigError(
                "source_blur and target_blur require residual generators: set residual."
            )
        for name in ("source_range", "target_range"):
            check_value_range(name, getattr(self, name))
        if self.attention_smoothing % 2 == 0:
            raise ConfigError(f"attention_smoothing is {self.attention_smoothing}; it must be odd.")
        check_range(self, "attention_threshold", low=0, high=1)
        check_range(self, "attention_levels", low=1, high=3)
        if self.attention_levels > 1 and self.attention != "features":
            raise ConfigError(
                f"attention_levels is {self.attention_levels}: other values than 1 require attention "
                "features."
            )
        for name in ("source_label", "target_label"):
            check_label(name, getattr(self, name))
        if self.source_label == self.target_label:
            raise ConfigError(
                f"source_label and target_label are both {self.source_label!r}: "
                "they name the two domains and must differ."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Create from the content of `config.json`.

        Raises:
            ConfigError: If a key is unknown or `format_version` is missing, or a value is bad.
        """
        known = [field.name for field in fields(cls)]
        # First, because a newer file may have unknown keys and values.
        _check_version(values.get("format_version", FORMAT_VERSION))
        for key in values:
            if key not in known:
                hint = suggest(key, known) if len(key) <= MAX_LABEL else ""
                raise ConfigError(f"Unknown key {_shown(key)} in config.json.{hint}")
        if "format_version" not in values:
            raise ConfigError("config.json has no format_version: it was not written by agit-hub.")
        missing = [key for key in known if key not in values and key not in _OPTIONAL_KEYS]
        if missing:
            raise ConfigError(f"config.json lacks {', '.join(missing)}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of `config.json`; without ranges and blurs that are unset, as most are."""
        return {k: v for k, v in asdict(self).items() if k not in _UNSET_KEYS or v is not None}

    def value_range(self, to: str | None) -> tuple[float, float] | None:
        """Return black and white of the images of more than 8 bits that are translated to a label."""
        found = self.source_range if to in (None, self.target_label) else self.target_range
        return None if found is None else (found[0], found[1])

    @property
    def labels(self) -> tuple[str, str]:
        """(source_label, target_label)."""
        return self.source_label, self.target_label

    def goal(self, to: str | None) -> str:
        """Return the label of the domain to translate to: `to`, or `target_label` if it is None.

        Raises:
            ValueError: If it is neither of the two labels.
        """
        if to is None or to in self.labels:
            return to or self.target_label
        raise ValueError(
            f"This model translates to {self.target_label!r} or to {self.source_label!r}, not to "
            f"{_shown(to)}."
        )


def check_types(config: Any) -> None:
    """Check that the fields of a dataclass have their annotated types, see `has_type`.

    Raises:
        ConfigError: If one does not.
    """
    for name, expected in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not has_type(value, expected):
            raise ConfigError(f"{name} is {_shown(value)}; expected {describe_type(expected)}.")


def check_label(name: str, label: str) -> None:
    """Check a domain's label, which appears in messages, file names, pages and cards.

    Raises:
        ConfigError: If it is empty, longer than `MAX_LABEL`, or not one line of text.
    """
    if not label.strip():
        raise ConfigError(f"{name} is empty: describe the images in a word.")
    if len(label) > MAX_LABEL:
        raise ConfigError(
            f"{name} has {len(label)} characters; at most {MAX_LABEL} are possible: describe the images "
            "in a word."
        )
    if any(unicodedata.category(character) in _NOT_IN_LABELS for character in label):
        raise ConfigError(f"{name} is {label!a}: it must be one line, without control characters.")


def check_value_range(name: str, value: list[float] | None) -> None:
    """Check a range of pixel values.

    Raises:
        ConfigError: Unless it is None, or two finite numbers of which the second is greater.
    """
    if value is None:
        return
    if len(value) != 2 or not all(map(math.isfinite, value)) or value[0] >= value[1]:
        raise ConfigError(
            f"{name} is {value!r}; expected [low, high], the values of black and white."
        )


def check_size(name: str, size: int) -> None:
    """Check an image size of the networks.

    Raises:
        ConfigError: Unless it is a multiple of 4 and at least 16.
    """
    if size < MIN_SIZE or size % SIZE_MULTIPLE:
        below = max(MIN_SIZE, size // SIZE_MULTIPLE * SIZE_MULTIPLE)
        nearest = f"{below}" if size < MIN_SIZE else f"{below} or {below + SIZE_MULTIPLE}"
        raise ConfigError(
            f"{name} is {_shown(size)}; it must be a multiple of {SIZE_MULTIPLE} and at least {MIN_SIZE} "
            f"(try {nearest})."
        )


def check_range(
    config: Any,
    *names: str,
    low: float,
    high: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Check that fields are None or finite and in [low, high], without an end that is open.

    Raises:
        ConfigError: If one is not.
    """
    lower = f"{'greater than' if open_low else 'at least'} {low:g}"
    open_high = open_high or high == math.inf
    upper = f"{'less than' if open_high else 'at most'} {high:.10g}"
    for name in names:
        value = getattr(config, name)
        if value is None:
            continue
        above = low < value if open_low else low <= value
        below = value < high if open_high else value <= high
        if not (above and below):
            end = f" and {upper}" if high < math.inf or value == high else ""
            raise ConfigError(f"{name} is {_shown(value)}; it must be {lower}{end}.")


def suggest(key: str, known: list[str]) -> str:
    """Return ' Did you mean ...?' with the most similar known key, or an empty string."""
    close = get_close_matches(key, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def describe_type(expected: Any) -> str:
    """Return a type annotation as error messages show it, such as `int or null`."""
    if get_origin(expected) is Literal:
        return "one of " + ", ".join(repr(option) for option in get_args(expected))
    if get_origin(expected) in (Union, UnionType):
        return " or ".join(describe_type(option) for option in get_args(expected))
    return "null" if expected is type(None) else getattr(expected, "__name__", str(expected))


def has_type(value: Any, expected: Any) -> bool:
    """Return whether a value has an annotated type; an int is also a float, a bool is neither."""
    origin = get_origin(expected)
    if origin in (Union, UnionType):
        return any(has_type(value, option) for option in get_args(expected))
    if origin is Literal:
        return value in get_args(expected)
    if origin is list:
        items = get_args(expected)
        return isinstance(value, list) and all(has_type(item, items[0]) for item in value)
    if expected is float:
        expected = int | float
    return isinstance(value, expected) and (expected is bool or not isinstance(value, bool))


def _check_version(version: Any) -> None:
    if has_type(version, int) and version > FORMAT_VERSION:
        raise ConfigError(
            f"format_version is {_shown(version)}; this version of agit-hub reads up to "
            f"{FORMAT_VERSION}: pip install --upgrade agit-hub."
        )
