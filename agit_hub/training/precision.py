"""What bfloat16 would gain on this machine."""

import statistics
import time

import torch
from torch import Tensor, nn

_ROUNDS = 3


def bf16_gain(generator: nn.Module, pictures: Tensor) -> float:
    """How many times as fast a generator goes there and back in bfloat16 as in float32.

    Its weights and their gradients stay as they are.

    Args:
        generator: One of a run's, on its device.
        pictures: As it will see them, (N, 3, H, W).
    """
    weights = [weight for weight in generator.parameters() if weight.requires_grad]

    def seconds(low: bool) -> float:
        taken = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            with torch.autocast(pictures.device.type, torch.bfloat16, enabled=low):
                loss = generator(pictures).float().square().mean()
            gradients = torch.autograd.grad(loss, weights)
            # On a GPU the time is up when the last of them is there.
            gradients[0].sum().item()
            taken.append(time.perf_counter() - start)
        return statistics.median(taken)

    return seconds(low=False) / seconds(low=True)


def bf16_advice(gain: float) -> str | None:
    """A line on a gain that is worth having; None for one that is not."""
    if gain < 1.15:
        return None
    return (
        f"A generator goes {gain:.1f} times as fast here with --train.mixed_precision bf16, for which "
        "results differ by rounding."
    )
