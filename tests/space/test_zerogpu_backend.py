"""Networks on a ZeroGPU, from the app and from its worker."""

from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from agit_hub.data import shapes
from agit_hub.errors import BackendError, FetchError
from agit_hub.inference.image_processor import working_size
from agit_hub.models.agit import AGITModel
from agit_hub.space.limits import MAX_MEGAPIXELS
from agit_hub.space.models import named_models
from agit_hub.space.service import SpaceService
from agit_hub.space.zerogpu import (
    MAX_SECONDS,
    MIN_SECONDS,
    Array,
    Result,
    Run,
    ZeroGpu,
    gpu_duration,
)
from tests.space.conftest import DEMO_MODEL

DEMO = str(DEMO_MODEL)


def _in_process(run: Run) -> Run:
    return run


def _inputs(width: int, height: int, model_size: int) -> Array:
    width, height = working_size(width, height, model_size)
    return np.broadcast_to(np.float32(0), (1, 3, height, width))  # of that size, without memory


def test_gpu_duration_grows_with_network_input() -> None:
    small, large = (96, 96), (6000, 4000)
    assert large[0] * large[1] == MAX_MEGAPIXELS * 10**6
    durations = [
        gpu_duration(DEMO, _inputs(*size, 512), None) for size in (small, (4000, 1000), large)
    ]
    # A strip has four times the network pixels of a square, 24 megapixels of 3:2 one and a half times.
    assert durations == [13, 20, 14]
    assert gpu_duration(DEMO, _inputs(*small, 64), None) == MIN_SECONDS
    assert gpu_duration(DEMO, _inputs(*large, 4096), None) == MAX_SECONDS


def test_zerogpu_sends_arrays_of_network_size_only() -> None:
    sent: list[int] = []

    def decorate(run: Run) -> Run:
        def call(source: str, inputs: Array, to: str | None) -> Result:
            assert isinstance(source, str) and type(inputs) is np.ndarray
            result = run(source, inputs, to)
            assert all(type(part) is np.ndarray for part in result)
            sent.append(inputs.nbytes)
            return result

        return call

    pipeline = ZeroGpu(decorate).pipeline(DEMO, AGITModel.from_pretrained(DEMO))
    drawn = shapes.draw("plain", 0, size=96, seed=1)[0]
    for image in (drawn, drawn.resize((1200, 1200))):
        assert pipeline.predict(image).input.size == image.size
    assert sent == [64 * 64 * 3 * 4] * 2


def test_zerogpu_worker_error_becomes_backend_error() -> None:
    def fail(source: str, inputs: Array, to: str | None) -> Result:
        raise gr.Error("RuntimeError", title="ZeroGPU worker error")

    def refuse(source: str, inputs: Array, to: str | None) -> Result:
        raise gr.Error("No GPU was available")

    model = AGITModel.from_pretrained(DEMO)
    image = Image.new("RGB", (64, 64))
    with pytest.raises(BackendError, match=r"RuntimeError"):
        ZeroGpu(lambda _: fail).pipeline(DEMO, model).predict(image)
    with pytest.raises(gr.Error, match="No GPU was available"):
        ZeroGpu(lambda _: refuse).pipeline(DEMO, model).predict(image)


def test_zerogpu_out_of_memory_becomes_backend_error() -> None:
    model = AGITModel.from_pretrained(DEMO)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model.generator_st.register_forward_pre_hook(full)
    with pytest.raises(BackendError, match=r"memory.*128 x 64"):
        ZeroGpu(_in_process).pipeline(DEMO, model).predict(Image.new("RGB", (128, 64)))


def test_zerogpu_worker_loads_missing_model_from_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[dict[str, object]] = []
    load = AGITModel.from_pretrained

    def recorded(source: str, **options: object) -> AGITModel:
        loads.append(options)
        return load(DEMO)

    monkeypatch.setattr(AGITModel, "from_pretrained", recorded)
    older = ZeroGpu(_in_process)  # a worker that was forked before the app loaded the model
    app = ZeroGpu(lambda _: older._run)
    app.pipeline("user/model", load(DEMO)).predict(Image.new("RGB", (64, 64)))
    assert loads == [{"local_files_only": True}]


def test_zerogpu_failed_download_in_worker_becomes_backend_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = AGITModel.from_pretrained(DEMO)

    def fail(*_: object, **options: object) -> AGITModel:
        raise FetchError("The download of user/model failed.")

    monkeypatch.setattr(AGITModel, "from_pretrained", fail)
    worker = ZeroGpu(_in_process)  # forked before the app loaded the model
    app = ZeroGpu(lambda _: worker._run)
    with pytest.raises(BackendError, match="download of user/model"):
        app.pipeline("user/model", model).predict(Image.new("RGB", (64, 64)))


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """Return this machine's accelerator, or the device `meta`, where nothing can run."""
    real = torch.accelerator.current_accelerator(check_available=True)
    if real is not None:
        return real
    meta = torch.device("meta")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: meta)
    return meta


def test_service_networks_stay_on_cpu_with_zerogpu_only(accelerator: torch.device) -> None:
    local, on_zerogpu = (
        SpaceService(named_models(str(DEMO_MODEL))),
        SpaceService(named_models(str(DEMO_MODEL)), ZeroGpu(_in_process)),
    )
    assert local.pipeline(DEMO_MODEL.name).device.type == accelerator.type
    assert on_zerogpu.pipeline(DEMO_MODEL.name).device.type == "cpu"


def test_zerogpu_runs_networks_on_accelerator(accelerator: torch.device) -> None:
    model = AGITModel.from_pretrained(DEMO)
    found: set[str] = set()

    def stop(network: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        """Note where a network would run, and end the call, because `meta` has no values."""
        found.update(each.device.type for each in (*inputs, *network.state_dict().values()))
        raise ValueError("stopped")

    model.attention_s.register_forward_pre_hook(stop)
    with pytest.raises(BackendError, match="stopped"):
        ZeroGpu(_in_process).pipeline(DEMO, model).predict(Image.new("RGB", (64, 64)))
    assert found == {accelerator.type}
    assert {weight.device.type for weight in model.state_dict().values()} == found
