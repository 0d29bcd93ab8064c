"""Reference implementation of one training step, written out literally.

It is slow, runs in float64, and shares no code with the package. Layers are loops and sums; only the
derivatives come from autograd. Images are NCHW in [-1, 1]. A network is a flat list of tensors in layer
order: weight, bias and, where a norm follows, scale and offset.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

GENERATORS, ATTENTIONS = ["generator_st", "generator_ts"], ["attention_s", "attention_t"]
NETWORKS = [*GENERATORS, *ATTENTIONS, "discriminator_s", "discriminator_t"]
NORM_EPSILON, ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 1e-5, 0.5, 0.999, 1e-8
# The slope of max(x, 0.2 x) at exactly x = 0: TensorFlow gives 1, PyTorch's leaky_relu gives 0.2.
# It matters only where the mask blanks a whole patch while a bias is exactly 0.
LEAKY_SLOPE_AT_ZERO = 1.0

Fake = tuple[Tensor, Tensor]  # an image (C, H, W) and the map that produced it (1, H, W)
Gradients = list[Tensor | None]  # in the order of the parameters; None where nothing is updated
Result = dict[str, dict[str, Any]]  # {"gradients": {network: Gradients}, "losses": {term: float}}


@dataclass
class State:
    """Weights, optimiser moments and image pools, which each step updates; moments start at 0."""

    generator_st: list[Tensor]
    generator_ts: list[Tensor]
    attention_s: list[Tensor]
    attention_t: list[Tensor]
    discriminator_s: list[Tensor]
    discriminator_t: list[Tensor]
    draw: Callable[[], tuple[float, int]]  # (u in [0, 1), index of a stored image)
    pool_capacity: int = 50
    pool_t: list[Fake] = field(default_factory=list)  # fakes of T, for D_T
    pool_s: list[Fake] = field(default_factory=list)  # fakes of S, for D_S
    first_moments: dict[str, list[Tensor]] = field(default_factory=dict)
    second_moments: dict[str, list[Tensor]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Initialise the moments and counts that are missing."""
        for name in NETWORKS:
            for moments in (self.first_moments, self.second_moments):
                moments.setdefault(name, [torch.zeros_like(p) for p in getattr(self, name)])
            self.counts.setdefault(name, 0)


def pad_zeros(x: Tensor, before: int, after: int) -> Tensor:
    """Pad height and width with zeros."""
    n, c, h, w = x.shape
    padded = x.new_zeros((n, c, before + h + after, before + w + after))
    padded[:, :, before : before + h, before : before + w] = x
    return padded


def pad_reflect(x: Tensor, size: int) -> Tensor:
    """Mirror height and width about the border pixel, which is not repeated."""
    for axis in (2, 3):
        length = x.shape[axis]
        left = [size - k for k in range(size)]  # size, ..., 2, 1
        right = [length - 2 - k for k in range(size)]  # length - 2, length - 3, ...
        x = x.index_select(axis, torch.tensor(left + list(range(length)) + right))
    return x


def convolve(x: Tensor, weight: Tensor, bias: Tensor, stride: int) -> Tensor:
    """Correlate without padding: one term for each kernel position."""
    n, _, h, w = x.shape
    out, _, kernel_h, kernel_w = weight.shape
    out_h, out_w = (h - kernel_h) // stride + 1, (w - kernel_w) // stride + 1
    total = bias.reshape(1, out, 1, 1).expand(n, out, out_h, out_w)
    for a in range(kernel_h):
        for b in range(kernel_w):
            rows = slice(a, a + stride * (out_h - 1) + 1, stride)
            cols = slice(b, b + stride * (out_w - 1) + 1, stride)
            total = total + torch.einsum("nchw,oc->nohw", x[:, :, rows, cols], weight[:, :, a, b])
    return total


