"""Cost of translations and edits, and the gain of guided upsampling.

    python -m benchmarks.translating [--out docs/results/translating.json]

Times are medians with their range; memory is a fresh process's peak above its idle use.
"""

import argparse
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from agit_hub import AGITConfig, AGITModel, AGITPipeline
from agit_hub.data import shapes
from agit_hub.inference.guided_upsampling import BandedUpsampler
from benchmarks.harness import ROOT, main, resident, run_probe, timed

ROUNDS = 7


def _photograph(width: int, height: int) -> Image.Image:
    """Noise at several scales, with as much detail everywhere as photographs have in places."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = random.integers(-8, 9, (height, width, 3), dtype=np.int16)
    return Image.fromarray((np.asarray(image) + grain).clip(0, 255).astype(np.uint8))


def large() -> dict[str, Any]:
    """An image of 12 megapixels with the paper's networks."""
    pipe = AGITPipeline(AGITModel(AGITConfig()))
    pipe.model.to("cpu")
    image = _photograph(4000, 3000)
    pipe(image.resize((300, 300)))  # an idle process has translated before
    idle = resident()
    pipe(image)
    beyond = round((resident(peak=True) - idle) / 1e6)
    times = timed(lambda _: pipe(image), ROUNDS)
    return {"pixels": "4000 x 3000", **times, "beyond_idle_mb": beyond}


def edits() -> dict[str, Any]:
    """New outputs of an image of 1 megapixel by the Space's own handler, without encoding."""
    from agit_hub.inference.edits import AttentionEdits
    from agit_hub.shipped import SMALL_MODEL
    from agit_hub.space.models import named_models
    from agit_hub.space.service import SpaceService, preview
    from agit_hub.space.zerogpu import ZeroGpu

    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"agit-bench-{os.getpid()}.png"
    _photograph(1024, 1024).save(path)
    calls = []

    def counted(predict: Any) -> Any:
        return lambda *arguments: calls.append(arguments) or predict(*arguments)

    service = SpaceService(named_models(str(SMALL_MODEL)), ZeroGpu(counted))

    def move(number: int, **options: Any) -> None:
        rendering = service.render(
            str(path), "striped", "demo", AttentionEdits(threshold=number / 20, **options)
        )
        preview(rendering).overlay()

    try:
        measured = {
            "threshold": timed(move, ROUNDS),
            "threshold_with_feather_20": timed(lambda number: move(number, feather=20), ROUNDS),
        }
    finally:
        path.unlink()
    return {"pixels": "1024 x 1024", **measured, "network_runs": len(calls)}


def upsampling() -> dict[str, Any]:
    """IoU of (map > 0.5) with the true mask, on drawings at four times the networks' size."""
    pipe = AGITPipeline.from_pretrained(ROOT / "space" / "models" / "agit-shapes", device="cpu")
    ious: dict[str, dict[str, float]] = {}
    for label, to in (shapes.LABELS, shapes.LABELS[::-1]):
        found: dict[str, list[float]] = {"bilinear": [], "along_edges": []}
        for index in range(40):
            image, mask = shapes.draw(label, index, size=256, seed=9)
            prediction = pipe.predict(image, to)
            bilinear = BandedUpsampler(prediction.attention, image.size).rows(0, 256)[0].numpy()
            maps = {"bilinear": bilinear, "along_edges": prediction.raw_attention}
            for name, attention in maps.items():
                inside = attention > 0.5
                found[name].append((inside & mask).sum() / (inside | mask).sum())
        ious[label] = {name: round(float(np.mean(each)), 4) for name, each in found.items()}
    return ious


def start() -> dict[str, Any]:
    """From `python space/app.py` to the first image translated by its API."""
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
            example = ROOT / "space" / "examples" / "plain" / "plain-1.png"
            client.predict(handle_file(example), api_name="/translate")
        finally:
            app.terminate()
            app.wait()

    return timed(first, rounds=3)


PARTS = {"large": large, "edits": edits, "upsampling": upsampling, "start": start}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    versions = {"cores": os.cpu_count(), "python": platform.python_version()}
    versions |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    results = {name: run_probe([*arguments.command, name]) for name in PARTS}
    return {"machine": versions, **results}


if __name__ == "__main__":
    main("benchmarks.translating", __doc__, measure, probe=lambda _, name: PARTS[name]())
