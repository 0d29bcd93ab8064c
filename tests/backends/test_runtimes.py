"""Files of OpenVINO at work do nothing to the process that they work in."""

import subprocess
import sys

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
signal.signal(signal.SIGINT, lambda number, frame: print("told"))
signal.raise_signal(signal.SIGINT)
"""


def test_a_signal_comes_through_when_sessions_have_ended(files: Files) -> None:
    paths = [str(exported.path) for exported in files("openvino", False)]
    run = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, *paths], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "told\n"), run.stderr