def transposed_same_stride2(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Adjoint of convolve(pad_zeros(x, 0, 1), ..., 2): each pixel adds a kernel; weight (in, out).

    The row and the column that fall on the padding zero (the last of 2n + 1) are dropped.
    """
    n, _, h, w = x.shape
    total = x.new_zeros((n, weight.shape[1], 2 * h + 1, 2 * w + 1))
    for a in range(3):
        for b in range(3):
            added = torch.einsum("nchw,co->nohw", x, weight[:, :, a, b])
            total[:, :, a : a + 2 * h - 1 : 2, b : b + 2 * w - 1 : 2] += added
    return total[:, :, : 2 * h, : 2 * w] + bias.reshape(1, -1, 1, 1)


def instance_norm(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Normalise each channel of each image by its own mean and biased variance."""
    pixels = x.shape[2] * x.shape[3]
    mean = x.sum(dim=(2, 3), keepdim=True) / pixels
    variance = ((x - mean) ** 2).sum(dim=(2, 3), keepdim=True) / pixels
    normal = (x - mean) / torch.sqrt(variance + NORM_EPSILON)
    return scale.reshape(1, -1, 1, 1) * normal + offset.reshape(1, -1, 1, 1)


def relu(x: Tensor) -> Tensor:
    """Replace negative values by 0."""
    return torch.where(x > 0, x, torch.zeros_like(x))


def leaky_relu(x: Tensor) -> Tensor:
    """Multiply negative values by 0.2."""
    return torch.where(x > 0, x, torch.where(x < 0, 0.2 * x, LEAKY_SLOPE_AT_ZERO * x))


def residual_block(params: list[Tensor], x: Tensor, reflect: bool) -> Tensor:
    """Apply two 3x3 convolutions with norms, and a ReLU after the addition. Eight tensors."""
    w1, b1, scale1, offset1, w2, b2, scale2, offset2 = params
    y = pad_reflect(x, 1) if reflect else pad_zeros(x, 1, 1)
    y = relu(instance_norm(convolve(y, w1, b1, 1), scale1, offset1))
    y = pad_reflect(y, 1) if reflect else pad_zeros(y, 1, 1)
    y = instance_norm(convolve(y, w2, b2, 1), scale2, offset2)
    return relu(y + x)


def generator(params: list[Tensor], x: Tensor, blocks: int) -> Tensor:
    """Translate the whole image: F_ST or F_TS, before compositing."""
    p = params
    assert len(p) == 12 + 8 * blocks + 8 + 2
    y = relu(instance_norm(convolve(pad_zeros(x, 3, 3), p[0], p[1], 1), p[2], p[3]))  # 7x7
    # SAME of stride 2 on an even size: no zeros before, one after.
    y = relu(instance_norm(convolve(pad_zeros(y, 0, 1), p[4], p[5], 2), p[6], p[7]))
    y = relu(instance_norm(convolve(pad_zeros(y, 0, 1), p[8], p[9], 2), p[10], p[11]))
    for k in range(blocks):
        y = residual_block(p[12 + 8 * k : 20 + 8 * k], y, reflect=False)
    p = params[12 + 8 * blocks :]
    y = relu(instance_norm(transposed_same_stride2(y, p[0], p[1]), p[2], p[3]))
    y = relu(instance_norm(transposed_same_stride2(y, p[4], p[5]), p[6], p[7]))
    return torch.tanh(convolve(pad_zeros(y, 3, 3), p[8], p[9], 1))  # 7x7, no norm


def attention(params: list[Tensor], x: Tensor, decoder: str) -> Tensor:
    """Predict the attention map of an image, one channel in (0, 1): A_S or A_T."""
    assert len(params) == 26
    p = params
    # "paper": kernels 3, 3, 7, reflection padded to keep the size; "official": all 1x1, no padding.
    small, large = {"paper": (1, 3), "official": (0, 0)}[decoder]
    assert [p[k].shape[2] for k in (16, 20, 24)] == [2 * k + 1 for k in (small, small, large)]
    y = relu(instance_norm(convolve(pad_reflect(x, 3), p[0], p[1], 2), p[2], p[3]))  # 7x7
    y = relu(instance_norm(convolve(pad_zeros(y, 0, 1), p[4], p[5], 2), p[6], p[7]))
    y = residual_block(p[8:16], y, reflect=True)
    y = y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)  # nearest, times two
    y = relu(instance_norm(convolve(pad_reflect(y, small), p[16], p[17], 1), p[18], p[19]))
    y = y.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)  # nearest, times two
    y = relu(instance_norm(convolve(pad_reflect(y, small), p[20], p[21], 1), p[22], p[23]))
    return torch.sigmoid(convolve(pad_reflect(y, large), p[24], p[25], 1))  # no norm


