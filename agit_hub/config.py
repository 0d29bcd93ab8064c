"""The architecture's configuration: what travels with the weights as `config.json`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from types import UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin, get_type_hints

from agit_hub.errors import ConfigError

FORMAT_VERSION = 1

AttentionDecoder = Literal["paper", "official"]
Upsampling = Literal["transposed", "nearest"]

# Keys that the first files do not hold; what they had was the default.
_YOUNGER = ("upsampling", "residual", "attention_smoothing", "attention_levels")

# The generator halves a picture twice, and its transposed convolutions double it twice.
SIZE_MULTIPLE = 4
MIN_SIZE = 16


@dataclass(frozen=True)
class AGITConfig:
    """Architecture of a pair of translators. Defaults are the paper's.

    Raises:
        ConfigError: If a value is of the wrong type or out of range.
    """

    image_size: int = 256
    """Side in pixels at which the networks translate: a multiple of 4, 16 or more."""
    channels: int = 32
    """Width of the generators' first layer."""
    blocks: int = 9
    """Residual blocks in each generator."""
    upsampling: Upsampling = "transposed"
    """How generators double: by `transposed` convolutions (the paper), or by `nearest` neighbours before
    a convolution, which leave no pattern of their own in a coat."""
    residual: bool = False
    """Generators add to the picture what they find, and so begin near identity (not in the paper)."""
    attention: Literal["network", "features", "ones"] = "network"
    """`network` learns where to look, from nothing (the paper); `features` learns it on those of a frozen
    classifier of photographs, which was trained with labels (ImageNet); `ones` attends to everything and
    holds no weights (CycleGAN)."""
    attention_channels: int = 32
    """Width of the attention networks' first layer, or of what they make of features."""
    attention_decoder: AttentionDecoder = "paper"
    """Kernels of the attention decoder: `paper` 3x3, 3x3, 7x7; `official` 1x1, the code as run."""
    attention_smoothing: int = 1
    """Side in pixels of the window, odd, over which attention is averaged before its sigmoid: wider than
    the target's texture, it keeps attention from drawing the texture itself. 1 is none (the paper)."""
    attention_levels: int = 1
    """Over how many sizes of the picture attention on features is averaged in translation: enlarged
    twice; as it is; enlarged three times. Near and far animals each show best at one of them."""
    attention_threshold: float = 0.1
    """tau: below it a pixel counts as background, in training after the switch and in translation."""
    source_label: str = "source"
    """What the source pictures show, such as `horse`."""
    target_label: str = "target"
    """What the target pictures show, such as `zebra`."""
    format_version: int = FORMAT_VERSION
    """Version of this file's meaning."""

    def __post_init__(self) -> None:
        _check_version(self.format_version)
        check_types(self)
        check_range(self, "format_version", 1)
        check_size("image_size", self.image_size)
        for name in ("channels", "attention_channels"):
            check_range(self, name, 1)
        check_range(self, "blocks", 0)
        check_range(self, "attention_smoothing", 1)
        if self.attention_smoothing % 2 == 0:
            raise ConfigError(f"attention_smoothing is {self.attention_smoothing}; it must be odd.")
        check_range(self, "attention_threshold", 0, 1)
        check_range(self, "attention_levels", 1, 3)
        if self.attention_levels > 1 and self.attention != "features":
            raise ConfigError(
                f"attention_levels is {self.attention_levels}: only with attention features can it be "
                "other than 1."
            )
        for name in ("source_label", "target_label"):
            if not getattr(self, name).strip():
                raise ConfigError(f"{name} is empty: say what those pictures show, in a word.")
        if self.source_label == self.target_label:
            raise ConfigError(
                f"source_label and target_label are both {self.source_label!r}: "
                "they name the two directions and must differ."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build from the content of `config.json`, refusing unknown keys by name.

        Raises:
            ConfigError: If a key is unknown or `format_version` is missing, or a value is bad.
        """
        known = [field.name for field in fields(cls)]
        # First, for a newer file may well have keys and words that are not known here.
        _check_version(values.get("format_version", FORMAT_VERSION))
        for key in values:
            if key not in known:
                raise ConfigError(f"Unknown key {key!r} in config.json.{suggest(key, known)}")
        if "format_version" not in values:
            raise ConfigError("config.json has no format_version: it was not written by agit-hub.")
        missing = [key for key in known if key not in values and key not in _YOUNGER]
        if missing:
            raise ConfigError(f"config.json lacks {', '.join(missing)}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """The content of `config.json`."""
        return asdict(self)

    @property
    def labels(self) -> tuple[str, str]:
        """(source_label, target_label)."""
        return self.source_label, self.target_label

    def goal(self, to: str | None) -> str:
        """The label that a translation leads to; `target_label` when none is named.

        Raises:
            ValueError: If the label is neither, naming the two there are.
        """
        if to is None or to in self.labels:
            return to or self.target_label
        raise ValueError(
            f"This model translates to {self.target_label!r} or to {self.source_label!r}, not to {to!r}."
        )


def check_types(config: Any) -> None:
    """Refuse a dataclass instance one of whose fields does not have its annotated type.

    An int passes for a float; a bool never passes for a number.

    Raises:
        ConfigError: Naming the field, the value and what was expected.
    """
    for name, expected in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if not has_type(value, expected):
            raise ConfigError(f"{name} is {value!r}; expected {describe_type(expected)}.")


def check_size(name: str, size: int) -> None:
    """Refuse a picture size that the networks cannot take.

    Raises:
        ConfigError: Unless it is a multiple of 4 and at least 16.
    """
    if size < MIN_SIZE or size % SIZE_MULTIPLE:
        below = max(MIN_SIZE, size // SIZE_MULTIPLE * SIZE_MULTIPLE)
        nearest = f"{below}" if size < MIN_SIZE else f"{below} or {below + SIZE_MULTIPLE}"
        raise ConfigError(
            f"{name} is {size}, which the networks cannot take: it must be a multiple of "
            f"{SIZE_MULTIPLE} and at least {MIN_SIZE} (try {nearest})."
        )


def check_range(
    config: Any,
    name: str,
    low: float,
    high: float = float("inf"),
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> None:
    """Refuse a number outside [low, high], either end left out where it is open; None passes.

    Raises:
        ConfigError: Naming the field, the value and the range. NaN is never in range.
    """
    value = getattr(config, name)
    if value is None:
        return
    above = low < value if open_low else low <= value
    below = value < high if open_high or high == float("inf") else value <= high
    if not (above and below):
        lower = f"{'greater than' if open_low else 'at least'} {low:g}"
        upper = f"{'less than' if open_high else 'at most'} {high:.10g}"
        end = "" if high == float("inf") and value != high else f" and {upper}"
        raise ConfigError(f"{name} is {value!r}; it must be {lower}{end}.")


def suggest(key: str, known: list[str]) -> str:
    """' Did you mean ...?' with the nearest of the known keys, or an empty string."""
    close = get_close_matches(key, known, n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def describe_type(expected: Any) -> str:
    """An annotation in words a person can act on."""
    if get_origin(expected) is Literal:
        return "one of " + ", ".join(repr(option) for option in get_args(expected))
    if get_origin(expected) in (Union, UnionType):
        return " or ".join(describe_type(option) for option in get_args(expected))
    return "null" if expected is type(None) else getattr(expected, "__name__", str(expected))


def has_type(value: Any, expected: Any) -> bool:
    """Whether a value is what an annotation says; an int passes for a float, a bool for no number."""
    origin = get_origin(expected)
    if origin in (Union, UnionType):
        return any(has_type(value, option) for option in get_args(expected))
    if origin is Literal:
        return any(value is option or value == option for option in get_args(expected))
    if origin is list:
        items = get_args(expected)
        return isinstance(value, list) and all(has_type(item, items[0]) for item in value)
    if expected is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if expected is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, expected)


def _check_version(version: Any) -> None:
    if has_type(version, int) and version > FORMAT_VERSION:
        raise ConfigError(
            f"format_version is {version}, and this version of agit-hub reads up to "
            f"{FORMAT_VERSION}: pip install --upgrade agit-hub."
        )
