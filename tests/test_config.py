"""The architecture's configuration, `config.json`."""

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from agit_hub.config import AGITConfig
from agit_hub.errors import ConfigError

NAN = float("nan")


def _values(**changes: Any) -> dict[str, Any]:
    """Return the content of a complete `config.json`."""
    values = {
        "image_size": 64,
        "channels": 16,
        "blocks": 3,
        "upsampling": "nearest",
        "residual": False,
        "attention": "network",
        "attention_channels": 8,
        "attention_decoder": "official",
        "attention_smoothing": 5,
        "attention_levels": 1,
        "attention_threshold": 0.25,
        "source_label": "horse",
        "target_label": "zebra",
        "format_version": 1,
    }
    return values | changes


def test_config_defaults_are_those_of_paper() -> None:
    config = AGITConfig()
    assert (config.image_size, config.channels, config.blocks) == (256, 32, 9)
    assert (config.attention_channels, config.attention_threshold) == (32, 0.1)
    assert (config.attention, config.attention_decoder) == ("network", "paper")
    assert (config.upsampling, config.attention_smoothing) == ("transposed", 1)
    assert config.attention_levels == 1
    assert config.labels == ("source", "target")


def test_config_blur_is_kept_and_requires_residual_generators() -> None:
    config = AGITConfig.from_dict(_values(residual=True, target_blur=6.0))
    assert (config.source_blur, config.target_blur) == (None, 6.0)
    assert config.to_dict() == _values(residual=True, target_blur=6.0)
    with pytest.raises(ConfigError, match="require residual generators"):
        AGITConfig(source_blur=2.0)
    for bad in (0.0, 6.5, NAN):
        with pytest.raises(ConfigError, match=r"target_blur is .*"):
            AGITConfig(residual=True, target_blur=bad)


def test_from_dict_of_to_dict_is_identity() -> None:
    config = AGITConfig.from_dict(_values())
    assert config.to_dict() == _values()
    assert config == AGITConfig(**_values())
    assert all(getattr(config, key) == value for key, value in _values().items())
    assert config.labels == ("horse", "zebra")
    with pytest.raises(FrozenInstanceError):
        config.blocks = 4  # type: ignore[misc]


@pytest.mark.parametrize(
    "changes",
    [
        {"image_size": 16},
        {"image_size": 20, "channels": 1, "blocks": 0, "attention_channels": 1},
        {"attention_threshold": 0},  # an int passes for a float
        {"attention_threshold": 1},
        {"attention_threshold": 1.0, "attention": "ones"},
        {"source_label": "Zebra", "target_label": "zebra"},
    ],
)
def test_config_limits_of_ranges_are_allowed(changes: dict[str, Any]) -> None:
    config = AGITConfig(**changes)
    assert all(getattr(config, key) == value for key, value in changes.items())


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        # An invalid size, and the nearest valid ones.
        ("image_size", 30, "30 multiple of 4 28 or 32"),
        ("image_size", 12, "12 at least 16 try 16"),
        ("image_size", 0, "0 at least 16"),
        ("image_size", -64, "-64 at least 16"),
        # Out of range.
        ("channels", 0, "0 at least 1"),
        ("attention_channels", -1, "-1 at least 1"),
        ("blocks", -1, "-1 at least 0"),
        ("attention_threshold", -0.1, "-0.1 at least 0 at most 1"),
        ("attention_threshold", 1.5, "1.5 at least 0 at most 1"),
        ("attention_threshold", NAN, "nan at least 0 at most 1"),
        ("attention_threshold", float("inf"), "inf at most 1"),
        # Of the wrong type: a bool is never a number, a whole float never an int.
        ("image_size", "256", "'256' int"),
        ("image_size", 256.0, "256.0 int"),
        ("channels", True, "True int"),
        ("blocks", None, "None int"),
        ("format_version", True, "True int"),
        ("attention_threshold", True, "True float"),
        ("attention_threshold", "0.1", "'0.1' float"),
        ("source_label", 3, "3 str"),
        ("target_label", None, "None str"),
        # One of several options.
        ("attention", "none", "'none' 'network' 'features' 'ones'"),
        ("attention", 1, "1 'network' 'features' 'ones'"),
        ("attention_decoder", "Paper", "'Paper' 'paper' 'official'"),
        ("upsampling", "bilinear", "'bilinear' 'transposed' 'nearest'"),
        ("attention_smoothing", 0, "0 at least 1"),
        ("attention_smoothing", 4, "4 odd"),
        ("attention_levels", 0, "0 at least 1"),
        ("attention_levels", 4, "4 at most 3"),
        ("attention_levels", 2, "2 features"),
        # Labels.
        ("source_label", "", "empty"),
        ("target_label", " \t", "empty"),
        # Another version.
        ("format_version", 2, "2 pip install --upgrade agit-hub"),
    ],
)
def test_config_invalid_value_raises_with_key_value_and_remedy(
    key: str, value: Any, words: str
) -> None:
    for make in (
        lambda: AGITConfig(**{key: value}),
        lambda: AGITConfig.from_dict(_values(**{key: value})),
    ):
        with pytest.raises(ConfigError) as error:
            make()
        message = str(error.value)
        assert message.startswith(key)
        for word in words.split():
            assert word in message


@pytest.mark.parametrize("version", [0, -1])
def test_config_invalid_format_version_raises(version: int) -> None:
    with pytest.raises(ConfigError, match=f"format_version.*{version}"):
        AGITConfig(format_version=version)


def test_config_equal_labels_raises() -> None:
    with pytest.raises(ConfigError) as error:
        AGITConfig(source_label="horse", target_label="horse")
    for word in ("source_label", "target_label", "'horse'", "differ"):
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("image_sise", "image_size"), ("source_labl", "source_label"), ("zzz", None)],
)
def test_from_dict_unknown_key_suggests_nearest(key: str, nearest: str | None) -> None:
    with pytest.raises(ConfigError) as error:
        AGITConfig.from_dict(_values(**{key: 1}))
    message = str(error.value)
    assert repr(key) in message
    assert (f"Did you mean {nearest!r}?" in message) if nearest else "Did you mean" not in message


OPTIONAL_KEYS = {
    "attention_smoothing": 1,
    "attention_levels": 1,
    "upsampling": "transposed",
    "residual": False,
}


@pytest.mark.parametrize("key", OPTIONAL_KEYS)
def test_from_dict_missing_newer_key_uses_default(key: str) -> None:
    values = _values()
    del values[key]
    assert getattr(AGITConfig.from_dict(values), key) == OPTIONAL_KEYS[key]


@pytest.mark.parametrize("key", sorted(_values().keys() - OPTIONAL_KEYS.keys()))
def test_from_dict_missing_key_raises(key: str) -> None:
    values = _values()
    del values[key]
    with pytest.raises(ConfigError, match=rf"\b{key}\b"):
        AGITConfig.from_dict(values)


@pytest.mark.parametrize("change", [{"attention_heads": 4}, {"attention_decoder": "wide"}])
def test_from_dict_newer_version_asks_for_upgrade(change: dict[str, Any]) -> None:
    """A newer version may have unknown keys and values."""
    with pytest.raises(ConfigError, match="pip install --upgrade agit-hub"):
        AGITConfig.from_dict(_values(format_version=2, **change))
