"""How long a visitor of the Space waits: for the first answer, and while a slider moves.

The first answer is that of a Space that has just been started, asked for its first example as the page
asks: the time from the start of the process until the translation is there. An edit is what the server
computes and writes each time a slider moves, at about a megapixel: map, outline, composite, and images.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from gradio_client import Client, handle_file
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EDITS = 20
SIZE = 1280, 853


def first_answer() -> float:
    """Return the seconds from the start of a Space to its first translation."""
    from agit_hub.shipped import example_images

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.perf_counter()
    environment = os.environ | {
        "GRADIO_SERVER_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    space = subprocess.Popen(
        [sys.executable, str(ROOT / "space" / "app.py")],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert space.stdout is not None
        for line in space.stdout:
            if "Running on local URL" in line:
                break
        with tempfile.TemporaryDirectory() as results:
            client = Client(f"http://127.0.0.1:{port}", verbose=False, download_files=results)
            client.predict(handle_file(example_images("horse")[0]), api_name="/translate")
            return time.perf_counter() - start
    finally:
        space.terminate()
        space.wait(timeout=30)


def edits() -> list[float]:
    """Return the milliseconds of each edit of a photograph of about a megapixel."""
    from agit_hub.shipped import example_images
    from agit_hub.space.handlers import Handlers
    from agit_hub.space.models import named_models
    from agit_hub.space.service import SpaceService

    models = named_models(None)
    handlers, model = Handlers(SpaceService(models)), next(iter(models))
    taken = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        path = str(Path(folder, "photo.png"))
        Image.open(example_images("horse")[2]).convert("RGB").resize(SIZE).save(path)
        handlers.show(path, "", model, None, 0, 1, False)
        for number in range(EDITS):
            start = time.perf_counter()
            handlers.edit(path, "", model, number / EDITS, 0, 1, False, None, [])
            taken.append(1000 * (time.perf_counter() - start))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="A JSON file for the values.")
    out = parser.parse_args().out
    milliseconds = edits()
    values = {
        "first_answer_s": round(first_answer(), 2),
        "edit_ms": round(statistics.median(milliseconds), 1),
        "slowest_edit_ms": round(max(milliseconds), 1),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(values, indent=2))
    if out is not None:
        out.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
