"""The method's equations against values computed by hand."""

import pytest
import torch
from torch import Tensor

from agit_hub.models.equations import composite, foreground


def _pixels(*columns: tuple[float, float, float]) -> Tensor:
    """Return an image one pixel high, (1, 3, 1, W)."""
    return torch.tensor(columns).T.reshape(1, 3, 1, -1)


def _map(*values: float) -> Tensor:
    return torch.tensor(values).reshape(1, 1, 1, -1)


def test_composite_matches_equation_1_in_every_channel() -> None:
    image = _pixels((1.0, -0.5, 0.2), (1.0, -0.5, 0.2), (0.8, 0.0, -1.0))
    generated = _pixels((-1.0, 0.5, 0.6), (-1.0, 0.5, 0.6), (0.4, 1.0, 1.0))
    # s + a (F - s) with a = 0, 1 and 1/4.
    expected = _pixels((1.0, -0.5, 0.2), (-1.0, 0.5, 0.6), (0.7, 0.25, -0.5))
    torch.testing.assert_close(composite(image, generated, _map(0, 1, 0.25)), expected)


def test_composite_zero_attention_returns_input_bits() -> None:
    image, generated = torch.randn(2, 1, 3, 64, 64).tanh()
    assert torch.equal(composite(image, generated, torch.zeros(1, 1, 64, 64)), image)
    assert torch.equal(composite(image, generated, torch.ones(1, 1, 64, 64)), generated)


def test_composite_gradients_match_equation_1() -> None:
    image = _pixels((0.5, -0.5, 1.0)).requires_grad_()
    generated = _pixels((-0.25, 0.5, 0.0)).requires_grad_()
    attention = _map(0.25).requires_grad_()
    composite(image, generated, attention).sum().backward()
    assert attention.grad is not None and image.grad is not None and generated.grad is not None
    # d/da = sum of (F - s) = -0.75 + 1.0 - 1.0; d/dF = a; d/ds = 1 - a.
    assert attention.grad.item() == pytest.approx(-0.75)
    assert generated.grad.flatten().tolist() == [0.25] * 3
    assert image.grad.flatten().tolist() == [0.75] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_foreground_keeps_threshold_and_zeroes_below(
    dtype: torch.dtype,
) -> None:
    tau = 0.1
    at = torch.tensor(tau, dtype=dtype)
    attention = torch.stack([at, torch.nextafter(at, at * 0), at * 0, at * 0 + 1, at * 2])
    image = _pixels(*[(0.5, -1.0, 0.25)] * 5).to(dtype)
    seen = foreground(image, attention.reshape(1, 1, 1, -1), tau)
    kept, zeros = [0.5, -1.0, 0.25], [0.0, 0.0, 0.0]
    assert seen.squeeze().T.tolist() == [kept, zeros, zeros, kept, kept]
    assert seen.dtype == dtype


def test_foreground_threshold_0_keeps_every_pixel() -> None:
    image = torch.rand(2, 3, 8, 8) * 2 - 1
    attention = torch.rand(2, 1, 8, 8)
    attention[:, :, :4] = 0
    assert torch.equal(foreground(image, attention, 0.0), image)


def test_foreground_mask_has_no_gradient() -> None:
    image = torch.rand(1, 3, 4, 4, requires_grad=True)
    attention = torch.linspace(0, 1, 16).reshape(1, 1, 4, 4).requires_grad_()
    foreground(image, attention, 0.5).sum().backward()
    assert attention.grad is None
    # Only kept pixels have a gradient: 8 of the 16 values of the map are 0.5 or more.
    assert image.grad is not None
    assert image.grad.flatten().tolist() == ([0.0] * 8 + [1.0] * 8) * 3


@pytest.mark.parametrize(
    ("shape", "wrong"),
    [
        ((2, 3, 4, 6), (2, 3, 4, 6)),
        ((2, 3, 4, 6), (1, 1, 4, 6)),
        ((2, 3, 4, 6), (2, 1, 6, 4)),
        ((2, 3, 4, 6), (2, 4, 6)),
    ],
)
def test_equations_wrong_map_shape_names_both_shapes(
    shape: tuple[int, ...], wrong: tuple[int, ...]
) -> None:
    image, attention = torch.zeros(shape), torch.zeros(wrong)
    for call in (
        lambda: composite(image, image, attention),
        lambda: foreground(image, attention, 0.1),
    ):
        with pytest.raises(ValueError, match="attention") as raised:
            call()
        for named in (shape, (2, 1, 4, 6), wrong):
            assert str(named) in str(raised.value)


def test_composite_wrong_generated_shape_names_both_shapes() -> None:
    with pytest.raises(ValueError, match="generated") as raised:
        composite(torch.zeros(2, 3, 4, 4), torch.zeros(1, 3, 4, 4), torch.zeros(2, 1, 4, 4))
    assert "(2, 3, 4, 4)" in str(raised.value) and "(1, 3, 4, 4)" in str(raised.value)
