"""Where a training step's time is spent, and the least that its arithmetic could take."""

import copy
import statistics
import time
from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from agit_hub.data.loader import Batch
from benchmarks.gpu.timing import convolution_peak

_SPAN = "part: "


def breakdown(step: Any, phase: Any, images: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Shares of a step by kind of network and direction, optimisers, and the rest, the largest first.

    Forward operations are found by a span around each network, backward ones by the sequence number
    that autograd gives an operation and its derivative.
    """
    networks = step.networks
    parts: dict[str, list[nn.Module]] = {
        "generators": [networks.generator("st"), networks.generator("ts")],
        "attention": [networks.attention("st"), networks.attention("ts")],
        "discriminators": [networks.discriminator("st"), networks.discriminator("ts")],
    }
    hooks = [h for name, modules in parts.items() for m in modules for h in _span(m, name)]
    batch = Batch(*images)
    step([batch], phase)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        start = time.perf_counter()
        step([batch], phase)
        whole = (time.perf_counter() - start) * 1e6
    for hook in hooks:
        hook.remove()
    taken = _by_part(profiled.events())
    taken["everything else"] = max(whole - sum(taken.values()), 0)
    total = sum(taken.values())
    ordered = sorted(taken.items(), key=lambda item: -item[1])
    return {name: round(value / total, 3) for name, value in ordered}


def operations(step: Any, phase: Any, images: tuple[Tensor, Tensor]) -> dict[str, dict[str, float]]:
    """Seconds of a step in convolutions, in norms and in everything else, in both precisions."""
    batch, found = Batch(*images), {}
    for name, low in (("fp32", False), ("bf16", True)):
        with torch.autocast(images[0].device.type, torch.bfloat16, enabled=low):
            step([batch], phase)
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                step([batch], phase)
        taken: dict[str, float] = defaultdict(float)
        for each in profiled.key_averages():
            taken[_kind(each.key)] += each.self_cpu_time_total / 1e6
        found[name] = {kind: round(value, 3) for kind, value in taken.items()}
    return found


def channels_last(step: Any, images: tuple[Tensor, Tensor], rounds: int = 11) -> dict[str, float]:
    """Speed-up of a generator's forward and backward pass by channels last, in both precisions."""
    plain, layout = step.networks.generator("st"), torch.channels_last
    last, permuted = (
        copy.deepcopy(plain).to(memory_format=layout),
        images[0].to(memory_format=layout),
    )
    found = {}
    for name, bf16 in (("fp32", False), ("bf16", True)):
        ratios = [
            _forward_backward(plain, images[0], bf16) / _forward_backward(last, permuted, bf16)
            for _ in range(rounds + 2)
        ]
        found[name] = round(statistics.median(ratios[2:]), 2)
    return found


def _forward_backward(generator: nn.Module, images: Tensor, bf16: bool) -> float:
    """Seconds of a forward and a backward pass, which leave weights and gradients unchanged."""
    weights = [weight for weight in generator.parameters() if weight.requires_grad]
    start = time.perf_counter()
    with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
        loss = generator(images).float().square().mean()
    torch.autograd.grad(loss, weights)[0].sum().item()  # waits for the device
    return time.perf_counter() - start


def lower_bound(step: Any, phase: Any, images: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Operations counted in a step over the rate of the fastest convolution found here."""
    with FlopCounterMode(display=False) as counter:
        step([Batch(*images)], phase)
    flop = counter.get_total_flops()
    shapes = ((64, 128, 4), (128, 64, 8), (256, 32, 16), (512, 32, 8))
    rates = {
        name: convolution_peak(images[0].device.type, dtype, shapes=shapes)
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16))
    }
    return {
        "gflop": round(flop / 1e9, 1),
        "gflops_per_s": {name: round(rate / 1e9, 1) for name, rate in rates.items()},
        "seconds": {name: round(flop / rate, 3) for name, rate in rates.items()},
    }


def _kind(operation: str) -> str:
    if "conv" in operation:
        return "convolutions"
    return "norms" if "norm" in operation else "everything else"


def _span(module: nn.Module, name: str) -> list[Any]:
    open_spans: list[Any] = []

    def enter(*_: Any) -> None:
        open_spans.append(record_function(_SPAN + name))
        open_spans[-1].__enter__()

    def leave(*_: Any) -> None:
        open_spans.pop().__exit__(None, None, None)

    return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def _by_part(events: Any) -> dict[str, float]:
    taken: dict[str, float] = defaultdict(float)
    owner: dict[int, str] = {}
    for event in events:
        part = _part_of(event)
        if part and event.name.startswith(_SPAN):
            taken[f"{part}, forward"] += event.cpu_time_total
        elif part and event.sequence_nr >= 0:
            owner.setdefault(event.sequence_nr, part)
    for event in events:
        if event.name.startswith("autograd::engine::evaluate_function"):
            taken[f"{owner.get(event.sequence_nr, 'losses')}, backward"] += event.cpu_time_total
        elif event.name.startswith("Optimizer.step"):
            taken["optimisers"] += event.cpu_time_total
    return taken


def _part_of(event: Any) -> str | None:
    while event is not None:
        if event.name.startswith(_SPAN):
            return str(event.name.removeprefix(_SPAN))
        event = event.cpu_parent
    return None
