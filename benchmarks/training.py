"""What a training step takes against the same step written plainly, where its time goes, and its floor.

    python -m benchmarks.training [--port FOLDER] [--out docs/results/training.json]

Contenders take turns on the same two batches, each in a process of its own. `--port` adds the step of
yhlleo/uaggan from a checkout of it, which shows that the plain step is not a slow one.
"""

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.interleaved import compare, serve, table
from benchmarks.where import breakdown, channels_last, floor, operations

THREADS = os.cpu_count() or 1


def _batches(arguments: argparse.Namespace) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    shape = (arguments.batch, 3, arguments.size, arguments.size)
    source, target = (torch.rand(shape, generator=random) * 2 - 1 for _ in range(2))
    return source.to(arguments.device), target.to(arguments.device)


def plain(arguments: argparse.Namespace) -> Callable[[], object]:
    """The baseline."""
    from agit_hub.config import AGITConfig
    from benchmarks.plain import PlainStep

    step = PlainStep(AGITConfig(image_size=arguments.size), arguments.device)
    source, target = _batches(arguments)
    return lambda: step(source, target)


def ours(
    arguments: argparse.Namespace, precision: str, compile: bool = False
) -> Callable[[], object]:
    """The step of `agit_hub.training`, with the paper's settings."""
    step, phase = our_step(arguments, precision)
    if compile:
        step.networks.compile_each()
    from agit_hub.data.loader import Batch

    batch = Batch(*_batches(arguments))
    return lambda: step([batch], phase)


def our_step(arguments: argparse.Namespace, precision: str) -> tuple[Any, Any]:
    """As a run of `horse2zebra_paper` has it, and what holds before the switch."""
    from accelerate import Accelerator

    from agit_hub.training.config_loader import parse
    from agit_hub.training.schedule import Schedule
    from agit_hub.training.setup import build_networks
    from agit_hub.training.step import Step

    places = ["--data.source.path=a", "--data.target.path=b"]
    sizes = [f"--model.image_size={arguments.size}", f"--train.mixed_precision={precision}"]
    config = parse(["--config", "horse2zebra_paper", *places, *sizes]).config
    accelerator = Accelerator(cpu=arguments.device == "cpu", mixed_precision=precision)
    networks = build_networks(config, warm=False).to(accelerator.device)
    step = Step(networks, config.train, accelerator, pool_seed=0)
    return step, Schedule(config.train, 1000).phase(0)


def port(arguments: argparse.Namespace, papers_discriminators: bool) -> Callable[[], object]:
    """The step of yhlleo/uaggan, with its own networks, pool and losses.

    Its own discriminators count a seventh of the operations of the paper's.
    """
    sys.path.insert(0, str(arguments.port.resolve()))
    from models.uag_gan_model import UAGGANModel

    torch.manual_seed(0)
    options = SimpleNamespace(
        **{"isTrain": True, "gpu_ids": [], "checkpoints_dir": ".", "name": ".", "preprocess": ""},
        **{"input_nc": 3, "output_nc": 3, "ngf": 32, "ndf": 64, "norm": "instance"},
        **{"init_type": "normal", "init_gain": 0.02, "pool_size": 50, "use_mask_for_D": False},
        **{"gan_mode": "lsgan", "lr": 1e-4, "beta1": 0.5, "direction": "AtoB", "thresh": 0.1},
        **{"lambda_A": 10.0, "lambda_B": 10.0, "use_early_stopping": False},
    )
    model = UAGGANModel(options)
    model.device = torch.device(arguments.device)
    if papers_discriminators:
        from agit_hub.models.discriminators import PatchDiscriminator

        model.netD_A, model.netD_B = PatchDiscriminator(), PatchDiscriminator()
        judges = [*model.netD_A.parameters(), *model.netD_B.parameters()]
        model.optimizer_D = torch.optim.Adam(judges, lr=1e-4, betas=(0.5, 0.999))
    for each in vars(model).values():
        if isinstance(each, torch.nn.Module):
            each.to(arguments.device)
    source, target = _batches(arguments)

    def act() -> None:
        model.set_input({"A": source, "B": target, "A_paths": [], "B_paths": []})
        model.optimize_parameters(epoch=0)
        for name in model.loss_names:  # as its own loop fetches them for the log
            float(getattr(model, "loss_" + name))

    return act


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--port", type=Path, help="a checkout of yhlleo/uaggan")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.contender:
        _serve(arguments)
        return
    results = _measure(arguments)
    print(report(results))
    if arguments.out:
        arguments.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _serve(arguments: argparse.Namespace) -> None:
    makers: dict[str, Callable[[], Callable[[], object]]] = {
        "plain": lambda: plain(arguments),
        "ours fp32": lambda: ours(arguments, "no"),
        "ours bf16": lambda: ours(arguments, "bf16"),
        "ours bf16, compiled": lambda: ours(arguments, "bf16", compile=True),
        "port": lambda: port(arguments, papers_discriminators=False),
        "port, the paper's discriminators": lambda: port(arguments, papers_discriminators=True),
    }
    serve(makers[arguments.contender], arguments.device)


def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    names = ["plain", "ours fp32", "ours bf16", "ours bf16, compiled"]
    names += ["port", "port, the paper's discriminators"] * bool(arguments.port)
    passed = [
        f"--{key}={getattr(arguments, key)}" for key in ("size", "batch", "device", "threads")
    ]
    passed += [f"--port={arguments.port}"] * bool(arguments.port)
    commands = {n: ["-m", "benchmarks.training", *passed, f"--contender={n}"] for n in names}
    compared = compare(commands, "plain", arguments.rounds)
    step, phase = our_step(arguments, "no")
    return {
        "machine": f"{platform.processor() or platform.machine()}, {arguments.threads} threads",
        "torch": torch.__version__,
        "pictures": f"{arguments.size} x {arguments.size}, batches of {arguments.batch}",
        "steps": compared,
        "where": breakdown(step, phase, _batches(arguments)),
        "operations": operations(step, phase, _batches(arguments)),
        "channels_last": channels_last(step, _batches(arguments)),
        "floor": floor(step, phase, _batches(arguments)),
    }


def report(results: dict[str, Any]) -> str:
    """All of it in words and tables."""
    where = "\n".join(f"| {part} | {share:.1%} |" for part, share in results["where"].items())
    least = results["floor"]
    last = " and ".join(f"{ratio} in {name}" for name, ratio in results["channels_last"].items())
    kinds = "\n".join(
        f"| {kind} | {seconds:.2f} | {results['operations']['bf16'][kind]:.2f} |"
        for kind, seconds in results["operations"]["fp32"].items()
    )
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in least["gflops_per_s"].items())
    return "\n".join(
        [
            f"{results['machine']}, torch {results['torch']}; {results['pictures']}",
            "",
            table(results["steps"], "plain"),
            "",
            f"| where a step of ours (fp32) goes | |\n|---|---|\n{where}",
            "",
            f"| its seconds by operation | fp32 | bf16 |\n|---|---|---|\n{kinds}",
            "",
            f"Counted: {least['gflop']:.0f} GFLOP a step. The best convolutions here, GFLOP/s: {rates}. "
            f"So a step takes at least {least['seconds']['fp32']:.2f} s in fp32 and "
            f"{least['seconds']['bf16']:.2f} s in bf16.",
            "",
            f"A generator with channels last goes there and back {last} times as fast as without.",
        ]
    )


if __name__ == "__main__":
    main()
