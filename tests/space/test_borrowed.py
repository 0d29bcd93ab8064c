"""Networks that run on a borrowed GPU, as seen from either side of the loan."""

import sys
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
import torch
from PIL import Image

from agit_hub.data import shapes
from agit_hub.errors import BackendError
from agit_hub.inference.image_processor import working_size
from agit_hub.models.agit import AGITModel
from tests.space.conftest import SPACE

sys.path.insert(0, str(SPACE))

from borrowed import (
    LEAST_SECONDS,
    MOST_SECONDS,
    Answer,
    Array,
    Ask,
    BorrowedGpu,
    on_accelerator,
    seconds,
)
from studio import MAX_MEGAPIXELS, SpaceService, offered

DEMO = str(SPACE / "model")


def _here(ask: Ask) -> Ask:
    return ask


def _seen(width: int, height: int, model_size: int) -> Array:
    width, height = working_size(width, height, model_size)
    return np.broadcast_to(np.float32(0), (1, 3, height, width))  # of that size, and no memory


def test_longer_is_borrowed_for_more_pixels_that_the_networks_see() -> None:
    small, large = (96, 96), (6000, 4000)
    assert large[0] * large[1] == MAX_MEGAPIXELS * 10**6
    asked = [seconds(DEMO, _seen(*size, 512), None) for size in (small, (4000, 1000), large)]
    # A strip is seen at four times the pixels of a square, 24 megapixels of 3:2 at one and a half.
    assert asked == [13, 20, 14]
    assert seconds(DEMO, _seen(*small, 64), None) == LEAST_SECONDS
    assert seconds(DEMO, _seen(*large, 4096), None) == MOST_SECONDS


def test_only_arrays_of_the_networks_size_go_to_and_fro() -> None:
    sent: list[int] = []

    def borrow(ask: Ask) -> Ask:
        def call(place: str, seen: Array, to: str | None) -> Answer:
            assert isinstance(place, str) and type(seen) is np.ndarray
            answer = ask(place, seen, to)
            assert all(type(part) is np.ndarray for part in answer)
            sent.append(seen.nbytes)
            return answer

        return call

    pipeline = BorrowedGpu(borrow).pipeline(DEMO, AGITModel.from_pretrained(DEMO))
    drawn = shapes.draw("plain", 0, size=96, seed=1)[0]
    for picture in (drawn, drawn.resize((1200, 1200))):
        assert pipeline.predict(picture).picture.size == picture.size
    assert sent == [64 * 64 * 3 * 4] * 2


def test_an_error_of_the_worker_that_is_only_a_name_becomes_a_sentence() -> None:
    def fail(place: str, seen: Array, to: str | None) -> Answer:
        raise gr.Error("RuntimeError", title="ZeroGPU worker error")

    def refuse(place: str, seen: Array, to: str | None) -> Answer:
        raise gr.Error("No GPU was available")

    model = AGITModel.from_pretrained(DEMO)
    picture = Image.new("RGB", (64, 64))
    with pytest.raises(BackendError, match=r"stopped with an error \(RuntimeError\); try again"):
        BorrowedGpu(lambda _: fail).pipeline(DEMO, model).predict(picture)
    with pytest.raises(gr.Error, match="No GPU was available"):
        BorrowedGpu(lambda _: refuse).pipeline(DEMO, model).predict(picture)


def test_a_full_gpu_is_a_sentence() -> None:
    model = AGITModel.from_pretrained(DEMO)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    model.generator_st.register_forward_pre_hook(full)
    with pytest.raises(BackendError, match="not enough memory for this model at 128 x 64 pixels"):
        BorrowedGpu(_here).pipeline(DEMO, model).predict(Image.new("RGB", (128, 64)))


def test_a_worker_loads_what_it_has_not_with_no_question_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, object]] = []
    load = AGITModel.from_pretrained

    def noted(place: str, **options: object) -> AGITModel:
        asked.append(options)
        return load(DEMO)

    monkeypatch.setattr(AGITModel, "from_pretrained", noted)
    older = BorrowedGpu(_here)  # a worker that was forked before the app loaded the model
    app = BorrowedGpu(lambda _: older._ask)
    app.pipeline("user/model", load(DEMO)).predict(Image.new("RGB", (64, 64)))
    assert asked == [{"local_files_only": True}]


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """This machine's; if it has none, the device `meta`: what goes there can be seen, not run."""
    real = torch.accelerator.current_accelerator(check_available=True)
    if real is not None:
        return real
    meta = torch.device("meta")
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: meta)
    return meta


def test_networks_wait_on_the_cpu_only_where_a_gpu_is_borrowed(accelerator: torch.device) -> None:
    here, borrowed = SpaceService(offered(None)), SpaceService(offered(None), BorrowedGpu(_here))
    assert here.pipeline("demo").device.type == accelerator.type
    assert borrowed.pipeline("demo").device.type == "cpu"


def test_networks_are_sent_to_the_accelerator(accelerator: torch.device) -> None:
    model = AGITModel.from_pretrained(DEMO)
    devices = {weight.device.type for weight in on_accelerator(model).state_dict().values()}
    assert devices == {accelerator.type}
    gpu = BorrowedGpu(_here)
    waiting = AGITModel.from_pretrained(DEMO)
    if accelerator.type == "meta":
        with pytest.raises(NotImplementedError):
            gpu.pipeline(DEMO, waiting).predict(Image.new("RGB", (64, 64)))
    else:
        gpu.pipeline(DEMO, waiting).predict(Image.new("RGB", (64, 64)))
    assert next(waiting.parameters()).device.type == accelerator.type
