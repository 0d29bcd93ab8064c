"""Where a training step's time goes, and the least that its arithmetic could take."""

import copy
import statistics
import time
from collections import defaultdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from agit_hub.data.loader import Batch

_SPAN = "part: "


def breakdown(step: Any, phase: Any, pictures: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Shares of a step, the largest first: each kind of network there and back, optimisers, the rest.

    What runs forward within a network is known by a span around it; what runs back, by the number that
    autograd gives an operation and its derivative.
    """
    networks = step.networks
    parts: dict[str, list[nn.Module]] = {
        "generators": [networks.generator("st"), networks.generator("ts")],
        "attention": [networks.attention("st"), networks.attention("ts")],
        "discriminators": [networks.discriminator("st"), networks.discriminator("ts")],
    }
    hooks = []
    for name, modules in parts.items():
        for module in modules:
            hooks += _span(module, name)
    batch = Batch(*pictures)
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
    return {
        name: round(value / total, 3)
        for name, value in sorted(taken.items(), key=lambda item: -item[1])
    }


def operations(
    step: Any, phase: Any, pictures: tuple[Tensor, Tensor]
) -> dict[str, dict[str, float]]:
    """Seconds of a step in convolutions, in norms and in everything else, in both precisions."""
    batch, found = Batch(*pictures), {}
    for name, low in (("fp32", False), ("bf16", True)):
        with torch.autocast(pictures[0].device.type, torch.bfloat16, enabled=low):
            step([batch], phase)
            with profile(activities=[ProfilerActivity.CPU]) as profiled:
                step([batch], phase)
        taken: dict[str, float] = defaultdict(float)
        for each in profiled.key_averages():
            taken[_kind(each.key)] += each.self_cpu_time_total / 1e6
        found[name] = {kind: round(value, 3) for kind, value in taken.items()}
    return found


def channels_last(step: Any, pictures: tuple[Tensor, Tensor], rounds: int = 11) -> dict[str, float]:
    """How many times as fast a generator goes there and back with channels last, in both precisions."""
    plain = step.networks.generator("st")
    layout = torch.channels_last
    last, turned = (
        copy.deepcopy(plain).to(memory_format=layout),
        pictures[0].to(memory_format=layout),
    )
    found = {}
    for name, bf16 in (("fp32", False), ("bf16", True)):
        ratios = [
            there_and_back(plain, pictures[0], bf16) / there_and_back(last, turned, bf16)
            for _ in range(rounds + 2)
        ]
        found[name] = round(statistics.median(ratios[2:]), 2)
    return found


def there_and_back(generator: nn.Module, pictures: Tensor, bf16: bool) -> float:
    """Seconds of a forward and a backward pass, which leave weights and gradients unchanged."""
    weights = [weight for weight in generator.parameters() if weight.requires_grad]
    start = time.perf_counter()
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=bf16):
        loss = generator(pictures).float().square().mean()
    gradients = torch.autograd.grad(loss, weights)
    # On a GPU this waits for the result.
    gradients[0].sum().item()
    return time.perf_counter() - start


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


def floor(step: Any, phase: Any, pictures: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """Operations counted in a step over the rate of the best convolution found here."""
    with FlopCounterMode(display=False) as counter:
        step([Batch(*pictures)], phase)
    flop = counter.get_total_flops()
    device = pictures[0].device
    rates = {
        "fp32": _best_rate(torch.float32, device),
        "bf16": _best_rate(torch.bfloat16, device),
    }
    return {
        "gflop": round(flop / 1e9, 1),
        "gflops_per_s": {name: round(rate / 1e9, 1) for name, rate in rates.items()},
        "seconds": {name: round(flop / rate, 3) for name, rate in rates.items()},
    }


def _best_rate(dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second, of forward passes of 3x3 convolutions in both memory formats."""
    best = 0.0
    for channels, side, batch in ((64, 128, 4), (128, 64, 8), (256, 32, 16), (512, 32, 8)):
        for layout in (torch.contiguous_format, torch.channels_last):
            x = torch.randn(batch, channels, side, side, device=device, dtype=dtype)
            weight = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
            x, weight = x.to(memory_format=layout), weight.to(memory_format=layout)
            taken = []
            with torch.inference_mode():
                for _ in range(7):
                    start = time.perf_counter()
                    F.conv2d(x, weight, padding=1)
                    if device.type != "cpu":
                        torch.accelerator.synchronize()
                    taken.append(time.perf_counter() - start)
            flop = 2 * batch * channels**2 * 9 * side**2
            best = max(best, flop / statistics.median(taken))
    return best