def discriminator(params: list[Tensor], x: Tensor, normalise: bool) -> Tensor:
    """Score overlapping patches; without `normalise` the scales and offsets have no effect."""
    assert len(params) == 18
    for layer, stride in enumerate((2, 2, 2, 1)):
        weight, bias, scale, offset = params[4 * layer : 4 * layer + 4]
        x = convolve(pad_zeros(x, 2, 2), weight, bias, stride)
        if normalise:
            x = instance_norm(x, scale, offset)
        x = leaky_relu(x)
    return convolve(pad_zeros(x, 2, 2), params[16], params[17], 1)


def masked(image: Tensor, attention_map: Tensor, tau: float, switched: bool) -> Tensor:
    """Return the input of D: after the switch, 0 where the map is below tau (no gradient)."""
    return image * (attention_map >= tau).to(image.dtype) if switched else image


def forward(
    state: State, s: Tensor, t: Tensor, tau: float, switched: bool, decoder: str, blocks: int
) -> tuple[dict[str, list[Tensor]], dict[str, Tensor]]:
    """Compute both cycles with the current parameters, which are also returned as leaves."""
    assert all(side % 4 == 0 for side in (*s.shape[2:], *t.shape[2:]))
    leaves = {n: [p.detach().clone().requires_grad_() for p in getattr(state, n)] for n in NETWORKS}
    f_st, f_ts, a_s, a_t, d_s, d_t = (leaves[name] for name in NETWORKS)
    out = {"map_s": attention(a_s, s, decoder), "map_t": attention(a_t, t, decoder)}
    fake_t = out["map_s"] * generator(f_st, s, blocks) + (1 - out["map_s"]) * s  # s' (Eq. 1)
    fake_s = out["map_t"] * generator(f_ts, t, blocks) + (1 - out["map_t"]) * t  # t'
    # Reconstructions: s'' = A_T(s') F_TS(s') + (1 - A_T(s')) s'. The gradient also runs through
    # A_T(s') into s', even when the attention networks themselves are frozen.
    back_t, back_s = attention(a_t, fake_t, decoder), attention(a_s, fake_s, decoder)
    again_s = back_t * generator(f_ts, fake_t, blocks) + (1 - back_t) * fake_t
    again_t = back_s * generator(f_st, fake_s, blocks) + (1 - back_s) * fake_s
    # Least squares: the fake should score 1. A fake is masked by the map that produced it.
    score_t = discriminator(d_t, masked(fake_t, out["map_s"], tau, switched), not switched)
    score_s = discriminator(d_s, masked(fake_s, out["map_t"], tau, switched), not switched)
    out |= {"fake_t": fake_t, "cycle_s": (s - again_s).abs().mean()}
    out |= {"fake_s": fake_s, "cycle_t": (t - again_t).abs().mean()}
    out |= {"adversarial_st": ((score_t - 1) ** 2).mean()}
    out |= {"adversarial_ts": ((score_s - 1) ** 2).mean()}
    return leaves, out


def descend(
    state: State, name: str, loss: Tensor, leaves: list[Tensor], lr: float, result: Result
) -> None:
    """Update one network by Adam with bias correction; weights without a gradient (None) stay."""
    gradients = list(torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True))
    result["gradients"][name] = gradients
    state.counts[name] += 1
    correction1, correction2 = (1 - b ** state.counts[name] for b in (ADAM_BETA1, ADAM_BETA2))
    params, m, v = getattr(state, name), state.first_moments[name], state.second_moments[name]
    for k, g in enumerate(gradients):
        if g is not None:
            m[k] = ADAM_BETA1 * m[k] + (1 - ADAM_BETA1) * g
            v[k] = ADAM_BETA2 * v[k] + (1 - ADAM_BETA2) * g * g
            m_hat, v_hat = m[k] / correction1, v[k] / correction2
            params[k] = params[k].detach() - lr * m_hat / (torch.sqrt(v_hat) + ADAM_EPSILON)


