"""Requests made by hand: the Space reads nothing but uploads."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agit_hub.data import shapes
from tests.space.conftest import DEMO_MODEL, serve

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def open_space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # Requests that Gradio refuses leave tracebacks in its log.
    folder = tmp_path_factory.mktemp("space") / "files"
    with serve(folder, check_log=False, AGIT_MODELS=str(DEMO_MODEL)) as started:
        yield started.address


def _private(folder: Path) -> Path:
    path = folder / "private.png"
    shapes.draw("plain", 7, size=96, seed=6)[0].save(path)
    return path


def _call(address: str, endpoint: str, values: list[Any]) -> str:
    """Return the events of a request."""
    call = f"{address}/gradio_api/call/{endpoint}"
    event = httpx.post(call, json={"data": values}).json().get("event_id", "none")
    return httpx.get(f"{call}/{event}", timeout=30).text


@pytest.mark.parametrize("endpoint", ["translate", "attention"])
@pytest.mark.parametrize("marked", [True, False])
def test_endpoints_read_uploads_only(
    open_space: str, tmp_path: Path, endpoint: str, marked: bool
) -> None:
    """Neither files with Gradio's mark, which it checks, nor files without."""
    file: dict[str, object] = {"path": str(_private(tmp_path))}
    if marked:
        file["meta"] = {"_type": "gradio.FileData"}
    rest = ["", None, 0, 1, False, ""] if endpoint == "translate" else ["", ""]
    answer = _call(open_space, endpoint, [file, *rest])
    assert "complete" not in answer and "error" in answer


def test_endpoint_masks_are_uploads_only(open_space: str, tmp_path: Path) -> None:
    path = _private(tmp_path)
    data = base64.b64encode(path.read_bytes()).decode()
    image = {"url": f"data:image/png;base64,{data}"}
    rest = ["", None, 0, 1, False, ""]
    for mask, complete in (
        ({"path": str(path)}, False),
        ({"path": str(path), "meta": {"_type": "gradio.FileData"}}, False),
        ({"url": "http://127.0.0.1:1/a.png"}, False),
        (image, True),
        (None, True),
    ):
        answer = _call(open_space, "translate", [image, *rest, mask])
        assert ("event: complete" in answer) == complete, mask
        assert "Traceback" not in answer


def test_endpoint_call_from_before_the_mask_is_answered(open_space: str, tmp_path: Path) -> None:
    """By position, with fewer values than there are parameters now."""
    data = base64.b64encode(_private(tmp_path).read_bytes()).decode()
    image = f"data:image/png;base64,{data}"
    for rest in (["", None, 0, 1, False, ""], []):
        assert "event: complete" in _call(open_space, "translate", [image, *rest])
    assert "image is missing" in _call(open_space, "translate", [])


def test_page_events_read_uploads_only(open_space: str, tmp_path: Path) -> None:
    config = httpx.get(f"{open_space}/config").json()
    inputs = {part["id"]: part["type"] for part in config["components"]}
    by_name = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    requests = 0
    for event in config["dependencies"]:
        kinds = [inputs[part] for part in event["inputs"]]
        if kinds[:1] not in (["image"], ["file"]):
            continue
        requests += 1
        file: object = {"path": str(_private(tmp_path))}
        many = kinds[0] == "file" and event["inputs"][0] == by_name["many"]
        data = [[file] if many else file, "striped", "demo", *[None] * (len(kinds) - 3)]
        sent = {"data": data[: len(kinds)], "fn_index": event["id"], "session_hash": f"s{requests}"}
        httpx.post(f"{open_space}/gradio_api/queue/join", json=sent)
        with httpx.stream(
            "GET", f"{open_space}/gradio_api/queue/data?session_hash=s{requests}", timeout=30
        ) as answer:
            text = "".join(answer.iter_text())
        assert '"success":false' in text.replace(" ", ""), event["id"]
    assert requests >= 10


def _ask(address: str, image: object) -> str:
    """Return the events of a request for an image's attention."""
    return _call(address, "attention", [image, "", ""])


def test_endpoint_takes_an_image_as_base64_text(open_space: str, tmp_path: Path) -> None:
    data = base64.b64encode(_private(tmp_path).read_bytes()).decode()
    url = f"data:image/png;base64,{data}"
    for image in ({"url": url}, {"path": None, "url": url}, {"path": "", "url": url}, url):
        assert "event: complete" in _ask(open_space, image)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"url": "http://127.0.0.1:1/a.png"}, "is an address, which is not fetched here"),
        ({"path": "https://example.org/a.png"}, "is an address, which is not fetched here"),
        ({"path": "/etc/hostname"}, "This is not an upload: send a file"),
        ("/etc/hostname", "This is not an upload: send a file"),
        ({"url": "data:image/png;base64,@@@"}, "holds no base64 text"),
        ({"url": "data:image/png,abc"}, "holds no base64 text"),
        ({"url": "data:image/png;base64,aGVsbG8="}, "image.png is not an image"),
        ({}, "cannot be read from dict data: send a file"),
        (5, "cannot be read from int data: send a file"),
        ([1, 2], "cannot be read from list data: send a file"),
        (None, "image is missing: send a file"),
    ],
)
def test_endpoint_other_values_get_a_sentence(open_space: str, image: object, message: str) -> None:
    answer = _ask(open_space, image)
    assert "event: error" in answer and message in answer
    assert "validation error" not in answer and "Traceback" not in answer


def test_endpoint_marked_address_gets_a_sentence(open_space: str) -> None:
    image = {"path": "http://127.0.0.1:1/a.png", "meta": {"_type": "gradio.FileData"}}
    answer = _ask(open_space, image)
    assert "event: error" in answer and "Traceback" not in answer
