"""The three networks: geometry, size and initialization."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.config import MAX_BLUR, AGITConfig, AttentionDecoder
from agit_hub.models.agit import AGITModel
from agit_hub.models.attention import AttentionNetwork, FullAttention
from agit_hub.models.discriminators import PatchDiscriminator
from agit_hub.models.generator import ResnetGenerator
from agit_hub.models.layers import (
    SamePad,
    TransposedConv2d,
    UpsampleConv2d,
    gaussian_blur,
    reflection_pad,
)

DECODERS: tuple[AttentionDecoder, ...] = ("paper", "official")


def _images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.parametrize(("height", "width"), [(16, 16), (20, 32), (36, 24)])
def test_networks_outputs_have_expected_shapes_and_ranges(height: int, width: int) -> None:
    torch.manual_seed(0)
    images = _images(2, 3, height, width) * 5
    for generator in (ResnetGenerator(4, 1), ResnetGenerator(4, 1, "nearest")):
        translated = generator(images)
        assert translated.shape == images.shape
        assert translated.abs().max() <= 1
    for network in (*(AttentionNetwork(4, decoder) for decoder in DECODERS), FullAttention()):
        attention = network(images)
        assert attention.shape == (2, 1, height, width)
        assert attention.min() >= 0 and attention.max() <= 1


def test_full_attention_is_1_and_has_no_weights() -> None:
    full = FullAttention()
    assert full(_images(2, 3, 16, 16).double()).equal(torch.ones(2, 1, 16, 16, dtype=torch.float64))
    assert not full.state_dict()


def test_patch_discriminator_scores_are_unbounded() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4)
    # Padding 2: n -> n // 2 + 1 three times, then n + 1 twice. 32: 17, 9, 5, 6, 7.
    assert discriminator(_images(2, 3, 32, 32)).shape == (2, 1, 7, 7)
    assert discriminator(_images(1, 3, 256, 128)).shape == (1, 1, 35, 19)
    with torch.no_grad():
        discriminator.head.bias.fill_(7.0)
    assert discriminator(_images(1, 3, 32, 32)).min() > 5


@pytest.mark.parametrize(("layers", "side"), [(1, 16), (2, 34), (3, 70)])
def test_patch_discriminator_receptive_field_has_stated_size(layers: int, side: int) -> None:
    """Backwards from one score: 4 pixels, 7, then 2 (n - 1) + 4 for each stride-2 layer."""
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(2, layers).double()
    images = _images(1, 3, 128, 128).double().requires_grad_()
    scores = discriminator(images, normalise=False)
    middle = scores.shape[-1] // 2
    scores[0, 0, middle, middle].backward()
    assert images.grad is not None
    seen = images.grad[0].ne(0).any(0)
    for axis in (0, 1):
        (positions,) = seen.any(axis).nonzero(as_tuple=True)
        assert positions[-1] - positions[0] + 1 == side


def test_same_pad_output_i_covers_inputs_2i_to_2i_plus_2() -> None:
    """TensorFlow pads an even side by 0 before and 1 after for a 3x3 stride-2 convolution."""
    kernel = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    for row, column in ((4, 4), (5, 4), (0, 0), (7, 7)):
        delta = torch.zeros(1, 1, 8, 8)
        delta[0, 0, row, column] = 1
        expected = torch.zeros(1, 1, 4, 4)
        for i in range(4):
            for j in range(4):
                if 0 <= row - 2 * i <= 2 and 0 <= column - 2 * j <= 2:
                    expected[0, 0, i, j] = kernel[0, 0, row - 2 * i, column - 2 * j]
        assert torch.equal(F.conv2d(SamePad()(delta), kernel, stride=2), expected)


def test_transposed_conv_is_adjoint_of_same_padded_conv() -> None:
    """In both of its implementations, with biases 0."""
    x, y = _images(2, 3, 12, 8).double(), _images(2, 5, 6, 4).double()
    layer = TransposedConv2d(5, 3).double()
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    forward = (F.conv2d(SamePad()(x), layer.weight, stride=2) * y).sum()
    for adjoint in (layer(y), layer.forward_by_phases(y)):
        torch.testing.assert_close((adjoint * x).sum(), forward)


def test_transposed_conv_by_phases_matches_pytorch() -> None:
    torch.manual_seed(0)
    layer = TransposedConv2d(4, 3).double()
    x = _images(2, 4, 5, 6).double().requires_grad_()
    expected, found = layer(x), layer.forward_by_phases(x)
    torch.testing.assert_close(found, expected)
    grad_output = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, (x, *layer.parameters()), grad_output),
        torch.autograd.grad(expected, (x, *layer.parameters()), grad_output),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    with torch.autocast("cpu", torch.bfloat16):
        low = layer.float()(x.float())
    assert low.dtype == torch.bfloat16 and (low.double() - expected).abs().max() < 0.05


def _affected_region(network: nn.Module, size: int, at: int) -> tuple[int, int, int, int]:
    """Return the first and last row and column of the output that one input pixel affects.

    Every weight is made positive and every norm removed, so that nothing cancels.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(module.weight, 0.01)
        for name, child in list(module.named_children()):
            if isinstance(child, nn.InstanceNorm2d):
                setattr(module, name, nn.Identity())
    dark = torch.zeros(1, 3, size, size, dtype=torch.float64)
    lit = dark.clone()
    lit[..., at, at] = 1
    network = network.double()
    positions = (network(lit) != network(dark))[0].any(0)
    rows, columns = positions.any(1).nonzero().flatten(), positions.any(0).nonzero().flatten()
    return int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])


