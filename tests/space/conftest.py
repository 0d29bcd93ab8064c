"""The Space in a process of its own, over HTTP and in a real browser."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page

ROOT = Path(__file__).resolve().parents[2]
SPACE = ROOT / "space"
DEMO_MODEL = SPACE / "models" / "agit-shapes"


class Started(NamedTuple):
    """A running Space."""

    address: str
    pid: int
    log: list[str]
    """Its output, which grows."""


@contextmanager
def serve(
    folder: Path,
    app: Path = SPACE / "app.py",
    python: str = sys.executable,
    check_log: bool = True,
    **variables: str,
) -> Iterator[Started]:
    """Start the Space with its files in a folder, and wait until it listens.

    With `check_log` no traceback may be in its log.
    """
    folder.mkdir(exist_ok=True)
    environment = os.environ | {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(folder / "gradio"),
        "TMPDIR": str(folder),
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
        "GRADIO_SERVER_PORT": str(free_port()),
        **variables,
    }
    started = subprocess.Popen(
        [python, str(app)], env=environment, cwd=folder, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    log: list[str] = []
    try:
        yield Started(_address(started, log), started.pid, log)
    finally:
        started.terminate()
        started.wait(timeout=30)
    tracebacks = [line for line in log if line.startswith("Traceback")]
    assert not (check_log and tracebacks), "".join(log)


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _address(started: subprocess.Popen[str], log: list[str]) -> str:
    assert started.stdout is not None
    for line in started.stdout:
        log.append(line)
        if "Running on local URL:" in line:
            # Later output must be read as well, or the pipe fills up.
            threading.Thread(target=log.extend, args=[started.stdout], daemon=True).start()
            return line.split("URL:")[1].strip()
    raise AssertionError(f"The Space did not start:\n{''.join(log)}")


def relabelled(folder: Path, source: str, target: str) -> Path:
    """Copy the small model with other labels, and so with other examples."""
    shutil.copytree(DEMO_MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    labels = {"source_label": source, "target_label": target}
    (folder / "config.json").write_text(json.dumps(config | labels))
    return folder


@pytest.fixture(scope="session")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a Space with small models, and return its address."""
    folder = tmp_path_factory.mktemp("space")
    models = [
        DEMO_MODEL,
        relabelled(folder / "small-horses", "horse", "zebra"),
        relabelled(folder / "small-fruit", "apple", "orange"),
    ]
    with serve(folder / "files", AGIT_MODELS=",".join(map(str, models))) as started:
        yield started.address


@pytest.fixture
def page(browser: Browser, space: str) -> Iterator[Page]:
    """Open the Space's page, with its first example translated."""
    context = browser.new_context(viewport={"width": 1280, "height": 1100}, accept_downloads=True)
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    opened.goto(space)
    opened.locator("#output img").wait_for()
    opened.locator("#compare img").first.wait_for()
    yield opened
    context.close()


def build_web_page(model: Path, out: Path) -> Path:
    """Build the page that translates in the browser, and return `out`: a file or a folder."""
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine (apt-get install npm)")
    command = [sys.executable, str(SPACE / "web" / "build.py"), "--model", str(model)]
    subprocess.run([*command, "--out", str(out)], check=True)
    return out
