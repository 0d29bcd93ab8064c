"""`agit space`: the Space from the command line."""

import os
import socket
import subprocess
import sys

import pytest
from gradio_client import Client, handle_file
from PIL import Image

from tests.space.conftest import SPACE, free_port


def _agit(*arguments: str, program: str = "pass") -> subprocess.CompletedProcess[str]:
    words = ["-c", f"import sys; {program}; from agit_hub.cli import main; main()"]
    return subprocess.run(
        [sys.executable, *words, "space", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "GRADIO_ANALYTICS_ENABLED": "False"},
    )


def test_a_model_that_is_not_there_ends_with_code_two() -> None:
    done = _agit("--model", "nowhere/nothing")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: nowhere/nothing is no folder here")


def test_gradio_is_named_where_it_is_missing() -> None:
    absent = "import importlib.util as u; find = u.find_spec; "
    absent += "u.find_spec = lambda name, *rest: None if name == 'gradio' else find(name, *rest)"
    done = _agit(program=absent)
    assert done.returncode == 2
    assert done.stderr == "error: gradio is not installed: pip install 'agit-hub[space]'.\n"


def test_it_serves_the_model_that_was_named() -> None:
    port = free_port()
    command = [sys.executable, "-m", "agit_hub.cli", "space", "--port", str(port)]
    started = subprocess.Popen(
        [*command, "--model", str(SPACE / "model")],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "GRADIO_ANALYTICS_ENABLED": "False"},
    )
    try:
        assert started.stdout is not None
        line = next(line for line in started.stdout if "Running on local URL" in line)
        assert line.split()[-1] == f"http://127.0.0.1:{port}"
        client = Client(line.split()[-1], verbose=False)
        example = SPACE / "examples" / "striped-1.png"
        image, _, _ = client.predict(
            handle_file(example), to="plain", model="model", api_name="/translate"
        )
        assert Image.open(image).size == Image.open(example).size
    finally:
        started.terminate()
        started.wait(timeout=30)
    with (
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(("127.0.0.1", port), timeout=1),
    ):
        pass  # nobody is left behind
