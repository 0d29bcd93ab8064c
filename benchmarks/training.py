"""Speed of a training step against the same step written plainly, its breakdown and lower bound.

    python -m benchmarks.training [--port FOLDER] [--out docs/results/training.json]

Variants run interleaved on the same two batches, each in a process of its own. `--port` adds the step of
yhlleo/uaggan from a checkout of it, which shows that the plain step is not a slow one.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import compare, machine, main, serve, table
from benchmarks.step_profile import breakdown, channels_last, lower_bound, operations


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
    """The step of a run of `horse2zebra_paper`, and its phase before the switch."""
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

    Its own discriminators need a seventh of the operations of the paper's.
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
        weights = [*model.netD_A.parameters(), *model.netD_B.parameters()]
        model.optimizer_D = torch.optim.Adam(weights, lr=1e-4, betas=(0.5, 0.999))
    for each in vars(model).values():
        if isinstance(each, torch.nn.Module):
            each.to(arguments.device)
    source, target = _batches(arguments)

    def act() -> None:
        model.set_input({"A": source, "B": target, "A_paths": [], "B_paths": []})
        model.optimize_parameters(epoch=0)
        for name in model.loss_names:  # its own loop reads them for the log
            float(getattr(model, "loss_" + name))

    return act


VARIANTS: dict[str, Callable[[argparse.Namespace], Callable[[], object]]] = {
    "plain": plain,
    "ours fp32": lambda arguments: ours(arguments, "no"),
    "ours bf16": lambda arguments: ours(arguments, "bf16"),
    "ours bf16, compiled": lambda arguments: ours(arguments, "bf16", compile=True),
    "port": lambda arguments: port(arguments, papers_discriminators=False),
    "port, the paper's discriminators": lambda arguments: port(arguments, True),
}


def probe(arguments: argparse.Namespace, name: str) -> None:
    torch.set_num_threads(arguments.threads)
    serve(lambda: VARIANTS[name](arguments), arguments.device)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(arguments.threads)
    names = [name for name in VARIANTS if arguments.port or not name.startswith("port")]
    commands = {name: [*arguments.command, name] for name in names}
    steps = compare(commands, "plain", arguments.rounds)
    step, phase = our_step(arguments, "no")
    batches = _batches(arguments)
    return {
        "machine": machine(arguments.threads),
        "torch": torch.__version__,
        "images": f"{arguments.size} x {arguments.size}, batches of {arguments.batch}",
        "steps": steps,
        "breakdown": breakdown(step, phase, batches),
        "operations": operations(step, phase, batches),
        "channels_last": channels_last(step, batches),
        "lower_bound": lower_bound(step, phase, batches),
    }


def report(results: dict[str, Any]) -> str:
    """Format the results as text and tables."""
    parts = "\n".join(f"| {part} | {share:.1%} |" for part, share in results["breakdown"].items())
    bound = results["lower_bound"]
    last = " and ".join(f"{ratio} in {name}" for name, ratio in results["channels_last"].items())
    kinds = "\n".join(
        f"| {kind} | {seconds:.2f} | {results['operations']['bf16'][kind]:.2f} |"
        for kind, seconds in results["operations"]["fp32"].items()
    )
    rates = ", ".join(f"{name} {rate:.0f}" for name, rate in bound["gflops_per_s"].items())
    return "\n\n".join(
        [
            f"{results['machine']}, torch {results['torch']}; {results['images']}",
            table(results["steps"], "plain"),
            f"| part of our step (fp32) | share of the time |\n|---|---|\n{parts}",
            f"| operation, seconds | fp32 | bf16 |\n|---|---|---|\n{kinds}",
            f"Counted: {bound['gflop']:.0f} GFLOP a step. The fastest convolutions here, GFLOP/s: "
            f"{rates}. So a step takes at least {bound['seconds']['fp32']:.2f} s in fp32 and "
            f"{bound['seconds']['bf16']:.2f} s in bf16.",
            f"A generator runs forward and backward {last} times as fast with channels last as without.",
        ]
    )


if __name__ == "__main__":
    OPTIONS = {
        "size": {"type": int, "default": 128},
        "batch": {"type": int, "default": 2},
        "device": {"default": "cpu"},
        "rounds": {"type": int, "default": 9},
        "threads": {"type": int, "default": os.cpu_count() or 1},
        "port": {"type": Path, "help": "a checkout of yhlleo/uaggan"},
    }
    main("benchmarks.training", __doc__, measure, report, OPTIONS, probe)
