"""What translating and edits take, and what guided enlarging gives.

    python -m benchmarks.translating [--out docs/results/translating.json]

Times are medians with their range; memory is a fresh process' peak beyond what it holds while idle.
"""

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from agit_hub import AGITConfig, AGITModel, AGITPipeline
from agit_hub.data import shapes
from agit_hub.inference.guided_upsampling import BandedUpsampler
from benchmarks.memory import resident

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 7


def _photograph(width: int, height: int) -> Image.Image:
    """Noise of several sizes: as much detail everywhere as a photograph has somewhere."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = random.integers(-8, 9, (height, width, 3), dtype=np.int16)
    return Image.fromarray((np.asarray(picture) + grain).clip(0, 255).astype(np.uint8))


def _timed(act: Callable[[int], object], rounds: int = ROUNDS) -> dict[str, float]:
    act(0)
    taken = []
    for number in range(1, rounds + 1):
        start = time.perf_counter()
        act(number)
        taken.append(time.perf_counter() - start)
    return {
        "median_s": round(statistics.median(taken), 4),
        "from_s": round(min(taken), 4),
        "to_s": round(max(taken), 4),
    }


def large() -> dict[str, Any]:
    """A picture of 12 megapixels with the paper's networks, in this fresh process."""
    pipe = AGITPipeline(AGITModel(AGITConfig()))
    pipe.model.to("cpu")
    picture = _photograph(4000, 3000)
    pipe(picture.resize((300, 300)))  # what a process that idles has behind it
    idle = resident("now")
    pipe(picture)
    beyond = round((resident("at most") - idle) / 1e6)
    return {"pixels": "4000 x 3000", **_timed(lambda _: pipe(picture)), "beyond_idle_mb": beyond}


def edits() -> dict[str, Any]:
    """New outputs of a picture of 1 megapixel by the Space's own handler, without encoding."""
    from agit_hub.inference.edits import AttentionEdits
    from agit_hub.space.service import SpaceService, named_models, preview
    from agit_hub.space.zerogpu import ZeroGpu

    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"agit-bench-{os.getpid()}.png"
    _photograph(1024, 1024).save(path)
    asked = []

    def counted(ask: Any) -> Any:
        return lambda *arguments: asked.append(arguments) or ask(*arguments)

    studio = SpaceService(named_models(None), ZeroGpu(counted))

    def move(number: int, **wishes: Any) -> None:
        rendering = studio.render(
            str(path), "striped", "demo", AttentionEdits(threshold=number / 20, **wishes)
        )
        preview(rendering).overlay()

    try:
        measured = {
            "threshold": _timed(move),
            "threshold_with_feather_20": _timed(lambda number: move(number, feather=20)),
        }
    finally:
        path.unlink()
    return {"pixels": "1024 x 1024", **measured, "network_runs": len(asked)}


def enlarging() -> dict[str, Any]:
    """IoU of (map > 0.5) with the true mask, on drawings at four times the networks' size."""
    pipe = AGITPipeline.from_pretrained(ROOT / "space" / "models" / "agit-shapes", device="cpu")
    ious: dict[str, dict[str, list[float]]] = {}
    for label, to in (shapes.LABELS, shapes.LABELS[::-1]):
        found = ious[label] = {"bilinear": [], "along_edges": []}
        for index in range(40):
            picture, mask = shapes.draw(label, index, size=256, seed=9)
            proposal = pipe.predict(picture, to)
            plain = BandedUpsampler(proposal.attention, picture.size).rows(0, 256)[0].numpy()
            for way, attention in (("bilinear", plain), ("along_edges", proposal.raw_attention)):
                inside = attention > 0.5
                found[way].append((inside & mask).sum() / (inside | mask).sum())
    return {
        label: {way: round(float(np.mean(each)), 4) for way, each in found.items()}
        for label, found in ious.items()
    }


def start() -> dict[str, Any]:
    """From `python space/app.py` to the first translated picture by its API."""
    from gradio_client import Client, handle_file

    def first(_: int) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        variables = {"GRADIO_SERVER_PORT": str(port), "HF_HUB_OFFLINE": "1"}
        variables |= {"GRADIO_ANALYTICS_ENABLED": "False", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, str(ROOT / "space" / "app.py")]
        app = subprocess.Popen(
            command, env=os.environ | variables, stdout=subprocess.PIPE, text=True
        )
        try:
            assert app.stdout is not None
            next(line for line in app.stdout if "Running on local URL" in line)
            client = Client(f"http://127.0.0.1:{port}", verbose=False)
            example = ROOT / "space" / "examples" / "plain-1.png"
            client.predict(handle_file(example), api_name="/translate")
        finally:
            app.terminate()
            app.wait()

    return _timed(first, rounds=3)


def _alone(name: str) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.translating", "--part", name]
    ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return json.loads(ran.stdout)


PARTS = {"large": large, "edits": edits, "enlarging": enlarging, "start": start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(PARTS[arguments.part]()))
        return
    machine = {"cores": os.cpu_count(), "python": platform.python_version()}
    machine |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    report = {"machine": machine, **{name: _alone(name) for name in PARTS}}
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