def test_generator_pixel_affects_expected_region() -> None:
    # 7x7: 13..19. SAME stride 2, output i sees 2i..2i+2: 6..9, then 2..4.
    # Transposed, i affects 2i..2i+2: 4..10, then 8..22. 7x7: 5..25.
    assert _affected_region(ResnetGenerator(2, blocks=0), size=32, at=16) == (5, 25, 5, 25)
    # 2..4 as before. Upsampled: 4..9. 3x3: 3..10. Upsampled: 6..21. 3x3: 5..22. 7x7: 2..25.
    nearest = ResnetGenerator(2, blocks=0, upsampling="nearest")
    assert _affected_region(nearest, size=32, at=16) == (2, 25, 2, 25)


@pytest.mark.parametrize(
    ("decoder", "first", "last"),
    [
        # 7x7 stride 2 with 3 in front: 15..17. SAME stride 2: 7..8. Two 3x3: 5..10.
        # Upsampled: 10..21. 3x3: 9..22. Upsampled: 18..45. 3x3: 17..46. 7x7: 14..49.
        ("paper", 14, 49),
        # As far as 10..21, then 1x1; upsampled: 20..43, and 1x1.
        ("official", 20, 43),
    ],
)
def test_attention_pixel_affects_expected_region(
    decoder: AttentionDecoder, first: int, last: int
) -> None:
    assert _affected_region(AttentionNetwork(2, decoder), size=64, at=32) == (
        first,
        last,
        first,
        last,
    )


def test_attention_official_decoder_is_constant_in_4x4_blocks() -> None:
    torch.manual_seed(0)
    images = _images(2, 3, 32, 24)
    spread = {}
    for decoder in DECODERS:
        blocks = AttentionNetwork(8, decoder)(images).reshape(2, 8, 4, 6, 4)
        spread[decoder] = (blocks.amax((2, 4)) - blocks.amin((2, 4))).max().item()
        assert blocks.amax() - blocks.amin() > 1e-3
    assert spread["official"] == 0
    assert spread["paper"] > 1e-3


def test_padding_generator_zeros_attention_reflection() -> None:
    """A constant image stays constant under reflection; zeros change the border."""
    torch.manual_seed(0)
    flat = torch.full((1, 3, 32, 32), 0.7, dtype=torch.float64)
    first = AttentionNetwork(4).double().encoder[0](flat)
    assert (first.amax((2, 3)) - first.amin((2, 3))).max() < 1e-12
    edge = ResnetGenerator(4, 1).double().layers[0](flat)
    assert (edge[..., 0, 0] - edge[..., 16, 16]).abs().max() > 1e-3


