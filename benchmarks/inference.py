"""Speed of a translation by each backend, and of a folder of images, against plain PyTorch.

    python train_accelerate.py --config shapes --model.channels 32 --model.blocks 9 \
        --model.attention_channels 32 --train.max_steps 300 --output_dir runs/wide
    python -m benchmarks.inference --model runs/wide/model [--out docs/results/inference.json]

Variants run interleaved on the same images of 256 pixels, each in a process of its own, and translate
five of them in a turn. The first command trains networks as large as the paper's. The difference from
plain PyTorch's translations is measured too.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from agit_hub.data import shapes
from agit_hub.inference.image_processor import to_tensor
from agit_hub.models.agit import AGITModel
from agit_hub.models.equations import composite
from benchmarks.harness import compare, machine, main, serve, table

SIZE = 256
TURN = 5
BACKENDS = {
    "ours torch": ("torch", torch.float32),
    "ours compile": ("compile", torch.float32),
    "ours onnx": ("onnx", torch.float32),
    "ours openvino": ("openvino", torch.float32),
    "ours openvino float16": ("openvino", torch.float16),
}


def _image() -> torch.Tensor:
    return to_tensor(shapes.draw("plain", 0, size=SIZE)[0])


def plain(model: AGITModel) -> Callable[[], torch.Tensor]:
    """Eager, fp32, as in the usual test script."""
    image = _image()

    def act() -> torch.Tensor:
        with torch.no_grad():
            attention, generated = model.attention_s(image), model.generator_st(image)
            return attention * generated + (1 - attention) * image

    return act


def backend(model: AGITModel, name: str) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """The networks by one of the pipeline's backends."""
    from agit_hub.backends.auto import choose_backend

    run = choose_backend(model, *BACKENDS[name])
    image = _image()
    return lambda: run(image, "striped")


def loop(model: AGITModel, folder: Path) -> Callable[[], object]:
    """A call of the pipeline for each image, one after the other, by PyTorch."""
    from agit_hub.inference.pipeline import AGITPipeline

    pipe = AGITPipeline(model)

    def act() -> None:
        out = folder / "loop"
        out.mkdir(exist_ok=True)
        for path in sorted(folder.glob("*.png")):
            pipe(Image.open(path), "striped").images[0].save(out / path.name)

    return act


def translate(model: AGITModel, folder: Path, name: str) -> Callable[[], object]:
    """`agit translate` on the folder, without Python's start."""
    from agit_hub.backends.auto import choose_backend
    from agit_hub.inference.batch import BatchTranslator, TranslateOptions
    from agit_hub.inference.edits import AttentionEdits
    from agit_hub.inference.inputs import plan_jobs
    from agit_hub.inference.pipeline import AGITPipeline

    pipe = AGITPipeline(model, choose_backend(model, *BACKENDS[name]))
    options = TranslateOptions(to="striped", edits=AttentionEdits(), overwrite=True)

    def act() -> None:
        jobs = plan_jobs([str(path) for path in sorted(folder.glob("*.png"))], folder / name)
        states = [o.status for o in BatchTranslator(pipe, options).run(jobs)]
        assert states == ["done"] * len(jobs), states

    return act


def probe(arguments: argparse.Namespace, name: str, folder: str = "", by: str = "") -> None:
    torch.set_num_threads(arguments.threads)

    def make() -> Callable[[], object]:
        model = AGITModel.from_pretrained(arguments.model)
        if name == "loop":
            return loop(model, Path(folder))
        if name == "translate":
            return translate(model, Path(folder), by)
        act = plain(model) if name == "plain" else backend(model, name)
        return lambda: [act() for _ in range(TURN)]

    serve(make)


def differences(model: AGITModel) -> dict[str, float]:
    """Maximum difference of each backend's translation from plain PyTorch's, of 0 to 255."""
    expected, image, found = plain(model)(), _image(), {}
    for name in BACKENDS:
        attention, generated = backend(model, name)()
        difference = composite(image, generated, attention) - expected
        found[name] = round(float(difference.abs().max()) * 127.5, 3)
    return found


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(arguments.threads)
    # This also writes exported files that are missing.
    differs_by = differences(AGITModel.from_pretrained(arguments.model))
    command = arguments.command
    networks = {name: [*command, name] for name in ("plain", *BACKENDS)}
    folder = Path(tempfile.mkdtemp())
    try:
        for number in range(arguments.images):
            shapes.draw("plain", number, size=SIZE)[0].save(folder / f"{number:04}.png")
        files = {"loop of single calls": [*command, "loop", str(folder)]}
        for name in ("ours torch", "ours openvino", "ours openvino float16"):
            files[f"translate, {name}"] = [*command, "translate", str(folder), name]
        return {
            "machine": machine(arguments.threads),
            "torch": torch.__version__,
            "networks": compare(networks, "plain", arguments.rounds),
            "differs_by": differs_by,
            "images": arguments.images,
            "folder": compare(files, "loop of single calls", rounds=3, warm_up=0),
        }
    finally:
        shutil.rmtree(folder)


def report(results: dict[str, Any]) -> str:
    """Format the results as text and tables."""
    differs = ", ".join(f"{name} {value}" for name, value in results["differs_by"].items())
    return "\n\n".join(
        [
            f"{results['machine']}, torch {results['torch']}; the networks on {SIZE} x {SIZE} pixels, "
            f"{TURN} times a turn",
            table(results["networks"], "plain"),
            f"Translations differ from plain PyTorch's by at most, of 255: {differs}.",
            f"A folder of {results['images']} images, decoding and encoding included:",
            table(results["folder"], "loop of single calls"),
        ]
    )


if __name__ == "__main__":
    OPTIONS = {
        "model": {"type": Path, "required": True},
        "rounds": {"type": int, "default": 15},
        "images": {"type": int, "default": 500},
        "threads": {"type": int, "default": os.cpu_count() or 1},
    }
    main("benchmarks.inference", __doc__, measure, report, OPTIONS, probe)
