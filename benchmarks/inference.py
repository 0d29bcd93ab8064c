"""What a translation takes by each backend, and a folder of pictures, against plain PyTorch.

    python train_accelerate.py --config shapes --model.channels 32 --model.blocks 9 \
        --model.attention_channels 32 --train.max_steps 300 --output_dir runs/wide
    python -m benchmarks.inference --model runs/wide/model [--out docs/results/inference.json]

Contenders take turns on the same pictures of 256 pixels, each in a process of its own, and translate five
of them in a turn: nobody has only one. The first
command trains networks as large as the paper's. How far translations are from plain PyTorch's is measured
too, for a fast answer that is another one is no answer.
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from agit_hub.data import shapes
from agit_hub.inference.image_processor import to_tensor
from agit_hub.models.agit import AGITModel
from agit_hub.models.equations import composite
from benchmarks.interleaved import compare, serve, table

SIZE = 256
PICTURES = 500
TURN = 5
BACKENDS = {
    "ours torch": ("torch", torch.float32),
    "ours compile": ("compile", torch.float32),
    "ours onnx": ("onnx", torch.float32),
    "ours openvino": ("openvino", torch.float32),
    "ours openvino half": ("openvino", torch.float16),
}


def _model() -> AGITModel:
    return AGITModel.from_pretrained(os.environ["AGIT_BENCH_MODEL"])


def _picture() -> torch.Tensor:
    return to_tensor(shapes.draw("plain", 0, size=SIZE)[0])


def plain() -> Callable[[], object]:
    """Eager, fp32, as in the usual test script."""
    model, picture = _model(), _picture()

    def act() -> torch.Tensor:
        with torch.no_grad():
            attention, generated = model.attention_s(picture), model.generator_st(picture)
            return attention * generated + (1 - attention) * picture

    return act


def backend(name: str) -> Callable[[], tuple[torch.Tensor, torch.Tensor]]:
    """The networks by one of the pipeline's backends."""
    from agit_hub.backends.auto import choose_backend

    run = choose_backend(_model(), *BACKENDS[name])
    picture = _picture()
    return lambda: run(picture, "striped")


def loop(folder: Path) -> Callable[[], object]:
    """A call of the pipeline for each picture, one after the other, by PyTorch."""
    from agit_hub.inference.pipeline import AGITPipeline

    pipe = AGITPipeline(_model())

    def act() -> None:
        out = folder / "loop"
        out.mkdir(exist_ok=True)
        for path in sorted(folder.glob("*.png")):
            pipe(Image.open(path), "striped").images[0].save(out / path.name)

    return act


def translate(folder: Path, name: str) -> Callable[[], object]:
    """`agit translate` on the folder, without the time that Python takes to start."""
    from agit_hub.backends.auto import choose_backend
    from agit_hub.inference.batch import BatchTranslator, TranslateOptions
    from agit_hub.inference.edits import AttentionEdits
    from agit_hub.inference.inputs import plan_jobs
    from agit_hub.inference.pipeline import AGITPipeline

    model = _model()
    pipe = AGITPipeline(model, choose_backend(model, *BACKENDS[name]))
    wishes = TranslateOptions(to="striped", edits=AttentionEdits(), overwrite=True)

    def act() -> None:
        jobs = plan_jobs([str(path) for path in sorted(folder.glob("*.png"))], folder / name)
        states = [o.status for o in BatchTranslator(pipe, wishes).run(jobs)]
        assert states == ["done"] * len(jobs), states

    return act


def differences() -> dict[str, float]:
    """How far each backend's translation is from plain PyTorch's at most, of 0 to 255."""
    expected = plain()()
    assert isinstance(expected, torch.Tensor)
    picture, found = _picture(), {}
    for name in BACKENDS:
        attention, generated = backend(name)()
        image = composite(picture, generated, attention)
        found[name] = round(float((image - expected).abs().max()) * 127.5, 3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pictures", type=int, default=PICTURES)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--contender", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # Contenders inherit it.
    os.environ["AGIT_BENCH_MODEL"] = str(arguments.model.resolve())
    if arguments.contender:
        serve(lambda: _contender(arguments.contender))
        return
    results = _measure(arguments)
    print(report(results))
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _contender(words: Sequence[str]) -> Callable[[], object]:
    what, *rest = words
    if what == "loop":
        return loop(Path(rest[0]))
    if what == "translate":
        return translate(Path(rest[1]), rest[0])
    act = plain() if what == "plain" else backend(rest[0])
    return lambda: [act() for _ in range(TURN)]


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    start = ["-m", "benchmarks.inference", f"--model={arguments.model}"]
    start += [f"--threads={arguments.threads}", "--contender"]
    apart = differences()  # which also writes the files that are missing
    networks = {"plain": [*start, "plain"]}
    networks |= {name: [*start, "backend", name] for name in BACKENDS}
    folder = Path(tempfile.mkdtemp())
    try:
        for number in range(arguments.pictures):
            shapes.draw("plain", number, size=SIZE)[0].save(folder / f"{number:04}.png")
        files = {"loop of single calls": [*start, "loop", str(folder)]}
        for name in ("ours torch", "ours openvino", "ours openvino half"):
            files[f"translate, {name}"] = [*start, "translate", name, str(folder)]
        return {
            "machine": f"{platform.processor() or platform.machine()}, {arguments.threads} threads",
            "torch": torch.__version__,
            "networks": compare(networks, "plain", arguments.rounds),
            "differs_by": apart,
            "pictures": arguments.pictures,
            "folder": compare(files, "loop of single calls", rounds=3, warm_up=0),
        }
    finally:
        shutil.rmtree(folder)


def report(results: dict[str, Any]) -> str:
    """All of it in words and tables."""
    apart = ", ".join(f"{name} {value}" for name, value in results["differs_by"].items())
    return "\n".join(
        [
            f"{results['machine']}, torch {results['torch']}; the networks on {SIZE} x {SIZE} pixels, "
            f"{TURN} times a turn",
            "",
            table(results["networks"], "plain"),
            "",
            f"Translations differ from plain PyTorch's by at most, of 255: {apart}.",
            "",
            f"A folder of {results['pictures']} pictures, decoding and encoding included:",
            "",
            table(results["folder"], "loop of single calls"),
        ]
    )


if __name__ == "__main__":
    main()
