"""Images of more than 8 bits: the range of values, inferred or given, in training and translation."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from agit_hub.config import AGITConfig
from agit_hub.data.config import DataConfig, DomainConfig
from agit_hub.data.images import Range, set_value_range, to_rgb
from agit_hub.data.load import LoadedDomain, Loading, load_domain
from agit_hub.errors import ConfigError


def _write(folder: Path, low: float, high: float, kind: type) -> Path:
    """Write images that run from low on the left to high on the right."""
    folder.mkdir()
    ramp = np.tile(np.linspace(low, high, 32), (16, 1)).astype(kind)
    for number in range(3):
        Image.fromarray(ramp).save(folder / f"{number}.tiff")
    return folder


def _load(folder: Path, ranges: tuple[Range | None, Range | None] | None = None) -> LoadedDomain:
    return load_domain(DomainConfig(str(folder)), Loading(16, 0, ranges=ranges))


@pytest.mark.parametrize(
    ("low", "high", "kind", "chosen"),
    [
        (0, 4095, np.uint16, (0, 4095)),
        (0, 1000, np.uint16, (0, 1023)),
        (0, 16000, np.uint16, (0, 16383)),
        (0, 60000, np.uint16, None),  # all 16 bits, as their type says
        (-1024, 3071, np.int32, (-1024, 3071)),
        (0, 255, np.float32, (0, 255)),
        (0, 1, np.float32, None),
        (-1, 1, np.float32, (-1, 1)),
        (-3.5, 7.25, np.float32, (-3.5, 7.25)),
        (0, 10**6, np.int32, (0, 10**6)),
    ],
)
def test_load_domain_infers_the_range_and_says_it(
    low: float, high: float, kind: type, chosen: Range | None, tmp_path: Path
) -> None:
    loaded = _load(_write(tmp_path / "a", low, high, kind))
    assert loaded.value_range == chosen
    grey = np.asarray(loaded.domain.image(0, 0))[0, :, 0]
    assert grey[0] <= 1 and grey[-1] > 225
    assert any("more than 8 bits run from" in note and "inferred" in note for note in loaded.notes)


def test_load_domain_given_range_is_used_and_clipping_is_warned_of(tmp_path: Path) -> None:
    folder = _write(tmp_path / "a", 0, 4095, np.uint16)
    loaded = _load(folder, ((0, 1000), None))
    assert loaded.value_range == (0, 1000)
    assert any("warning" in note and "clipped" in note for note in loaded.notes)
    assert np.asarray(loaded.domain.image(0, 0))[0, 16, 0] == 255


def test_load_domain_nearly_black_images_are_warned_of(tmp_path: Path) -> None:
    folder = _write(tmp_path / "a", 0, 4095, np.uint16)
    loaded = _load(folder, (None, None))
    assert loaded.value_range is None
    assert any("warning" in note and "nearly black" in note for note in loaded.notes)


def test_load_domain_of_8_bits_has_no_range(tmp_path: Path) -> None:
    loaded = _load(_write(tmp_path / "a", 0, 255, np.uint8))
    assert loaded.value_range is None and loaded.notes == ()


def test_to_rgb_marked_image_is_scaled_from_its_range() -> None:
    deep = Image.fromarray(np.full((16, 16), 2047, np.uint16))
    assert to_rgb(deep).getpixel((0, 0)) == (8, 8, 8)
    assert to_rgb(set_value_range(deep, (0, 4095))).getpixel((0, 0)) == (127, 127, 127)
    bytes_ = Image.new("L", (16, 16), 9)
    assert set_value_range(bytes_, (0, 4095)) is bytes_


def test_model_config_stores_a_range_only_if_it_has_one() -> None:
    plain = AGITConfig(source_label="a", target_label="b")
    assert "source_range" not in plain.to_dict()
    deep = AGITConfig(source_label="a", target_label="b", source_range=[0, 4095])
    assert AGITConfig.from_dict(deep.to_dict()) == deep
    assert deep.value_range(None) == deep.value_range("b") == (0, 4095)
    assert deep.value_range("a") is None


@pytest.mark.parametrize("value", [[1, 0], [0], [0, float("inf")], "bytes"])
def test_data_config_unusable_range_raises(value: object) -> None:
    with pytest.raises(ConfigError, match="value_range is"):
        DataConfig(value_range=value)  # type: ignore[arg-type]
