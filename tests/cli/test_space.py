"""`agit space`: the Space from the command line."""

import os
import re
import socket
import subprocess
import sys

import pytest
from gradio_client import Client, handle_file
from PIL import Image

from tests.space.conftest import DEMO_MODEL, SPACE, free_port

pytestmark = pytest.mark.slow


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


def test_space_missing_model_exits_with_2() -> None:
    done = _agit("--model", "nowhere/nothing")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: nowhere/nothing ")


def test_space_missing_gradio_is_named() -> None:
    done = _agit(program="sys.modules['gradio'] = None")
    assert done.returncode == 2
    assert re.match(r"error: gradio .*'agit-hub\[space\]'", done.stderr)


def test_space_serves_named_model() -> None:
    port = free_port()
    command = [sys.executable, "-m", "agit_hub.cli", "space", "--port", str(port)]
    started = subprocess.Popen(
        [*command, "--model", str(DEMO_MODEL)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1", "GRADIO_ANALYTICS_ENABLED": "False"},
    )
    try:
        assert started.stdout is not None
        line = next(line for line in started.stdout if "Running on local URL" in line)
        assert line.split()[-1] == f"http://127.0.0.1:{port}"
        client = Client(line.split()[-1], verbose=False)
        example = SPACE / "examples" / "striped" / "striped-1.png"
        image, _, _ = client.predict(
            handle_file(example), to="plain", model="agit-shapes", api_name="/translate"
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
