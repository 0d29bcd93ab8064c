"""The Space's service, without its page."""

import multiprocessing
import os
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from agit_hub.data import shapes
from agit_hub.errors import EditError, ImageError, PackageError, SpaceError
from agit_hub.models.agit import AGITModel
from agit_hub.space import service as service_module
from agit_hub.space.edits import PAINT, make_edits, open_mask
from agit_hub.space.limits import MAX_BATCH
from agit_hub.space.previews import PREVIEW, preview
from agit_hub.space.service import SpaceService
from agit_hub.space.zerogpu import Result, Run, ZeroGpu
from tests.space.conftest import DEMO_MODEL
from tests.space.videos import write_video


@pytest.fixture
def image_path(tmp_path: Path) -> str:
    path = tmp_path / "three.png"
    shapes.draw("plain", 4, size=96, seed=41)[0].save(path)
    return str(path)


class CountingGpu:
    """Counts calls, whose arguments and results are pickled as for another process."""

    def __init__(self, limit: int = 99) -> None:
        self.calls = 0
        self.limit = limit

    def __call__(self, run: Run) -> Run:
        def call(*arguments: Any) -> Result:
            if self.calls == self.limit:
                raise gr.Error("Your quota is used up", title="ZeroGPU quota exceeded")
            self.calls += 1
            sent: Any = pickle.loads(pickle.dumps(arguments))
            result: Result = pickle.loads(pickle.dumps(run(*sent)))
            return result

        return call


def test_service_runs_networks_once_per_image_and_direction(image_path: str) -> None:
    """Also if they run in another process, with a GPU for the call."""
    networks = CountingGpu()
    service = SpaceService({"demo": str(DEMO_MODEL)}, ZeroGpu(networks))
    outputs = [
        service.render(image_path, "striped", "demo", make_edits([threshold])).image.tobytes()
        for threshold in (None, 0.1, 0.5, 1)
    ]
    assert networks.calls == 1
    assert outputs[0] == outputs[1] and len(set(outputs)) == 3
    assert outputs[3] == Image.open(image_path).tobytes()
    service.render(image_path, "striped \u2192 plain", "demo", make_edits([]))
    assert networks.calls == 2


def test_service_selected_object_without_attention_disappears(image_path: str) -> None:
    service = SpaceService({"demo": str(DEMO_MODEL)})
    raw = service.predict(image_path, "striped", "demo").raw_attention
    y, x = (int(place) for place in np.unravel_index(np.argmax(raw), raw.shape))
    chosen = make_edits([0.1], points=[(x, y)])
    above = replace(chosen, threshold=float(raw.max()) + 0.01)
    there = service.render(image_path, "striped", "demo", chosen).attention
    assert there[y, x] > 0 and np.count_nonzero(there) < np.count_nonzero(raw > 0.1)
    assert not service.render(image_path, "striped", "demo", above).attention.any()
    with pytest.raises(EditError, match="No attention at"):
        service.render(image_path, "striped", "demo", replace(above, strict_points=True))
    # Of two, the one with attention stays; and paint needs no object.
    far = np.unravel_index(np.argmin(raw), raw.shape)
    both = replace(chosen, points=[(x, y), (int(far[1]), int(far[0]))])
    assert np.array_equal(service.render(image_path, "striped", "demo", both).attention, there)
    painted = make_edits([above.threshold], [(x, y)], Image.new("RGBA", (8, 8), PAINT))
    assert np.all(service.render(image_path, "striped", "demo", painted).attention == 1)


def test_service_strokes_green_adds_and_red_removes_attention(image_path: str) -> None:
    service = SpaceService({"demo": str(DEMO_MODEL)})
    strokes = np.zeros((48, 48, 4), np.uint8)  # at half the image's size
    strokes[:, :24] = (0x22, 0xC5, 0x5E, 255)
    strokes[:, 24:] = (0xEF, 0x44, 0x44, 255)
    rendering = service.render(
        image_path, "striped", "demo", make_edits([1], strokes=Image.fromarray(strokes))
    )
    assert np.all(rendering.attention[:, :46] == 1) and not rendering.attention[:, 50:].any()


def test_service_layer_without_strokes_has_no_effect(image_path: str) -> None:
    service = SpaceService({"demo": str(DEMO_MODEL)})
    bare, blank = (
        service.render(image_path, "striped", "demo", make_edits([], strokes=strokes)).attention
        for strokes in (None, Image.new("RGBA", (30, 30)))
    )
    assert np.array_equal(bare, blank)


@pytest.mark.parametrize("size", [(96, 96), (24, 24), (960, 960)])
def test_service_mask_keeps_every_bit_where_it_is_black(
    image_path: str, tmp_path: Path, size: tuple[int, int]
) -> None:
    service = SpaceService({"demo": str(DEMO_MODEL)})
    mask = np.zeros(size, np.uint8)
    mask[:, size[1] // 2 :] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    edits = make_edits(
        [0, 20],
        strokes=Image.new("RGBA", (8, 8), PAINT),
        mask=open_mask(str(tmp_path / "mask.png")),
    )
    rendering = service.render(image_path, "striped", "demo", edits)
    given, made = np.asarray(Image.open(image_path)), np.asarray(rendering.image)
    assert np.array_equal(made[:, :48], given[:, :48])
    assert (made != given)[:, 72:].any() and rendering.attention[:, 72:].min() == 1


