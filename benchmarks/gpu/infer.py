"""Speed of translations on one device, by size, precision and compilation, and of a video.

python -m benchmarks.gpu.infer --out OUT.json --device cuda --until $(($(date +%s) + 60))

The paper's networks with random weights. OUT is written after each row.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, repeat
from typing import Any

import numpy as np
import torch
from PIL import Image

from agit_hub.backends.base import TorchBackend
from agit_hub.config import AGITConfig
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from benchmarks.gpu.timing import arguments, last_start, measure_rows, seconds_each

KINDS = {
    "float32": (False, torch.float32),
    "float16": (False, torch.float16),
    "float16, compiled": (True, torch.float16),
}


def plan(device: str) -> Iterator[tuple[str, str, Callable[[], dict[str, Any]]]]:
    """Yield what is measured, its kind and how, the most important first."""
    on_gpu = device == "cuda"
    sizes, frame = ((256, 512, 1024), (1920, 1080)) if on_gpu else ((32,), (96, 54))
    least = 0.5 if on_gpu else 0.0
    for kind in KINDS if on_gpu else ("float32", "float16"):
        for size in sizes:
            yield f"{size} px", kind, partial(networks, size, kind, device, least)
        if kind != "float16, compiled":
            name = f"a video of {frame[0]} x {frame[1]}"
            yield name, kind, partial(video, frame, kind, device, least)


@torch.inference_mode()
def networks(size: int, kind: str, device: str, least: float) -> dict[str, Any]:
    """Milliseconds of one image, and images a second in batches of 16, from tensors to tensors."""
    compiled, dtype = KINDS[kind]
    run = TorchBackend(_model(size, device), compiled, dtype)._run
    images = (torch.rand(16, 3, size, size, device=device) * 2 - 1).clamp(-1, 1)
    alone = seconds_each(lambda: run(images[:1], None), device, least)
    together = seconds_each(lambda: run(images, None), device, least)
    return {"ms": round(alone * 1e3, 2), "images_per_s": round(16 / together, 1)}


def video(size: tuple[int, int], kind: str, device: str, least: float) -> dict[str, Any]:
    """Frames a second through the whole pipeline: resizing, networks, compositing in full size."""
    compiled, dtype = KINDS[kind]
    model = _model(256, device)
    pipe = AGITPipeline(model, TorchBackend(model, compiled, dtype))
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    frames = pipe.stream(repeat(Image.fromarray(pixels)))
    next(frames)
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < least or count < 2:
        count += len(list(islice(frames, 1)))
    return {"frames_per_s": round(count / (time.perf_counter() - start), 2)}


def _model(size: int, device: str) -> AGITModel:
    torch.manual_seed(0)
    small = {} if device == "cuda" else {"channels": 8, "blocks": 1, "attention_channels": 8}
    return AGITModel(AGITConfig(image_size=size, **small)).eval().to(device)  # type: ignore[arg-type]


def report(results: dict[str, Any]) -> str:
    """Format the results as a table."""
    lines = [f"{results['device']}, torch {results['torch']}", ""]
    lines += ["| | precision | ms an image | images/s in batches of 16 | frames/s |"]
    lines.append("|---|---|---|---|---|")
    for row in results["rows"]:
        values = [row.get(key, "") for key in ("ms", "images_per_s", "frames_per_s")]
        if "error" in row:
            values[0] = row["error"]
        cells = [row["what"], row["kind"], *values]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    options = arguments(__doc__)
    torch.backends.cudnn.benchmark = True
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    results: dict[str, Any] = {"device": name, "torch": torch.__version__, "rows": []}
    rows = (({"what": what, "kind": kind}, act) for what, kind, act in plan(options.device))
    measure_rows(options.out, last_start(options.until, 15), results, rows)


if __name__ == "__main__":
    main()
