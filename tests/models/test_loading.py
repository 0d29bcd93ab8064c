"""Where a model is found, and the options of `from_pretrained` in diffusers' spelling."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from agit_hub.errors import ModelLoadError, UserError
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from agit_hub.models.loading_options import resolve_device, resolve_dtype
from agit_hub.models.location import find_model
from testing.hub_server import Hub
from tests.conftest import MakeModel
from tests.online import connect


@pytest.fixture
def run(tmp_path: Path, make_model: MakeModel) -> Path:
    """A run folder as far as its model is concerned."""
    folder = tmp_path / "runs" / "h2z"
    make_model(maps=(0.25, 0.25), shades=(9, 9)).save_pretrained(folder / "model")
    make_model(maps=(0.75, 0.75), shades=(9, 9)).save_pretrained(folder / "best")
    (folder / "config.yaml").touch()
    return folder


@pytest.mark.parametrize(
    "name", ["", "model", "model/model.safetensors", "model/config.json", "best"]
)
def test_from_pretrained_takes_run_folder_and_file(run: Path, name: str) -> None:
    model = AGITModel.from_pretrained(run / name)
    attention = model.source_to_target(torch.zeros(1, 3, 16, 16)).attention.mean().item()
    assert attention == pytest.approx(0.75 if name == "best" else 0.25, abs=1e-5)


def test_from_pretrained_weights_file_of_another_name(run: Path) -> None:
    shutil.move(run / "model" / "model.safetensors", run / "model" / "zebra.safetensors")
    assert (
        AGITModel.from_pretrained(run / "model" / "zebra.safetensors").config.labels[0] == "horse"
    )


def test_from_pretrained_home_is_expanded(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(run.parent))
    assert AGITPipeline.from_pretrained("~/h2z").model.config.labels == ("horse", "zebra")


def test_from_pretrained_path_without_model_is_refused(run: Path, tmp_path: Path) -> None:
    shutil.rmtree(run / "model")
    (tmp_path / "a.png").touch()
    for path, message in (
        (run, "holds no model yet"),
        (tmp_path / "a.png", "is not a model's file"),
        (tmp_path, "has no config.json"),
    ):
        with pytest.raises(ModelLoadError, match=message):
            AGITModel.from_pretrained(path)


def test_find_model_of_run_is_named_by_the_run(run: Path, tmp_path: Path) -> None:
    names = []
    for path in (run, run / "model", run / "best", run.parent / "h2z" / "model" / "config.json"):
        found = find_model(path)
        assert found is not None
        names.append(found.name)
    assert names == ["h2z", "h2z", "h2z (best)", "h2z"]
    assert find_model("user/nothing") is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_save_pretrained_of_converted_model_loads_again(
    make_model: MakeModel, tmp_path: Path, dtype: torch.dtype
) -> None:
    make_model().to(dtype).save_pretrained(tmp_path)
    again = AGITModel.from_pretrained(tmp_path, torch_dtype=dtype)
    assert next(again.parameters()).dtype == dtype
    assert next(AGITModel.from_pretrained(tmp_path).parameters()).dtype == torch.float32


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((None, None), torch.float32),
        ((torch.float16, None), torch.float16),
        ((None, "bfloat16"), torch.bfloat16),
        ((torch.float16, "torch.float16"), torch.float16),
        ((None, "auto"), torch.float32),
    ],
)
def test_resolve_dtype_takes_both_spellings(given: tuple[Any, Any], expected: torch.dtype) -> None:
    assert resolve_dtype(*given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((torch.int8, None), "dtype is torch.int8; expected"),
        ((None, "half-ish"), "torch_dtype is 'half-ish'"),
        ((torch.float16, torch.bfloat16), "give one of them"),
    ],
)
def test_resolve_dtype_other_values_are_refused(given: tuple[Any, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_dtype(*given)


def test_resolve_device_takes_both_spellings() -> None:
    cpu = torch.device("cpu")
    assert resolve_device(None) is None
    for device_map in ("cpu", cpu, {"": "cpu"}, {"generator": "cpu", "attention": "cpu"}):
        assert resolve_device(None, device_map) == resolve_device("cpu", device_map) == cpu
    assert resolve_device(None, "auto") is not None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, {"a": "cpu", "b": "meta"}), "stay whole"),
        ((None, "everywhere"), "device_map is 'everywhere'"),
        (("cpu", "meta"), "give one of them"),
    ],
)
def test_resolve_device_other_values_are_refused(given: tuple[Any, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        resolve_device(*given)


@pytest.fixture
def _pushed(
    hub: Hub, make_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model on the Hub, user/tiny."""
    connect(monkeypatch, hub.url, tmp_path / "home")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    make_model().push_to_hub("user/tiny")


@pytest.mark.usefixtures("_pushed")
def test_from_pretrained_options_of_the_hub_are_honoured(tmp_path: Path) -> None:
    cache = tmp_path / "mine"
    options: dict[str, Any] = {"cache_dir": cache, "token": "hf_test", "revision": "main"}
    AGITPipeline.from_pretrained("user/tiny", **options, force_download=True)
    assert list(cache.glob("models--user--tiny/snapshots/*/model.safetensors"))
    AGITPipeline.from_pretrained("user/tiny", cache_dir=cache, local_files_only=True)
    with pytest.raises(
        ModelLoadError, match="user/tiny is neither a local folder nor in the cache"
    ):
        AGITPipeline.from_pretrained("user/tiny", cache_dir=tmp_path / "no", local_files_only=True)
    with pytest.raises(ModelLoadError, match="has no revision 'nothing'"):
        AGITPipeline.from_pretrained("user/tiny", cache_dir=cache, revision="nothing")


@pytest.mark.usefixtures("_pushed")
def test_from_pretrained_cache_that_is_a_file_is_an_error_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Exception, match=r"could not be fetched: .*file, not a folder"):
        AGITModel.from_pretrained("user/tiny", cache_dir=tmp_path / "file" / "cache")
