"""The handler for Inference Endpoints, called as an endpoint calls it."""

import base64
import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agit_hub import AGITPipeline, AttentionEdits

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "space" / "models" / "agit-shapes"
PLAIN = ROOT / "space" / "examples" / "plain" / "plain-1.png"


@pytest.fixture(scope="module")
def handler() -> Any:
    spec = importlib.util.spec_from_file_location("handler", ROOT / "examples" / "handler.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EndpointHandler(str(MODEL))


def _text(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def _image(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
def test_handler_translates_base64_text_as_the_pipeline_does(handler: Any, prefix: str) -> None:
    request = {"inputs": prefix + base64.b64encode(PLAIN.read_bytes()).decode()}
    response = json.loads(json.dumps(handler(request)))
    expected = AGITPipeline.from_pretrained(MODEL)(Image.open(PLAIN), to="striped").images[0]
    assert response["label"] == "striped"
    assert _image(response["image"]).tobytes() == expected.tobytes()
    assert _image(response["attention"]).size == expected.size


def test_handler_applies_label_and_edits(handler: Any) -> None:
    image = Image.open(PLAIN).convert("RGB")
    parameters = {"to": "plain", "threshold": 0.05, "region": [0, 0, 20, 20], "strength": 0.5}
    response = handler({"inputs": image, "parameters": parameters})
    edits = AttentionEdits(threshold=0.05, region=(0, 0, 20, 20), strength=0.5)
    expected = AGITPipeline.from_pretrained(MODEL)(image, to="plain", edits=edits).images[0]
    assert response["label"] == "plain"
    found = np.asarray(_image(response["image"]))
    assert (found == np.asarray(expected)).all()
    assert (found[20:] == np.asarray(image)[20:]).all()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "inputs is missing"),
        ({"inputs": "/etc/passwd"}, "not base64"),
        ({"inputs": "no base64!"}, "not base64"),
        ({"inputs": base64.b64encode(b"text").decode()}, "The image"),
        ({"inputs": _text(Image.new("1", (6000, 5000)))}, "24 megapixels"),
        ({"inputs": Image.new("RGB", (32, 32)), "parameters": {"to": "lion"}}, "lion"),
        ({"inputs": Image.new("RGB", (32, 32)), "parameters": {"threshold": 3}}, "threshold is 3"),
        ({"inputs": Image.new("RGB", (32, 32)), "parameters": {"treshold": 1}}, "treshold"),
        ({"inputs": Image.new("RGB", (32, 32)), "parameters": {"strength": "a"}}, ""),
        ({"inputs": Image.new("RGB", (32, 32)), "parameters": "edits"}, ""),
    ],
)
def test_handler_answers_a_bad_request_by_a_sentence(
    handler: Any, request_: dict[str, Any], message: str
) -> None:
    response = handler(request_)
    assert set(response) == {"error"} and message in response["error"]