def test_service_mask_of_another_shape_is_refused(image_path: str) -> None:
    service = SpaceService({"demo": str(DEMO_MODEL)})
    with pytest.raises(EditError, match="The mask is 8 x 4 pixels and its image 96 x 96"):
        service.render(image_path, "", "demo", make_edits([], mask=np.ones((4, 8), np.float32)))


@pytest.mark.slow
def test_service_previews_are_small_and_files_full_size(tmp_path: Path) -> None:
    path = tmp_path / "../odd name;.png"
    shapes.draw("plain", 1, size=1600, seed=2)[0].save(path)
    service = SpaceService({"demo": str(DEMO_MODEL)})
    rendering = service.render(str(path), "striped", "demo", make_edits([]))
    small = preview(rendering)
    assert small.image.size == small.overlay().size == (PREVIEW, PREVIEW)
    assert small.attention.shape == (PREVIEW, PREVIEW)
    assert rendering.image.size == (1600, 1600)  # and is not modified
    files = [Path(file) for file in service.files(rendering, str(path))]
    assert [file.name for file in files] == [
        "odd_name_-translated.png", "odd_name_-attention.png", "odd_name_-panel.png",
    ]  # fmt: skip
    assert Image.open(files[0]).tobytes() == rendering.image.tobytes()


def test_service_batch_beyond_limit_is_refused(image_path: str) -> None:
    with pytest.raises(SpaceError, match=f"51 .*{MAX_BATCH}"):
        SpaceService({"demo": str(DEMO_MODEL)}).batch(
            [image_path] * 51, "striped", "demo", make_edits([]), iter
        )


def test_service_batch_keeps_results_before_gpu_is_unavailable(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    for number, path in enumerate(paths):
        shapes.draw("plain", number, size=96, seed=43)[0].save(path)
    service = SpaceService({"demo": str(DEMO_MODEL)}, ZeroGpu(CountingGpu(limit=2)))
    panels, archive, errors = service.batch(paths, "striped", "demo", make_edits([]), iter)
    assert [name for _, name in panels] == ["0.png", "1.png"] and archive is not None
    assert errors == ["2.png and those after it: Your quota is used up"]


def test_service_cache_evicts_least_recently_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two images (4 bytes a pixel) with their maps (4), and seven channels at the networks' 64 pixels.
    held = 96 * 96 * 8 + 7 * 4 * 64 * 64
    monkeypatch.setattr(service_module, "MAX_REMEMBERED_MEGABYTES", (2 * held + 100) / 1e6)
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for number, path in enumerate(paths):
        shapes.draw("plain", number, size=96, seed=44)[0].save(path)
    gpu = CountingGpu()
    service = SpaceService({"demo": str(DEMO_MODEL)}, ZeroGpu(gpu))
    calls = []
    for number in (0, 1, 0, 2, 0, 1):
        service.predict(paths[number], "striped", "demo")
        calls.append(gpu.calls)
    assert calls == [1, 2, 2, 3, 3, 4]


def test_service_cache_keeps_no_failure(image_path: str) -> None:
    whole = Path(image_path).read_bytes()
    Path(image_path).write_bytes(whole[:100])
    service = SpaceService({"demo": str(DEMO_MODEL)})
    for _ in range(2):
        with pytest.raises(ImageError, match="damaged"):
            service.predict(image_path, "striped", "demo")
    Path(image_path).write_bytes(whole)
    assert service.predict(image_path, "striped", "demo").input.size == (96, 96)


def test_service_film_takes_few_gpu_calls(tmp_path: Path) -> None:
    gpu = CountingGpu()
    service = SpaceService({"demo": str(DEMO_MODEL)}, ZeroGpu(gpu))
    path = write_video(tmp_path / "clip.mp4", frames=20, rate=20)
    files, steps = service.film(str(path), "striped", "demo", make_edits([]))
    assert [step.frames for step in steps] == [*range(1, 21), 20]
    assert gpu.calls == 2  # of 16 frames and 4
    assert [Path(file).name for file in files] == ["clip-side-by-side.mp4", "clip-translated.mp4"]
    assert all(Path(file).is_file() for file in files)


def test_service_film_without_its_package_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(PackageError, match=r"av.*agit-hub\[video\]"):
        SpaceService({"demo": str(DEMO_MODEL)}).film("a.mp4", "", "demo", make_edits([]))


def test_service_card_has_no_front_matter_and_no_images(tmp_path: Path) -> None:
    shutil.copytree(DEMO_MODEL, tmp_path / "m")
    text = "---\ntags: [a]\n---\n# Mine\n![map](maps.png)\n<img src='https://example.org/a.png'>\nend\n"
    (tmp_path / "m" / "README.md").write_text(text)
    card = SpaceService({"m": str(tmp_path / "m")}).card("m")
    note = "*(an image: see the model's repository)*"
    assert card == f"\n# Mine\n{note}\n{note}\nend\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_zerogpu_forked_worker_does_not_wait_for_parent_lock() -> None:
    gpu = ZeroGpu(lambda run: run)
    with gpu._lock:
        child = multiprocessing.get_context("fork").Process(
            target=gpu.pipeline, args=("demo", AGITModel.from_pretrained(DEMO_MODEL))
        )
        child.start()
        child.join(timeout=10)
    child.kill()
    assert child.exitcode == 0
