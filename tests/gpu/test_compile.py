"""A compiled training step on a GPU; compiling takes a minute or more."""

import pytest
import torch

from tests.gpu.test_step import configure, make_step, stepped

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(
    ("recipe", "precision", "mode", "tolerance"),
    [
        ("horse2zebra", "bf16", "default", 5e-2),
        ("paper", "no", "default", 1e-2),
        ("paper", "bf16", "reduce-overhead", 5e-2),
    ],
)
def test_compiled_steps_differ_by_rounding(
    recipe: str, precision: str, mode: str, tolerance: float, device: torch.device
) -> None:
    """Three steps, because CUDA graphs are recorded in the first and replayed later."""
    if device.type == "cpu":
        pytest.skip("compiling takes minutes on a CPU")
    config = configure(recipe, f"--train.torch_compile_mode={mode}")
    plain, compiled = make_step(config, device), make_step(config, device, precision)
    compiled.networks.compile_each(mode)
    for _ in range(3):
        expected = stepped(plain, config, device)
        found = stepped(compiled, config, device)
        assert found == pytest.approx(expected, rel=tolerance, abs=tolerance)
