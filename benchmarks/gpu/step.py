"""Speed of training steps on one device: the plain one, and ours by precision and compilation.

python -m benchmarks.gpu.step --out OUT.json --device cuda --until $(($(date +%s) + 120))

Eager variants come first, then compiled ones by importance, until the time is up. OUT is written after
each row.
"""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from agit_hub.config import AGITConfig
from agit_hub.data.loader import Batch
from agit_hub.training.config_loader import parse
from agit_hub.training.distributed import configure_device, make_accelerator, memory_format
from agit_hub.training.schedule import Schedule
from agit_hub.training.setup import build_networks
from agit_hub.training.step import Step
from benchmarks.gpu.timing import (
    PEAK_SHAPES,
    arguments,
    convolution_peak,
    kernels,
    last_start,
    measure_rows,
    seconds_each,
)
from benchmarks.plain import PlainStep


@dataclass(frozen=True)
class Workload:
    """Image and batch size of a step."""

    size: int
    batch: int
    config: str = "horse2zebra_paper"

    def __str__(self) -> str:
        recipe = "" if self.config == "horse2zebra_paper" else f", {self.config}"
        return f"{self.size} px, batch {self.batch}{recipe}"


@dataclass(frozen=True)
class Variant:
    """How a step is computed."""

    name: str
    precision: str = "no"
    tf32: bool = True
    channels_last: bool = False
    compile: str | None = None
    plain: bool = False


PLAIN = Variant("plain fp32", tf32=False, plain=True)
EAGER = (
    PLAIN,
    Variant("plain TF32", plain=True),
    Variant("fp32", tf32=False),
    Variant("TF32"),
    Variant("bf16", "bf16"),
    Variant("bf16, channels last", "bf16", channels_last=True),
)
COMPILED = (
    Variant("bf16, compiled", "bf16", compile="default"),
    Variant("bf16, channels last, compiled", "bf16", channels_last=True, compile="default"),
    Variant("bf16, CUDA graphs", "bf16", compile="reduce-overhead"),
)


def workloads(device: str) -> list[Workload]:
    """Return the workloads of a GPU; for a CPU one that takes a second."""
    if device == "cpu":
        return [Workload(16, 1)]
    return [
        Workload(128, 16, "horse2zebra"),
        Workload(256, 1),
        Workload(256, 16),
        Workload(256, 8),
        Workload(128, 16),
    ]


def plan(device: str) -> Iterator[tuple[Workload, Variant]]:
    """Yield what is measured, the most important first."""
    every = workloads(device)
    if device == "cpu":  # a smoke test
        yield from ((work, variant) for work in every for variant in (PLAIN, EAGER[3], EAGER[4]))
        return
    # Compilation is slow: first where it matters most.
    first = [(work, variant) for work in every[:3] for variant in EAGER]
    first += [(every[0], COMPILED[0]), (every[1], COMPILED[2])]
    rest = [(work, variant) for work in every for variant in EAGER + COMPILED]
    for work, variant in dict.fromkeys(first + rest):
        # The plain step is the paper's.
        if not variant.plain or work.config == "horse2zebra_paper":
            yield work, variant


def make(work: Workload, variant: Variant, device: str) -> Callable[[], object]:
    """Return a step of a variant on two fixed batches."""
    random = torch.Generator().manual_seed(0)
    shape = (work.batch, 3, work.size, work.size)
    source, target = ((torch.rand(shape, generator=random) * 2 - 1).to(device) for _ in range(2))
    if variant.plain:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = variant.tf32
        torch.backends.cudnn.benchmark = True
        step = PlainStep(AGITConfig(image_size=work.size), device)
        return lambda: step(source, target)
    return _ours(work, variant, source, target)


def _ours(work: Workload, variant: Variant, source: Tensor, target: Tensor) -> Callable[[], object]:
    _forget_precision()
    config = parse(
        [
            *("--config", work.config, "--data.source.path=a", "--data.target.path=b"),
            *(f"--model.image_size={work.size}", "--data.crop_size=null"),
            f"--train.mixed_precision={variant.precision}",
            f"--train.tf32={str(variant.tf32).lower()}",
            f"--train.channels_last={str(variant.channels_last).lower()}",
            f"--train.torch_compile_mode={variant.compile or 'default'}",
            f"--train.torch_compile={str(variant.compile is not None).lower()}",
        ]
    ).config
    accelerator = make_accelerator(config)
    configure_device(config.train, accelerator.device)
    layout = memory_format(config.train)
    networks = build_networks(config, warm=False).to(accelerator.device)
    networks.to(memory_format=layout)
    step = Step(networks, config.train, accelerator, pool_seed=0)
    if variant.compile:
        networks.compile_each(variant.compile)
    batch = Batch(*(each.contiguous(memory_format=layout) for each in (source, target)))
    # After the warm-up, so that every loss counts.
    phase = Schedule(config.train, 1000).phase(config.train.lambda_cyc_warmup_steps)
    more = [[batch]] * (config.train.discriminator_updates - 1)
    return lambda: step([batch], phase, more)


