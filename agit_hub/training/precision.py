"""What bfloat16 would gain on this machine."""

import statistics
import time

import torch
from torch import Tensor, nn

_ROUNDS = 3


def bf16_gain(generator: nn.Module, pictures: Tensor) -> float:
    """How many times as fast a generator goes there and back in bfloat16 as in float32.

    Args:
        generator: One of a run's, on its device.
        pictures: As it will see them, (N, 3, H, W).
    """
    full, low = (
        statistics.median(there_and_back(generator, pictures, bf16) for _ in range(_ROUNDS))
        for bf16 in (False, True)
    )
    return full / low


def there_and_back(generator: nn.Module, pictures: Tensor, bf16: bool) -> float:
    """Seconds of a forward and a backward pass, which leave weights and their gradients as they are."""
    weights = [weight for weight in generator.parameters() if weight.requires_grad]
    start = time.perf_counter()
    with torch.autocast(pictures.device.type, torch.bfloat16, enabled=bf16):
        loss = generator(pictures).float().square().mean()
    gradients = torch.autograd.grad(loss, weights)
    # On a GPU the time is up when the last of them is there.
    gradients[0].sum().item()
    return time.perf_counter() - start


def bf16_advice(gain: float) -> str | None:
    """A line on a gain that is worth having; None for one that is not."""
    if gain < 1.15:
        return None
    return (
        f"A generator goes {gain:.1f} times as fast here with --train.mixed_precision bf16, for which "
        "results differ by rounding."
    )
