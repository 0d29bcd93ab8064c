"""What the Space does, without its page."""

import multiprocessing
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from agit_hub.data import shapes
from tests.space.conftest import SPACE

sys.path.insert(0, str(SPACE))

from borrowed import Answer, Ask, BorrowedGpu
from handlers import Handlers
from memory import Memory
from studio import (
    MAX_BATCH,
    PAINT,
    PREVIEW,
    SpaceError,
    SpaceService,
    TranslateOptions,
    offered,
    shown,
)


@pytest.fixture
def picture(tmp_path: Path) -> str:
    path = tmp_path / "three.png"
    shapes.draw("plain", 4, size=96, seed=41)[0].save(path)
    return str(path)


class Counted:
    """Networks that count how often they are asked, from another process' side of a pickle."""

    def __init__(self, limit: int = 99) -> None:
        self.asked = 0
        self.limit = limit

    def __call__(self, ask: Ask) -> Ask:
        def borrowed(*arguments: Any) -> Answer:
            if self.asked == self.limit:
                raise gr.Error("Your quota is used up", title="ZeroGPU quota exceeded")
            self.asked += 1
            sent: Any = pickle.loads(pickle.dumps(arguments))
            answer: Answer = pickle.loads(pickle.dumps(ask(*sent)))
            return answer

        return borrowed


def test_networks_are_asked_once_for_a_picture_and_a_direction(picture: str) -> None:
    """Also where they run in another process, with a GPU that is borrowed for the call."""
    networks = Counted()
    studio = SpaceService(offered(None), BorrowedGpu(networks))
    outputs = [
        studio.render(picture, "striped", "demo", TranslateOptions(threshold)).image.tobytes()
        for threshold in (None, 0.1, 0.5, 1)
    ]
    assert networks.asked == 1
    assert outputs[0] == outputs[1] and len(set(outputs)) == 3
    assert outputs[3] == Image.open(picture).tobytes()
    studio.render(picture, "striped \u2192 plain", "demo", TranslateOptions())
    assert networks.asked == 2


def test_a_chosen_object_vanishes_while_it_has_no_attention_and_comes_back(picture: str) -> None:
    studio = SpaceService(offered(None))
    raw = studio.predict(picture, "striped", "demo").raw_attention
    y, x = (int(place) for place in np.unravel_index(np.argmax(raw), raw.shape))
    chosen = TranslateOptions(0.1, points=[(x, y)])
    above = replace(chosen, threshold=float(raw.max()) + 0.01)
    there = studio.render(picture, "striped", "demo", chosen).attention
    assert there[y, x] > 0 and np.count_nonzero(there) < np.count_nonzero(raw > 0.1)
    assert not studio.render(picture, "striped", "demo", above).attention.any()
    with pytest.raises(SpaceError, match="No attention is paid"):
        studio.render(picture, "striped", "demo", replace(above, every_point=True))
    # Of two, the one that is left stays; and what is painted needs no object.
    far = np.unravel_index(np.argmin(raw), raw.shape)
    both = replace(chosen, points=[(x, y), (int(far[1]), int(far[0]))])
    assert np.array_equal(studio.render(picture, "striped", "demo", both).attention, there)
    painted = replace(above, strokes=Image.new("RGBA", (8, 8), PAINT))
    assert np.all(studio.render(picture, "striped", "demo", painted).attention == 1)


def test_a_layers_green_attends_and_its_red_does_not(picture: str) -> None:
    studio = SpaceService(offered(None))
    strokes = np.zeros((48, 48, 4), np.uint8)  # at half the picture's size
    strokes[:, :24] = (0x22, 0xC5, 0x5E, 255)
    strokes[:, 24:] = (0xEF, 0x44, 0x44, 255)
    rendering = studio.render(
        picture, "striped", "demo", TranslateOptions(1, strokes=Image.fromarray(strokes))
    )
    assert np.all(rendering.attention[:, :46] == 1) and not rendering.attention[:, 50:].any()


