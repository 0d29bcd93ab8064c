"""A straightforward implementation of the training step: plain PyTorch, eager, fp32.

This is the baseline of the benchmarks. It has the same networks and arithmetic as
`agit_hub.training.step`, in the order of the usual tutorials: each discriminator sees real and fake
images separately, losses are read at every step, the pool is a list.
"""

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agit_hub.config import AGITConfig
from agit_hub.models.agit import AGITModel
from agit_hub.models.discriminators import PatchDiscriminator
from agit_hub.models.layers import TransposedConv2d, UpsampleConv2d


class PlainPool:
    def __init__(self, size: int = 50) -> None:
        self.size, self.kept = size, list[Tensor]()

    def query(self, images: Tensor) -> Tensor:
        returned = []
        for image in images.detach():
            if len(self.kept) < self.size:
                self.kept.append(image)
                returned.append(image)
            elif random.random() > 0.5:
                place = random.randrange(self.size)
                returned.append(self.kept[place])
                self.kept[place] = image
            else:
                returned.append(image)
        return torch.stack(returned)


def plain_layers(network: nn.Module) -> None:
    """Replace the networks' faster layers by PyTorch's own equivalent ones."""
    for parent in list(network.modules()):
        for name, layer in list(parent.named_children()):
            plain: nn.Module
            if isinstance(layer, UpsampleConv2d):
                shape, mode = (layer.in_channels, layer.out_channels, 3), layer.padding_mode
                convolution = nn.Conv2d(*shape, padding=1, padding_mode=mode)
                plain = nn.Sequential(nn.Upsample(scale_factor=2), convolution)
            elif isinstance(layer, TransposedConv2d):
                convolution = nn.ConvTranspose2d(layer.in_channels, layer.out_channels, 3, 2)
                plain = nn.Sequential(convolution, nn.ZeroPad2d((0, -1, 0, -1)))
            else:
                continue
            convolution.load_state_dict(layer.state_dict())
            setattr(parent, name, plain)


class PlainStep:
    """One optimiser step on two batches in [-1, 1]; returns the losses as floats."""

    def __init__(self, config: AGITConfig, device: str = "cpu") -> None:
        torch.manual_seed(0)
        self.nets = AGITModel(config)
        plain_layers(self.nets)
        self.nets.to(device)
        self.d_s, self.d_t = PatchDiscriminator().to(device), PatchDiscriminator().to(device)
        weights = [*self.d_s.parameters(), *self.d_t.parameters()]
        self.opt_g = torch.optim.Adam(self.nets.parameters(), lr=1e-4, betas=(0.5, 0.999))
        self.opt_d = torch.optim.Adam(weights, lr=1e-4, betas=(0.5, 0.999))
        self.pool_s, self.pool_t = PlainPool(), PlainPool()

    def __call__(self, s: Tensor, t: Tensor) -> dict[str, float]:
        nets = self.nets
        s_map, t_map = nets.attention_s(s), nets.attention_t(t)
        s_prime = s_map * nets.generator_st(s) + (1 - s_map) * s
        t_prime = t_map * nets.generator_ts(t) + (1 - t_map) * t
        s_prime_map, t_prime_map = nets.attention_t(s_prime), nets.attention_s(t_prime)
        s_again = s_prime_map * nets.generator_ts(s_prime) + (1 - s_prime_map) * s_prime
        t_again = t_prime_map * nets.generator_st(t_prime) + (1 - t_prime_map) * t_prime

        self._train_discriminators(False)
        self.opt_g.zero_grad()
        cycle = F.l1_loss(s_again, s) + F.l1_loss(t_again, t)
        adversarial = self._loss(self.d_t, s_prime, 1) + self._loss(self.d_s, t_prime, 1)
        (10 * cycle + adversarial).backward()
        self.opt_g.step()

        self._train_discriminators(True)
        self.opt_d.zero_grad()
        losses = {"cycle": cycle.item(), "adversarial": adversarial.item()}
        for name, discriminator, real, fake in (
            ("d_t", self.d_t, t, self.pool_t.query(s_prime)),
            ("d_s", self.d_s, s, self.pool_s.query(t_prime)),
        ):
            loss = 0.5 * (self._loss(discriminator, real, 1) + self._loss(discriminator, fake, 0))
            loss.backward()
            losses[name] = loss.item()
        self.opt_d.step()
        return losses

    @staticmethod
    def _loss(discriminator: nn.Module, images: Tensor, label: float) -> Tensor:
        score = discriminator(images)
        return F.mse_loss(score, torch.full_like(score, label))

    def _train_discriminators(self, trainable: bool) -> None:
        for discriminator in (self.d_s, self.d_t):
            discriminator.requires_grad_(trainable)
