"""OpenVINO sessions do not affect their process."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from agit_hub.backends.runtimes import open_session
from tests.backends.conftest import Files

INTERRUPTED = """
import faulthandler, gc, signal, sys
from pathlib import Path
from agit_hub.backends.runtimes import open_session

faulthandler.enable()
sessions = [open_session(Path(path)) for path in sys.argv[1:]]
while sessions:
    del sessions[0]
    gc.collect()
signal.signal(signal.SIGINT, lambda number, frame: print("exported"))
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.slow
def test_openvino_sessions_ended_signals_still_work(files: Files) -> None:
    paths = [str(exported.path) for exported in files("openvino", torch.float32)]
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *paths], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "exported\n"), run.stderr


def test_openvino_session_serves_threads_at_once(files: Files) -> None:
    session = open_session(files("openvino", torch.float32)[0].path)
    images = [np.full((1, 3, 64, 64), value / 8 - 1, np.float32) for value in range(16)]
    expected = [session(image) for image in images]
    with ThreadPoolExecutor(8) as threads:
        for wanted, found in zip(expected, threads.map(session, images), strict=True):
            assert all(np.array_equal(*pair) for pair in zip(wanted, found, strict=True))