def test_patch_discriminator_bypassed_norms_have_no_effect() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4)
    images = _images(2, 3, 32, 32)
    with_norm, without = (discriminator(images, normalise=on) for on in (True, False))
    assert not torch.allclose(with_norm, without)
    assert torch.equal(discriminator(images), with_norm)
    with torch.no_grad():
        for norm in discriminator.norms:
            norm.weight.mul_(3).add_(0.5)
            norm.bias.fill_(0.7)
    assert torch.equal(discriminator(images, normalise=False), without)
    assert not torch.allclose(discriminator(images), with_norm)


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _layer(kernel: int, inputs: int, outputs: int, norm: bool = True) -> int:
    """Count weights and biases of a convolution, and scale and offset of its norm."""
    return kernel * kernel * inputs * outputs + outputs + 2 * outputs * norm


def test_networks_parameter_counts_match_paper() -> None:
    generator = (
        _layer(7, 3, 32)
        + _layer(3, 32, 64)
        + _layer(3, 64, 128)
        + 9 * 2 * _layer(3, 128, 128)
        + _layer(3, 128, 64)
        + _layer(3, 64, 32)
        + _layer(7, 32, 3, norm=False)
    )
    assert generator == 2_855_811
    assert _count(ResnetGenerator()) == generator
    encoder = _layer(7, 3, 32) + _layer(3, 32, 64) + 2 * _layer(3, 64, 64)
    paper = _layer(3, 64, 64) + _layer(3, 64, 32) + _layer(7, 32, 1, norm=False)
    official = _layer(1, 64, 64) + _layer(1, 64, 32) + _layer(1, 32, 1, norm=False)
    assert _count(AttentionNetwork()) == encoder + paper
    assert _count(AttentionNetwork(decoder="official")) == encoder + official
    discriminator = (
        _layer(4, 3, 64)
        + _layer(4, 64, 128)
        + _layer(4, 128, 256)
        + _layer(4, 256, 512)
        + _layer(4, 512, 1, norm=False)
    )
    assert _count(PatchDiscriminator()) == discriminator
    smaller = (
        _layer(4, 3, 64) + _layer(4, 64, 128) + _layer(4, 128, 256) + _layer(4, 256, 1, norm=False)
    )
    assert _count(PatchDiscriminator(layers=2)) == smaller


@pytest.mark.parametrize(
    "network",
    [ResnetGenerator, AttentionNetwork, PatchDiscriminator],
)
def test_initialize_weights_truncates_normal_at_two_sigma(network: type[nn.Module]) -> None:
    torch.manual_seed(0)
    weights, scales, offsets = [], [], []
    for module in network(16).modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.InstanceNorm2d):
            kind = scales if isinstance(module, nn.InstanceNorm2d) else weights
            assert module.weight is not None and module.bias is not None
            kind.append(module.weight.detach().flatten())
            offsets.append(module.bias.detach())
    assert torch.cat(offsets).eq(0).all()
    # Of a normal truncated at z = 2: variance 1 - 2 z pdf(z) / (cdf(z) - cdf(-z)).
    density = math.exp(-2) / math.sqrt(2 * math.pi)
    std = 0.02 * math.sqrt(1 - 4 * density / math.erf(math.sqrt(2)))
    assert std == pytest.approx(0.0176, abs=1e-4)
    drawn = torch.cat(weights)
    assert drawn.abs().max() <= 0.04 and drawn.abs().max() > 0.0395
    assert drawn.std().item() == pytest.approx(std, rel=0.02)
    assert abs(drawn.mean().item()) < 5 * std / math.sqrt(len(drawn))
    scale = torch.cat(scales)
    assert scale.min() >= 0.96 and scale.max() <= 1.04
    assert scale.std().item() == pytest.approx(std, rel=0.25)
    assert scale.mean().item() == pytest.approx(1, abs=5 * std / math.sqrt(len(scale)))


