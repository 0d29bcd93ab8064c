"""What the Space's API says of itself, to programs (`/info`, `view_api`) and to agents (MCP)."""

import sys
from typing import Any

import gradio as gr
import pytest
from gradio.utils import get_function_description

from agit_hub.space.page.build import build_page
from agit_hub.space.service import SpaceService
from agit_hub.space.uploaded_image import UploadedImage
from tests.space.conftest import DEMO_MODEL

PARAMETERS = {
    "/translate": ["image", "to", "threshold", "feather", "strength", "invert", "model", "mask"],
    "/attention": ["image", "to", "model"],
}


@pytest.fixture(scope="module")
def page() -> gr.Blocks:
    return build_page(SpaceService({"demo": str(DEMO_MODEL)}))


def _parameters(page: gr.Blocks, endpoint: str) -> dict[str, Any]:
    parameters = page.get_api_info()["named_endpoints"][endpoint]["parameters"]
    return {each["parameter_name"]: each for each in parameters}


@pytest.mark.parametrize("endpoint", PARAMETERS)
def test_api_describes_every_parameter_in_our_words(page: gr.Blocks, endpoint: str) -> None:
    parameters = _parameters(page, endpoint)
    assert list(parameters) == PARAMETERS[endpoint]
    for name, each in parameters.items():
        described = each["python_type"]["description"]
        assert described == each["type"]["description"] and described.endswith("."), name
        shown = str(each["type"]).replace("gradio.FileData", "").lower()
        assert "gradio" not in shown and "component" not in shown, name
        assert each["example_input"] != "Hello!!", name
    assert [name for name, each in parameters.items() if not each["parameter_has_default"]] == [
        "image"
    ]


def test_api_states_allowed_values(page: gr.Blocks) -> None:
    parameters = _parameters(page, "/translate")
    for name, most in (("threshold", 1), ("feather", 100), ("strength", 1)):
        assert (parameters[name]["type"]["minimum"], parameters[name]["type"]["maximum"]) == (
            0,
            most,
        )
    said = {name: each["python_type"]["description"] for name, each in parameters.items()}
    assert "at most 24 megapixels and 40 MB" in said["image"] and "not fetched" in said["image"]
    assert "striped or plain with the model demo" in said["to"]
    assert "One of demo, or a public Hub repo such as user/model; demo if empty." in said["model"]
    assert UploadedImage().example_payload()["path"] == "image.png"


@pytest.mark.parametrize("endpoint", PARAMETERS)
def test_api_describes_every_result(page: gr.Blocks, endpoint: str) -> None:
    returns = page.get_api_info()["named_endpoints"][endpoint]["returns"]
    labels = (
        ["translation", "attention", "panel"] if endpoint == "/translate" else ["map", "overlay"]
    )
    assert [each["label"] for each in returns] == labels
    assert all(each["type"]["additional_description"].endswith(".") for each in returns)
    assert {each["type"]["title"] for each in returns} == {"Image"}


@pytest.mark.parametrize("endpoint", PARAMETERS)
def test_agents_read_the_same_of_each_parameter(page: gr.Blocks, endpoint: str) -> None:
    """MCP takes a tool's description from the docstring."""
    (function,) = (each for each in page.fns.values() if each.api_name == endpoint.strip("/"))
    description, parameters, _ = get_function_description(function.fn)
    said = {
        name: each["python_type"]["description"]
        for name, each in _parameters(page, endpoint).items()
    }
    assert parameters == said
    assert description.startswith(
        ("Translate the object in an image", "Show where a model's attention")
    )


def test_page_without_the_video_package_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def texts() -> list[str]:
        page = build_page(SpaceService({"demo": str(DEMO_MODEL)}))
        shown = [each["props"] for each in page.get_config_file()["components"]]
        return [props["value"] for props in shown if props.get("elem_id") == "no-video"]

    assert texts() == []
    monkeypatch.setitem(sys.modules, "av", None)
    (text,) = texts()
    assert "`pip install 'agit-hub[video]'`" in text