def _forget_precision() -> None:
    """Reset the mixed precision, which Accelerate keeps for the whole process."""
    AcceleratorState._reset_state(True)
    PartialState._reset_state()


def measure(work: Workload, variant: Variant, device: str) -> dict[str, Any]:
    """Measure one row of the table."""
    on_gpu = device != "cpu"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    act = make(work, variant, device)
    act()
    row: dict[str, Any] = {"first_step_s": round(time.perf_counter() - began, 2)}
    seconds = seconds_each(act, device, least=1.0 if on_gpu else 0.0, warm_up=8 if on_gpu else 0)
    row |= {"ms": round(seconds * 1e3, 2), "pairs_per_s": round(work.batch / seconds, 1)}
    if on_gpu:
        row["megabytes"] = round(torch.cuda.max_memory_allocated() / 1e6)
    return row | kernels(act, device)


def flop(work: Workload, device: str) -> float:
    """Count the operations of a step."""
    act = make(work, PLAIN if work.config == "horse2zebra_paper" else EAGER[2], device)
    with FlopCounterMode(display=False) as counter:
        act()
    return float(counter.get_total_flops())


def report(results: dict[str, Any]) -> str:
    """Format a table for each workload."""
    peaks = ", ".join(f"{name} {value}" for name, value in results["peak_tflops"].items())
    lines = [
        f"{results['device']}, torch {results['torch']}; fastest convolutions, TFLOP/s: {peaks}."
    ]
    for work in dict.fromkeys(row["workload"] for row in results["rows"]):
        lines += ["", f"**{work}**", "", "| | ms a step | pairs/s | share of the peak | launches |"]
        lines.append("|---|---|---|---|---|")
        for row in results["rows"]:
            if row["workload"] != work:
                continue
            if "error" in row:
                lines.append(f"| {row['variant']} | {row['error']} | | | |")
            else:
                lines.append(
                    f"| {row['variant']} | {row['ms']} | {row['pairs_per_s']} "
                    f"| {row['share_of_peak']:.1%} | {row['launches']} |"
                )
    return "\n".join(lines)


def rows(
    device: str, peaks: dict[str, float]
) -> Iterator[tuple[dict[str, Any], Callable[[], dict[str, Any]]]]:
    """Yield each row's workload and variant, and the function that measures it."""
    counted: dict[Workload, float] = {}

    def measure_row(work: Workload, variant: Variant) -> dict[str, Any]:
        counted.setdefault(work, flop(work, device))
        row = measure(work, variant, device)
        rate = counted[work] / row["ms"] * 1e3
        peak = peaks["bf16" if "bf16" in variant.name else "fp32"]
        return row | {
            "tflops": round(rate / 1e12, 2),
            "share_of_peak": round(rate / peak, 3),
        }

    for work, variant in plan(device):
        row = {"workload": str(work), "variant": variant.name}
        row |= {"settings": asdict(variant) | asdict(work)}
        yield row, partial(measure_row, work, variant)
        gc.collect()
        torch.compiler.reset()
        if device == "cuda":
            torch.cuda.empty_cache()


def main() -> None:
    options = arguments(__doc__)
    device = options.device
    end = last_start(options.until, 20)
    name, shapes = "CPU", ((128, 32, 2),)
    if device == "cuda":
        name, shapes = torch.cuda.get_device_name(), PEAK_SHAPES
    peaks = {
        key: convolution_peak(device, dtype, shapes=shapes)
        for key, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    results: dict[str, Any] = {
        "device": name,
        "torch": torch.__version__,
        "peak_tflops": {key: round(value / 1e12, 2) for key, value in peaks.items()},
        "rows": [],
    }
    measure_rows(options.out, end, results, rows(device, peaks))


if __name__ == "__main__":
    main()
