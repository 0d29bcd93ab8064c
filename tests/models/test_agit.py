"""Saving, strict loading and forward passes of AGITModel."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from agit_hub.errors import AgitError, ModelLoadError
from agit_hub.models.agit import AGITModel
from tests.conftest import MakeModel

PRESETS = {
    "paper": {"attention_decoder": "paper"},
    "official": {"attention_decoder": "official"},
    "cyclegan": {"attention": "ones"},
}
Weights = dict[str, Tensor]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory, make_model: MakeModel) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    make_model().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """Copy a saved model, for a test to damage."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def _images(count: int = 2, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize("preset", PRESETS)
def test_save_pretrained_round_trip_is_bit_identical(
    preset: str, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(**PRESETS[preset], attention_threshold=0.25).train()
    model.save_pretrained(tmp_path)
    assert {"config.json", "model.safetensors", "README.md"} <= {
        path.name for path in tmp_path.iterdir()
    }
    loaded = AGITModel.from_pretrained(tmp_path)

    assert loaded.config == model.config
    before, after = model.state_dict(), loaded.state_dict()
    assert list(before) == list(after)
    for name, tensor in before.items():
        assert after[name].dtype == tensor.dtype and torch.equal(after[name], tensor)
    assert not loaded.training
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    for to in ("horse", "zebra"):
        for ours, theirs in zip(model(_images(), to), loaded(_images(), to), strict=True):
            assert torch.equal(ours, theirs)
    loaded.save_pretrained(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("preset", PRESETS)
def test_save_pretrained_weights_hold_published_networks_only(
    preset: str, make_model: MakeModel, tmp_path: Path
) -> None:
    make_model(**PRESETS[preset]).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        prefixes = {key.split(".")[0] for key in file.keys()}  # noqa: SIM118  # no mapping
        assert file.metadata() == {"format": "pt"}
    attention = set() if preset == "cyclegan" else {"attention_s", "attention_t"}
    assert prefixes == {"generator_st", "generator_ts"} | attention
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["format_version"] == 1
    assert (config["source_label"], config["target_label"]) == ("horse", "zebra")
    assert config["attention"] == ("ones" if preset == "cyclegan" else "network")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_save_pretrained_dtype_halves_file_and_loads_as_float32(
    dtype: torch.dtype, make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(channels=8, blocks=2)
    model.save_pretrained(tmp_path / "full")
    model.save_pretrained(tmp_path / "low", dtype=dtype)
    full, low = (
        sum(w.nbytes for w in load_file(tmp_path / name / "model.safetensors").values())
        for name in ("full", "low")
    )
    assert low * 2 == full
    assert all(w.dtype == torch.float32 for w in model.state_dict().values())
    for wanted in (torch.float32, torch.float16):
        loaded = AGITModel.from_pretrained(tmp_path / "low", dtype=wanted).state_dict()
        for name, weight in model.state_dict().items():
            assert loaded[name].dtype == wanted
            assert torch.equal(loaded[name], weight.to(dtype).to(wanted))


def test_save_pretrained_existing_folder_replaces_model(
    make_model: MakeModel, folder: Path
) -> None:
    make_model(channels=8, target_label="cow").save_pretrained(folder)
    loaded = AGITModel.from_pretrained(folder)
    assert loaded.config.channels == 8 and loaded.config.target_label == "cow"


def test_forward_label_selects_direction(make_model: MakeModel) -> None:
    model = make_model(maps=(0.25, 0.75), shades=(204, 51))  # greys of 0.6 and -0.6
    images = _images()
    for to, share, grey in ((None, 0.25, 0.6), ("zebra", 0.25, 0.6), ("horse", 0.75, -0.6)):
        result = model(images, to)
        torch.testing.assert_close(result.attention, torch.full((2, 1, 16, 16), share))
        torch.testing.assert_close(result.generated, torch.full((2, 3, 16, 16), grey))
        torch.testing.assert_close(result.image, share * grey + (1 - share) * images)
    for name in ("cow", "", "Zebra"):
        with pytest.raises(ValueError, match=f"'zebra'.*'horse'.*{name!r}"):
            model(images, name)


def test_forward_full_attention_returns_generated(make_model: MakeModel) -> None:
    result = make_model(attention="ones")(_images())
    assert result.attention.eq(1).all() and torch.equal(result.image, result.generated)


def _delete_one(weights: Weights) -> None:
    del weights["generator_ts.layers.0.bias"]


def _add_one(weights: Weights) -> None:
    weights["discriminator_s.head.bias"] = torch.zeros(1)


def _rename_one(weights: Weights) -> None:
    weights["attention_s.tail.bias"] = weights.pop("attention_s.head.bias")


def _reshape_one(weights: Weights) -> None:
    weights["attention_t.head.bias"] = torch.zeros(2)


def _widen_one(weights: Weights) -> None:
    weights["generator_st.layers.0.bias"] = weights["generator_st.layers.0.bias"].double()


def test_generators_upsampling_follows_config(make_model: MakeModel) -> None:
    for upsampling, count in (("transposed", 2), ("nearest", 0)):
        model = make_model(upsampling=upsampling)
        for generator in (model.generator_st, model.generator_ts):
            found = [m for m in generator.modules() if isinstance(m, torch.nn.ConvTranspose2d)]
            assert len(found) == count


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (_delete_one, ["lacks generator_ts.layers.0.bias"]),
        (_add_one, ["has discriminator_s.head.bias"]),
        (_rename_one, ["lacks attention_s.head.bias", "has attention_s.tail.bias"]),
        (_reshape_one, ["attention_t.head.bias", "(2,)", "(1,)"]),
        (_widen_one, ["generator_st.layers.0.bias", "float64", "float32"]),
    ],
)
def test_from_pretrained_mismatched_weights_are_refused_by_name(
    damage: Callable[[Weights], None], expected: list[str], folder: Path
) -> None:
    weights = load_file(folder / "model.safetensors")
    damage(weights)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(ModelLoadError) as raised:
        AGITModel.from_pretrained(folder)
    for words in (str(folder), *expected):
        assert words in str(raised.value)


def _edit_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"blockz": 1}, ["'blockz'", "'blocks'"]),
        ({"blocks": "1"}, ["blocks", "'1'", "int"]),
        ({"attention_threshold": float("nan")}, ["attention_threshold", "nan"]),
        ({"format_version": 7}, ["format_version", "7", "upgrade"]),
        ({"blocks": 2}, ["lacks", "generator_st."]),
        ({"channels": 8}, ["(4,)", "(8,)"]),
        ({"attention": "ones"}, ["has", "attention_s."]),
        ({"attention_decoder": "official"}, ["attention_s.decoder", "(8, 8, 3, 3)"]),
    ],
)
def test_from_pretrained_mismatched_config_is_refused_by_key(
    changes: dict[str, Any], expected: list[str], folder: Path
) -> None:
    _edit_config(folder, **changes)
    with pytest.raises(ModelLoadError) as raised:
        AGITModel.from_pretrained(folder)
    for words in (str(folder), *expected):
        assert words in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", None),
        ("config.json", b""),
        ("config.json", b"{image_size: 16}"),
        ("config.json", b"\xff\xfe\x00"),
        ("config.json", b"[1, 2]"),
        ("config.json", b"{}"),
        ("model.safetensors", None),
        ("model.safetensors", b""),
        ("model.safetensors", b"PK\x03\x04 not a tensor in sight"),
        ("model.safetensors", 0.5),
    ],
)
def test_from_pretrained_missing_or_broken_file_is_refused_by_name(
    name: str, content: bytes | float | None, folder: Path
) -> None:
    path = folder / name
    if content is None:
        path.unlink()
    elif isinstance(content, float):
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * content)])
    else:
        path.write_bytes(content)
    with pytest.raises(ModelLoadError, match=name) as raised:
        AGITModel.from_pretrained(folder)
    assert str(folder) in str(raised.value)