def test_attention_smoothing_averages_logits_with_replicated_border() -> None:
    torch.manual_seed(0)
    plain, smooth = AttentionNetwork(4), AttentionNetwork(4, smoothing=3)
    smooth.load_state_dict(plain.state_dict())
    for network in (plain, smooth):
        network.head.weight.data.mul_(40)
    image = torch.rand(1, 3, 16, 20) * 2 - 1
    logits = torch.logit(plain(image).double())[0, 0]
    found = torch.logit(smooth(image).double())[0, 0]
    assert logits.std() > 0.5

    def at(row: int, column: int) -> float:
        return logits[min(max(row, 0), 15), min(max(column, 0), 19)].item()

    for row, column in ((7, 8), (0, 0), (15, 4), (3, 19)):
        window = [at(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        assert found[row, column].item() == pytest.approx(sum(window) / 9, abs=1e-3)


@pytest.mark.parametrize("edge", [0, 1, 3])
def test_reflection_pad_matches_pytorch(edge: int) -> None:
    x = torch.arange(2 * 3 * 5 * 4, dtype=torch.float32).view(2, 3, 5, 4)
    assert torch.equal(reflection_pad(x, edge), F.pad(x, (edge,) * 4, mode="reflect"))


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
def test_upsample_conv_matches_conv_of_upsampled_image(padding_mode: str) -> None:
    torch.manual_seed(0)
    layer = UpsampleConv2d(3, 5, padding_mode).double()  # type: ignore[arg-type]
    x = torch.randn(2, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    mode = "constant" if padding_mode == "zeros" else "reflect"
    padded = F.pad(F.interpolate(x, scale_factor=2), (1, 1, 1, 1), mode=mode)
    expected = F.conv2d(padded, layer.weight, layer.bias)
    found = layer(x)
    assert torch.allclose(found, expected, atol=1e-12)
    inputs = (x, layer.weight, layer.bias)
    grad_output = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, inputs, grad_output),
        torch.autograd.grad(expected, inputs, grad_output),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-10)


@pytest.mark.parametrize("bias", [7.0, 8.0])
def test_attention_network_nearly_full_map_keeps_gradient_in_bfloat16(bias: float) -> None:
    """A map that went full must be able to come back: sigmoid' is s (1 - s)."""
    network = AttentionNetwork(4)
    torch.nn.init.zeros_(network.head.weight)
    assert network.head.bias is not None
    torch.nn.init.constant_(network.head.bias, bias)
    with torch.autocast("cpu", torch.bfloat16):
        attention = network(torch.zeros(1, 3, 16, 16))
    assert attention.dtype == torch.float32
    attention.mean().backward()
    expected = math.exp(-bias) / (1 + math.exp(-bias)) ** 2
    assert network.head.bias.grad is not None
    assert network.head.bias.grad.item() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("residual", [False, True])
def test_generator_output_under_autocast_is_finer_than_bfloat16(residual: bool) -> None:
    generator = ResnetGenerator(4, 1, residual=residual)
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.autocast("cpu", torch.bfloat16):
        output = generator(image)
    assert output.dtype == torch.float32
    assert not torch.equal(output, output.bfloat16().float())


def test_gaussian_blur_of_a_point_is_the_gaussian() -> None:
    image = torch.zeros(1, 2, 21, 25)
    image[0, 1, 10, 12] = 1.0
    blurred = gaussian_blur(image, 2.0)
    weights = [math.exp(-(k**2) / 8) for k in range(-5, 6)]
    total = sum(weights)
    expected = torch.tensor([[a * b / total**2 for b in weights] for a in weights])
    torch.testing.assert_close(blurred[0, 1, 5:16, 7:18], expected)
    assert blurred[0, 0].abs().max() == 0 and blurred.sum() == pytest.approx(1.0, abs=1e-5)


def test_gaussian_blur_keeps_even_images_and_precision() -> None:
    """Also of the smallest size with the widest blur, and under autocast."""
    image = torch.full((1, 3, 16, 16), 0.123456789)
    with torch.autocast("cpu", torch.bfloat16):
        blurred = gaussian_blur(image, MAX_BLUR)
    assert blurred.dtype == torch.float32
    torch.testing.assert_close(blurred, image)


def test_residual_generator_with_blur_starts_at_the_blurred_image() -> None:
    generator = ResnetGenerator(4, 0, residual=True, blur=3.0)
    last = generator.layers[-2]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    image = torch.rand(1, 3, 24, 20) * 1.8 - 0.9
    torch.testing.assert_close(generator(image), gaussian_blur(image, 3.0))


def test_model_blurs_each_domain_by_its_own_width() -> None:
    model = AGITModel(AGITConfig(channels=4, blocks=0, residual=True, target_blur=5.0))
    assert (model.generator_st.blur, model.generator_ts.blur) == (None, 5.0)