def query(state: State, pool: list[Fake], fakes: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
    """Swap each new fake for a stored one with probability 0.5, one image after the other."""
    chosen: list[Fake] = []
    for image, attention_map in zip(fakes.detach(), maps.detach(), strict=True):
        new = (image.clone(), attention_map.clone())
        u, index = 0.0, 0
        if len(pool) < state.pool_capacity:  # not full: store and return it; nothing is drawn
            pool.append(new)
        elif state.pool_capacity > 0:
            u, index = state.draw()
        chosen.append(pool[index] if u > 0.5 else new)
        if u > 0.5:
            pool[index] = new
    return torch.stack([c[0] for c in chosen]), torch.stack([c[1] for c in chosen])


def update_discriminator(
    state: State, name: str, real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor],
    lr: float, tau: float, switched: bool, result: Result,
) -> None:  # fmt: skip
    """Update one discriminator on images with their maps; the fakes go through the pool first."""
    leaves = [p.detach().clone().requires_grad_() for p in getattr(state, name)]
    fake = query(state, state.pool_t if name == "discriminator_t" else state.pool_s, *fake)
    seen_real, seen_fake = masked(*real, tau, switched), masked(*fake, tau, switched)
    on_real = ((discriminator(leaves, seen_real.detach(), not switched) - 1) ** 2).mean()
    on_fake = (discriminator(leaves, seen_fake.detach(), not switched) ** 2).mean()
    loss = (on_real + on_fake) / 2
    descend(state, name, loss, leaves, lr, result)  # bypassed scales and offsets: no gradient
    result["losses"][name] = loss.item()


def joint_step(
    state: State, s: Tensor, t: Tensor, *,
    lr: float, lambda_cyc: float, tau: float, switched: bool, decoder: str, blocks: int,
) -> Result:  # fmt: skip
    """Preset `paper`: one update of both generators and attentions, then D_T, then D_S."""
    result: Result = {"gradients": {n: [None] * len(getattr(state, n)) for n in NETWORKS}}
    leaves, out = forward(state, s, t, tau, switched, decoder, blocks)
    result["losses"] = {n: v.item() for n, v in out.items() if n.startswith(("adv", "cycle"))}
    loss = out["adversarial_st"] + out["adversarial_ts"]
    loss = loss + lambda_cyc * (out["cycle_s"] + out["cycle_t"])
    for name in GENERATORS if switched else GENERATORS + ATTENTIONS:  # attention is then frozen
        descend(state, name, loss, leaves[name], lr, result)
    # Fakes, and the maps that mask the reals, are those of the same pass, before the update.
    real, fake = (t, out["map_t"]), (out["fake_t"], out["map_s"])
    update_discriminator(state, "discriminator_t", real, fake, lr, tau, switched, result)
    real, fake = (s, out["map_s"]), (out["fake_s"], out["map_t"])
    update_discriminator(state, "discriminator_s", real, fake, lr, tau, switched, result)
    return result


def official_step(
    state: State, s: Tensor, t: Tensor, *,
    lr: float, lambda_cyc: float, tau: float, switched: bool, decoder: str, blocks: int,
) -> Result:  # fmt: skip
    """The authors' order: F_ST with A_S, D_T, F_TS with A_T, D_S; a new pass for each.

    The losses hold the cycle terms of the first pass, and those of the second as `*_second`.
    """
    result: Result = {"gradients": {n: [None] * len(getattr(state, n)) for n in NETWORKS}}
    # F_ST and A_S: own adversarial term and both cycle terms.
    leaves, out = forward(state, s, t, tau, switched, decoder, blocks)
    result["losses"] = {n: out[n].item() for n in ("adversarial_st", "cycle_s", "cycle_t")}
    loss = out["adversarial_st"] + lambda_cyc * (out["cycle_s"] + out["cycle_t"])
    for name in ["generator_st"] if switched else ["generator_st", "attention_s"]:
        descend(state, name, loss, leaves[name], lr, result)
    # D_T: the fake and its map from before the update; the real by A_T as it is now.
    real, fake = (t, attention(state.attention_t, t, decoder)), (out["fake_t"], out["map_s"])
    update_discriminator(state, "discriminator_t", real, fake, lr, tau, switched, result)
    # F_TS and A_T: a new pass, with the updated F_ST and A_S.
    leaves, out = forward(state, s, t, tau, switched, decoder, blocks)
    result["losses"]["adversarial_ts"] = out["adversarial_ts"].item()
    result["losses"] |= {f"{n}_second": out[n].item() for n in ("cycle_s", "cycle_t")}
    loss = out["adversarial_ts"] + lambda_cyc * (out["cycle_s"] + out["cycle_t"])
    for name in ["generator_ts"] if switched else ["generator_ts", "attention_t"]:
        descend(state, name, loss, leaves[name], lr, result)
    # D_S: the real by A_S as it is now, that is, already updated.
    real, fake = (s, attention(state.attention_s, s, decoder)), (out["fake_s"], out["map_t"])
    update_discriminator(state, "discriminator_s", real, fake, lr, tau, switched, result)
    return result