def test_from_pretrained_existing_folder_precedes_repo(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.parent / "someone").mkdir()
    folder.rename(folder.parent / "someone" / "agit-horse2zebra")
    monkeypatch.chdir(folder.parent)
    assert AGITModel.from_pretrained("someone/agit-horse2zebra").config.labels == ("horse", "zebra")


@pytest.mark.parametrize("place", ["/no/such/model", "./model", "runs/shapes/model", "~/model"])
def test_from_pretrained_missing_folder_is_refused(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelLoadError, match="model"):
        AGITModel.from_pretrained(place)


def test_from_pretrained_unreachable_repo_is_not_called_invalid(tmp_path: Path) -> None:
    """The Hub is offline in tests, which does not mean that the repo is invalid."""
    with pytest.raises((ModelLoadError, LocalEntryNotFoundError)) as raised:
        AGITModel.from_pretrained("someone/agit-horse2zebra", cache_dir=tmp_path)
    assert "not an AGIT model" not in str(raised.value)


def _response_error(kind: type[HfHubHTTPError]) -> HfHubHTTPError:
    request = httpx2.Request("GET", "http://hub/someone/agit")
    return kind("refused", response=httpx2.Response(404, request=request))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (LocalEntryNotFoundError("no"), "cache Hub unreachable"),
        (EntryNotFoundError("no"), "config.json not an AGIT model"),
        (_response_error(RemoteEntryNotFoundError), "config.json not an AGIT model"),
        (_response_error(GatedRepoError), "gated terms hf auth login"),
        (_response_error(RepositoryNotFoundError), "does not exist hf auth login"),
        (_response_error(RevisionNotFoundError), "revision 'v2'"),
        (HFValidationError("no"), "folder user/model"),
    ],
)
def test_from_pretrained_refused_download_raises_with_remedy(
    error: Exception, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("agit_hub.models.remote.hf_hub_download", fail)
    with pytest.raises(ModelLoadError, match=r"^someone/agit ") as raised:
        AGITModel.from_pretrained("someone/agit", revision="v2")
    assert all(part in str(raised.value) for part in expected.split())


def test_from_pretrained_failed_download_raises_agit_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr("agit_hub.models.remote.hf_hub_download", fail)
    with pytest.raises(AgitError, match=r"someone/agit.*reset by peer") as failure:
        AGITModel.from_pretrained("someone/agit")
    assert not isinstance(failure.value, ModelLoadError)


@pytest.mark.parametrize("typo", ["revison", "threshold"])
def test_from_pretrained_mistyped_argument_is_refused(typo: str, folder: Path) -> None:
    with pytest.raises(TypeError, match=typo):
        AGITModel.from_pretrained(folder, **{typo: 1})  # type: ignore[arg-type]
