"""The method as one would write it down in an afternoon: plain PyTorch, eager, fp32.

This is what the others are measured against. It has the same networks and does the same arithmetic as
`agit_hub.training.step`, in the order of the usual tutorials: each discriminator sees real and fake
pictures apart, losses are fetched at every step, the pool is a list with a coin.
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
        handed = []
        for image in images.detach():
            if len(self.kept) < self.size:
                self.kept.append(image)
                handed.append(image)
            elif random.random() > 0.5:
                place = random.randrange(self.size)
                handed.append(self.kept[place])
                self.kept[place] = image
            else:
                handed.append(image)
        return torch.stack(handed)


def plain_layers(network: nn.Module) -> None:
    """Put PyTorch's own layers where the networks have quicker ones that do the same."""
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
    """One optimiser step on two batches in [-1, 1]; returns the losses as numbers."""

    def __init__(self, config: AGITConfig, device: str = "cpu") -> None:
        torch.manual_seed(0)
        self.nets = AGITModel(config)
        plain_layers(self.nets)
        self.nets.to(device)
        self.d_s, self.d_t = PatchDiscriminator().to(device), PatchDiscriminator().to(device)
        judges = [*self.d_s.parameters(), *self.d_t.parameters()]
        self.opt_g = torch.optim.Adam(self.nets.parameters(), lr=1e-4, betas=(0.5, 0.999))
        self.opt_d = torch.optim.Adam(judges, lr=1e-4, betas=(0.5, 0.999))
        self.pool_s, self.pool_t = PlainPool(), PlainPool()

    def __call__(self, s: Tensor, t: Tensor) -> dict[str, float]:
        nets = self.nets
        s_map, t_map = nets.attention_s(s), nets.attention_t(t)
        s_prime = s_map * nets.generator_st(s) + (1 - s_map) * s
        t_prime = t_map * nets.generator_ts(t) + (1 - t_map) * t
        s_prime_map, t_prime_map = nets.attention_t(s_prime), nets.attention_s(t_prime)
        s_again = s_prime_map * nets.generator_ts(s_prime) + (1 - s_prime_map) * s_prime
        t_again = t_prime_map * nets.generator_st(t_prime) + (1 - t_prime_map) * t_prime

        self._judges_train(False)
        self.opt_g.zero_grad()
        cycle = F.l1_loss(s_again, s) + F.l1_loss(t_again, t)
        fooled = self._loss(self.d_t, s_prime, 1) + self._loss(self.d_s, t_prime, 1)
        (10 * cycle + fooled).backward()
        self.opt_g.step()

        self._judges_train(True)
        self.opt_d.zero_grad()
        losses = {"cycle": cycle.item(), "fooled": fooled.item()}
        for name, judge, real, fake in (
            ("d_t", self.d_t, t, self.pool_t.query(s_prime)),
            ("d_s", self.d_s, s, self.pool_s.query(t_prime)),
        ):
            loss = 0.5 * (self._loss(judge, real, 1) + self._loss(judge, fake, 0))
            loss.backward()
            losses[name] = loss.item()
        self.opt_d.step()
        return losses

    @staticmethod
    def _loss(judge: nn.Module, images: Tensor, wanted: float) -> Tensor:
        score = judge(images)
        return F.mse_loss(score, torch.full_like(score, wanted))

    def _judges_train(self, wanted: bool) -> None:
        for judge in (self.d_s, self.d_t):
            judge.requires_grad_(wanted)
