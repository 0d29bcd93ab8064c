"""Models that visitors name: no credential of the host, and a judgement before any weight."""

import json
import os
import random
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agit_hub.errors import AgitError, SpaceError
from agit_hub.models.agit import AGITModel
from agit_hub.space import service as service_module
from agit_hub.space import visitor_models
from agit_hub.space.service import SpaceService
from testing.hub_server import Hub
from tests.conftest import MakeModel
from tests.online import connect
from tests.space.conftest import DEMO_MODEL

TOKEN = "hf_test"
README = b"---\ntags: [mine]\n---\n# Secret horses\n"


@pytest.fixture
def hub(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """A Hub whose token the host has."""
    connect(monkeypatch, hub.url, tmp_path / "home")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    return hub


@pytest.fixture
def files(make_model: MakeModel, tmp_path: Path) -> dict[str, bytes]:
    """The files of a small model."""
    make_model().save_pretrained(tmp_path / "model")
    saved = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    return {**saved, "README.md": README}


def _space(**models: str) -> SpaceService:
    return SpaceService({"demo": str(DEMO_MODEL), **models})


def test_visitor_requests_carry_no_token(hub: Hub, files: dict[str, bytes]) -> None:
    hub.commit("user/public", dict(files), kind="model")
    hub.commit("user/private", dict(files), kind="model", private=True)
    hub.commit("user/gated", dict(files), kind="model", gated=True)
    space = SpaceService({"demo": str(DEMO_MODEL)}, offer_hub=True)
    assert space.directions("user/public") == ["horse \u2192 zebra", "zebra \u2192 horse"]
    assert "Secret horses" in space.card("user/public")
    for name in ("user/private", "user/gated", "user/nothing"):
        with pytest.raises(SpaceError, match=f"^{name} is no public model on the Hub"):
            space.directions(name)
        assert "has no card" in space.card(name)
    space.known_models()
    assert hub.requests and {request.token for request in hub.requests} == {None}


def test_visitor_gets_nothing_from_the_host_cache(hub: Hub, files: dict[str, bytes]) -> None:
    """The Hub client serves cached files when the Hub refuses a request."""
    hub.commit("user/private", dict(files), kind="model", private=True)
    own = _space(mine="user/private")
    assert own.directions("mine") and "Secret" in own.card("mine")
    assert {request.token for request in hub.requests} == {TOKEN}
    hub.requests.clear()
    with pytest.raises(SpaceError, match="no public model"):
        own.directions("user/private")
    assert "Secret" not in own.card("user/private")
    assert hub.requests and {request.token for request in hub.requests} == {None}


def test_known_models_are_the_host_own_unless_opted_in(hub: Hub) -> None:
    assert _space().known_models() == ["demo"] and not hub.requests


def test_visitor_model_header_is_fetched_before_any_weight(
    hub: Hub, files: dict[str, bytes], make_model: MakeModel, tmp_path: Path
) -> None:
    make_model(channels=64, blocks=9).save_pretrained(tmp_path / "wide")
    weights = (tmp_path / "wide" / "model.safetensors").read_bytes()
    hub.commit("user/other", {**files, "model.safetensors": weights}, kind="model")
    with pytest.raises(SpaceError, match=r"The weights of user/other do not match its config"):
        _space().directions("user/other")
    assert len(weights) > 10**7 and hub.bytes_sent("model.safetensors") < 10**6


def test_visitor_model_too_large_is_refused_before_its_weights(
    hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit("user/public", dict(files), kind="model")
    monkeypatch.setattr(visitor_models, "MAX_MODEL_MEGABYTES", 0.05)
    with pytest.raises(SpaceError, match=r"have 0 MB; 0.05 MB is the limit here"):
        _space().directions("user/public")
    config = json.loads(files["config.json"]) | {"image_size": 4096, "channels": 32}
    hub.commit("user/vast", {"config.json": json.dumps(config).encode()}, kind="model")
    hub.commit("user/vast", {"model.safetensors": files["model.safetensors"]}, kind="model")
    with pytest.raises(SpaceError, match="user/vast is too large for this Space: 32 channels"):
        _space().directions("user/vast")


def test_visitor_cache_keeps_to_its_cap(
    hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    size = len(files["model.safetensors"]) + len(files["config.json"])
    monkeypatch.setattr(visitor_models, "MAX_MODEL_MEGABYTES", size / 1e6)
    monkeypatch.setattr(visitor_models, "MAX_VISITOR_CACHE_MEGABYTES", 2.5 * size / 1e6)
    space = _space()
    for number in range(4):
        hub.commit(f"user/m{number}", dict(files), kind="model")
        space.directions(f"user/m{number}")
        folder = space._visitor_models._folder()
        os.utime(folder / f"models--user--m{number}", (number, number))  # an order, without waiting
    left = sorted(path.name for path in folder.glob("models--*"))
    assert left == ["models--user--m2", "models--user--m3"]


def test_first_visitors_load_a_model_once(
    hub: Hub, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.commit("user/public", dict(files), kind="model")
    loads = []
    pipeline = service_module.AGITPipeline

    class Counting(pipeline):  # type: ignore[misc, valid-type]
        @classmethod
        def from_pretrained(cls, source: str, **options: Any) -> Any:
            loads.append(source)
            return pipeline.from_pretrained(source, **options)

    monkeypatch.setattr(service_module, "AGITPipeline", Counting)
    space = _space()
    with ThreadPoolExecutor(8) as visitors:
        found = list(visitors.map(space.pipeline, ["user/public"] * 8))
    assert len(loads) == 1 and len({id(each) for each in found}) == 1


def _hostile_configs(base: dict[str, Any]) -> Iterator[bytes]:
    """Configs of a few bytes that ask for too much, or are none."""
    vast = (10**6, 10**9, 10**18, -1, 2**63, 1e300, float("inf"), float("nan"), "9" * 1000, None)
    for key in ("blocks", "image_size", "channels", "attention_channels", "attention_smoothing"):
        for value in vast:
            yield json.dumps({**base, key: value}).encode()
    for label in ("", "x" * 10**4, "a\nb", "\ud800", "\x00", ["a"], {"a": 1}):
        yield json.dumps({**base, "source_label": label}).encode()
    yield b"[" * 20_000
    yield b'{"a":' * 20_000
    yield b"{" + b" " * 10**7 + b"}"
    yield b'{"format_version": ' + b"9" * 5000 + b"}"
    yield json.dumps({**base, "k" * 10**4: 1}).encode()
    yield json.dumps({**base, "image_size": 4096, "channels": 512, "blocks": 64}).encode()
    yield b"\xff\xfe"
    yield b""


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def _file(header: bytes, length: int | None = None) -> bytes:
    size = len(header) if length is None else length
    return size.to_bytes(8, "little") + header + bytes(64)


def _hostile_headers(header: dict[str, Any], seed: int = 0) -> Iterator[bytes]:
    """Beginnings of weights files that lie, ask for too much, or are none."""
    name = next(key for key in header if key != "__metadata__")
    for shape in ([2**40], [10**9] * 4, [-1], [0], "no", None, [1.5], [True], [1] * 10**4, [[1]]):
        yield _file(json.dumps({**header, name: {**header[name], "shape": shape}}).encode())
    for dtype in ("F64", "X" * 10**4, None, 3, "I8"):
        yield _file(json.dumps({**header, name: {**header[name], "dtype": dtype}}).encode())
    for length in (0, 1, 2**20 + 1, 2**32, 2**63, 2**64 - 1):
        yield _file(b"{}", length)
    for data in (b"[" * 10**5, b"{}", b"[]", b"null", b"{" + b" " * 10**6, b'{"a": 1}', b'{"a"'):
        yield _file(data)
    yield b""
    yield b"abc"
    yield _file(json.dumps({f"w{n}": header[name] for n in range(9000)}).encode())
    draw = random.Random(seed)
    whole = json.dumps(header).encode()
    for _ in range(12):
        damaged = bytearray(whole)
        for _ in range(20):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        yield _file(bytes(damaged))


def test_100_hostile_models_get_a_sentence_within_a_second_and_little_memory(
    hub: Hub, files: dict[str, bytes]
) -> None:
    weights = files["model.safetensors"]
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    config = json.loads(files["config.json"])
    cases = [{**files, "config.json": data} for data in _hostile_configs(config)]
    cases += [{**files, "model.safetensors": data} for data in _hostile_headers(header)]
    assert len(cases) >= 100
    for number, case in enumerate(cases):
        hub.commit(f"user/m{number}", dict(case), kind="model")
    space = _space()
    AGITModel.from_pretrained(DEMO_MODEL)  # what the first load imports
    before = _peak_megabytes()
    for number in range(len(cases)):
        start = time.thread_time()  # of other processes this test knows nothing
        with pytest.raises(AgitError) as raised:
            space.directions(f"user/m{number}")
        taken, message = time.thread_time() - start, str(raised.value)
        assert taken < 1, (number, message)
        assert f"user/m{number}" in message and len(message) < 1000, message
        assert "/home" not in message and "snapshots" not in message
    assert _peak_megabytes() - before < 200
    assert hub.bytes_sent("config.json") < 10**6


@pytest.mark.parametrize("damage", [lambda data: data[:-100], lambda data: data + b"x"])
def test_visitor_model_damaged_weights_are_named_by_repo(
    hub: Hub, files: dict[str, bytes], damage: Callable[[bytes], bytes]
) -> None:
    damaged = damage(files["model.safetensors"])
    hub.commit("user/cut", {**files, "model.safetensors": damaged}, kind="model")
    with pytest.raises(SpaceError, match=r"^user/cut/model.safetensors cannot be read") as raised:
        _space().directions("user/cut")
    assert "snapshots" not in str(raised.value)