def test_a_layer_without_strokes_changes_nothing(picture: str) -> None:
    studio = SpaceService(offered(None))
    bare, blank = (
        studio.render(picture, "striped", "demo", TranslateOptions(strokes=strokes)).attention
        for strokes in (None, Image.new("RGBA", (30, 30)))
    )
    assert np.array_equal(bare, blank)


def test_previews_are_small_and_files_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "../odd name;.png"
    shapes.draw("plain", 1, size=1600, seed=2)[0].save(path)
    studio = SpaceService(offered(None))
    rendering = studio.render(str(path), "striped", "demo", TranslateOptions())
    small = shown(rendering)
    assert small.image.size == small.overlay().size == (PREVIEW, PREVIEW)
    assert small.attention.shape == (PREVIEW, PREVIEW)
    assert rendering.image.size == (1600, 1600)  # and is left as it was
    files = [Path(file) for file in studio.files(rendering, str(path))]
    assert [file.name for file in files] == [
        "odd_name_-translated.png", "odd_name_-attention.png", "odd_name_-panel.png",
    ]  # fmt: skip
    assert Image.open(files[0]).tobytes() == rendering.image.tobytes()


def test_a_batch_has_an_end(picture: str) -> None:
    with pytest.raises(SpaceError, match=f"51 pictures are too many at once: {MAX_BATCH}"):
        SpaceService(offered(None)).batch(
            [picture] * 51, "striped", "demo", TranslateOptions(), iter
        )


def test_a_batch_keeps_what_was_done_before_a_gpu_was_refused(tmp_path: Path) -> None:
    paths = [str(tmp_path / f"{number}.png") for number in range(4)]
    for number, path in enumerate(paths):
        shapes.draw("plain", number, size=96, seed=43)[0].save(path)
    studio = SpaceService(offered(None), BorrowedGpu(Counted(limit=2)))
    panels, archive, refused = studio.batch(paths, "striped", "demo", TranslateOptions(), iter)
    assert [name for _, name in panels] == ["0.png", "1.png"] and archive is not None
    assert refused == ["2.png and those after it: Your quota is used up"]


def test_what_is_offered_is_named_without_its_place(tmp_path: Path) -> None:
    assert offered(None) == offered(" ") == {"demo": str(SPACE / "model")}
    (tmp_path / "mine").mkdir()
    places = f"{tmp_path / 'mine'}, user/agit-horse2zebra"
    assert offered(places) == {
        "mine": str(tmp_path / "mine"), "user/agit-horse2zebra": "user/agit-horse2zebra",
    }  # fmt: skip


def test_a_memory_forgets_what_was_unused_longest() -> None:
    memory = Memory[int](10, size=lambda value: value)
    found: list[int] = []

    def find(value: int) -> int:
        return memory.get(value, lambda: found.append(value) or value)

    assert [find(value) for value in (4, 5, 4, 3, 5, 4)] == [4, 5, 4, 3, 5, 4]
    # 3 does not fit beside 4 and 5: 5 goes, and is found again, for which 4 goes.
    assert found == [4, 5, 3, 5, 4]
    assert find(99) == 99  # larger than all there is room for: the only one then
    assert find(99) == 99 and found.count(99) == 1


def test_a_memory_keeps_no_failure() -> None:
    memory = Memory[int](10)

    def fail() -> int:
        raise KeyError

    with pytest.raises(KeyError):
        memory.get("key", fail)
    assert memory.get("key", lambda: 7) == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks on this system")
def test_a_forked_process_does_not_wait_for_a_lock_of_its_parent() -> None:
    memory = Memory[int](10)

    def found() -> None:
        memory.get("key", lambda: 7)

    with memory._lock:
        child = multiprocessing.get_context("fork").Process(target=found)
        child.start()
        child.join(timeout=10)
    child.kill()
    assert child.exitcode == 0


def test_another_model_keeps_the_direction_that_it_knows() -> None:
    act = Handlers(SpaceService(offered(None)))
    ways = ["plain \u2192 striped", "striped \u2192 plain"]
    for to, kept in ((ways[1], ways[1]), ("horse \u2192 zebra", ways[0])):
        update, *thresholds = act.choose("demo", to)
        assert update["value"] == kept and thresholds == [0.1, 0.1]
        assert update["choices"] == ways
