"""The training step against an independent, literal implementation in float64."""

import math
from collections.abc import Callable, Iterator
from itertools import chain, repeat
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from agit_hub.config import AGITConfig
from agit_hub.data.loader import Batch
from agit_hub.errors import ConfigError
from agit_hub.models.agit import AGITModel
from agit_hub.models.discriminators import PatchDiscriminator
from agit_hub.training.config import SwitchConfig, TrainSettings
from agit_hub.training.schedule import Schedule
from agit_hub.training.setup import TrainingNetworks
from agit_hub.training.step import Step
from tests import literal_reference as literal

SIZE, BATCH, BLOCKS, LAMBDA, TAU, RATE = 16, 2, 1, 10.0, 0.5, 1e-3
POOL_SEED = 3


def _networks(decoder: str, attention: str = "network") -> TrainingNetworks:
    torch.manual_seed(0)
    config = AGITConfig(
        image_size=SIZE,
        channels=4,
        blocks=BLOCKS,
        attention_channels=4,
        attention_decoder=decoder,  # type: ignore[arg-type]
        attention=attention,  # type: ignore[arg-type]
    )
    networks = TrainingNetworks(AGITModel(config), lambda: PatchDiscriminator(4)).double()
    for module in networks.modules():
        # Larger weights than initialised, so that every term of the gradient is significant; and non-zero
        # biases, because at 0 the two implementations of leaky ReLU differ by definition.
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.2)
            assert module.bias is not None
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.InstanceNorm2d):
            nn.init.normal_(module.bias, std=0.1)
    if attention == "network":
        _centre_maps(networks)
    return networks


def _centre_maps(networks: TrainingNetworks) -> None:
    """Move the maps' median to TAU: after the switch half of the pixels are masked."""
    (batch,) = _batches(1)
    for network, images in (
        (networks.model.attention_s, batch.source),
        (networks.model.attention_t, batch.target),
    ):
        logits = torch.logit(network(images).detach()).flatten().sort().values
        # Between two pixels, so that rounding flips none.
        middle = logits[len(logits) // 2 - 1 : len(logits) // 2 + 1].mean()
        network.head.bias.data += math.log(TAU / (1 - TAU)) - middle


def _settings(**changes: Any) -> TrainSettings:
    values: dict[str, Any] = {
        "max_steps": 100,
        "learning_rate": RATE,
        "lambda_cyc": LAMBDA,
        "attention_threshold": TAU,
        "pool_size": 1,
        "switch": SwitchConfig(epoch=None, step=0),
    }
    return TrainSettings(**(values | changes))


def _step(networks: TrainingNetworks, settings: TrainSettings) -> Step:
    return Step(networks, settings, Accelerator(cpu=True), POOL_SEED)


def _batches(count: int, size: int = BATCH) -> list[Batch]:
    generator = torch.Generator().manual_seed(7)
    shape = (size, 3, SIZE, SIZE)
    return [
        Batch(*(torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1 for _ in "st"))
        for _ in range(count)
    ]


def _in_layer_order(network: nn.Module) -> list[nn.Parameter]:
    if not isinstance(network, PatchDiscriminator):
        return list(network.parameters())
    layers = zip(network.convolutions, network.norms, strict=True)
    ordered = chain.from_iterable((c.weight, c.bias, n.weight, n.bias) for c, n in layers)
    return [*ordered, network.head.weight, network.head.bias]


def _by_name(networks: TrainingNetworks) -> dict[str, list[nn.Parameter]]:
    modules = {
        "generator_st": networks.model.generator_st,
        "generator_ts": networks.model.generator_ts,
        "attention_s": networks.model.attention_s,
        "attention_t": networks.model.attention_t,
        "discriminator_s": networks.discriminator_s,
        "discriminator_t": networks.discriminator_t,
    }
    return {name: _in_layer_order(module) for name, module in modules.items()}


def _draws() -> Callable[[], tuple[float, int]]:
    """Replay the draws of pools with capacity 1, for which the first batch of two draws once."""
    streams = [torch.Generator().manual_seed(2 * POOL_SEED + k) for k in range(2)]

    def order() -> Iterator[int]:
        yield from (0, 1)
        yield from chain.from_iterable(repeat((0, 0, 1, 1)))

    turns = order()

    def draw() -> tuple[float, int]:
        stream = streams[next(turns)]
        chance = torch.rand((), generator=stream).item()
        return chance, int(torch.randint(1, (), generator=stream).item())

    return draw


def _state(networks: TrainingNetworks) -> literal.State:
    """Create the state of the literal step, with the networks' weights and pools of capacity 1."""
    return literal.State(
        **{n: [p.detach().clone() for p in ps] for n, ps in _by_name(networks).items()},
        draw=_draws(),
        pool_capacity=1,
    )


def _moments(step: Step, parameter: nn.Parameter, key: str) -> Tensor:
    for optimizer in step.optimizers.values():
        if parameter in optimizer.optimizer.state:
            return optimizer.optimizer.state[parameter][key]
    return torch.zeros_like(parameter)


@pytest.mark.parametrize("switched", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("preset", ["paper", "official"])
def test_steps_equal_the_literal_reference(preset: str, switched: bool) -> None:
    networks = _networks(decoder=preset)
    order = "joint" if preset == "paper" else "official"
    settings = _settings(update_order=order)
    step, schedule = _step(networks, settings), Schedule(settings, steps_per_epoch=10)
    if switched:
        schedule.switch(0)
    state = _state(networks)
    reference = literal.joint_step if preset == "paper" else literal.official_step

    for number, batch in enumerate(_batches(3)):
        metrics = step([batch], schedule.phase(number))
        expected = reference(
            state,
            *batch[:2],
            lr=RATE,
            lambda_cyc=LAMBDA,
            tau=TAU,
            switched=switched,
            decoder=preset,
            blocks=BLOCKS,
        )
        for name in ("adversarial_st", "adversarial_ts", "discriminator_s", "discriminator_t"):
            assert metrics[f"loss/{name}"].item() == pytest.approx(expected["losses"][name], 1e-5)
        for name, parameters in _by_name(networks).items():
            frozen = switched and name.startswith("attention")
            for k, parameter in enumerate(parameters):
                gradient = expected["gradients"][name][k]
                assert frozen <= (gradient is None)
                # Adam's first moment holds this step's gradient, its second the square.
                first = _moments(step, parameter, "exp_avg")
                torch.testing.assert_close(
                    first, state.first_moments[name][k], rtol=1e-6, atol=1e-12
                )
                second = _moments(step, parameter, "exp_avg_sq")
                torch.testing.assert_close(
                    second, state.second_moments[name][k], rtol=1e-6, atol=1e-16
                )
                torch.testing.assert_close(
                    parameter.detach(), getattr(state, name)[k], rtol=1e-6, atol=1e-8
                )


@pytest.mark.parametrize("switched", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("preset", ["paper", "official"])
def test_discriminator_updates_equal_the_literal_reference(preset: str, switched: bool) -> None:
    """Other real images with their own maps, against the pool's content: one image, twice."""
    networks = _networks(decoder=preset)
    settings = _settings(update_order="joint" if preset == "paper" else "official")
    step, schedule = _step(networks, settings), Schedule(settings, steps_per_epoch=10)
    if switched:
        schedule.switch(0)
    state = _state(networks)
    first, second, third = _batches(3)
    metrics = step([first], schedule.phase(0), [[second], [third]])
    reference = literal.joint_step if preset == "paper" else literal.official_step
    more = {"lr": RATE, "tau": TAU, "switched": switched}
    result = reference(state, *first[:2], lambda_cyc=LAMBDA, decoder=preset, blocks=BLOCKS, **more)
    losses = [result["losses"]["discriminator_t"]]
    kept_t, kept_s = state.pool_t, state.pool_s
    state.pool_capacity = 0  # so that the reference uses the given fakes
    for batch in (second, third):
        for name, real, attention, (image, map_of_it) in (
            ("discriminator_t", batch.target, state.attention_t, kept_t[0]),
            ("discriminator_s", batch.source, state.attention_s, kept_s[0]),
        ):
            images = (real, literal.attention(attention, real, preset))
            twice = (torch.stack([image] * BATCH), torch.stack([map_of_it] * BATCH))
            literal.update_discriminator(state, name, images, twice, result=result, **more)
            losses += [result["losses"][name]] * (name == "discriminator_t")
    # The metric is the mean over the updates of a step.
    assert metrics["loss/discriminator_t"].item() == pytest.approx(sum(losses) / 3, 1e-5)
    for name, parameters in _by_name(networks).items():
        for k, parameter in enumerate(parameters):
            torch.testing.assert_close(
                parameter.detach(), getattr(state, name)[k], rtol=1e-6, atol=1e-8
            )


@pytest.mark.parametrize("order", ["joint", "official"])
def test_attention_floor_adds_gradient_to_attention_only(order: str) -> None:
    """The floor adds its gradient to that of the attention network only."""
    floor, weight = 0.9, 0.5
    (batch,) = _batches(1)
    moments = []
    for changes in ({}, {"attention_floor": floor}):
        networks = _networks(decoder="paper")
        settings = _settings(update_order=order, switch=SwitchConfig(epoch=None), **changes)
        step = _step(networks, settings)
        step([batch], Schedule(settings, 10).phase(0))
        moments.append(
            {
                name: [_moments(step, p, "exp_avg") for p in parameters]
                for name, parameters in _by_name(networks).items()
            }
        )
    leaves = [
        p.detach().clone().requires_grad_()
        for p in _by_name(_networks(decoder="paper"))["attention_s"]
    ]
    mean = literal.attention(leaves, batch.source, "paper").mean()
    assert mean < floor
    added = torch.autograd.grad(weight * (1 - mean / floor), leaves, allow_unused=True)
    plain, floored = moments
    for before, after, own in zip(plain["attention_s"], floored["attention_s"], added, strict=True):
        assert own is not None
        # Adam's first moment is half of its first gradient.
        torch.testing.assert_close(after - before, own / 2, rtol=1e-5, atol=1e-10)
    for before, after in zip(plain["generator_st"], floored["generator_st"], strict=True):
        torch.testing.assert_close(after, before)


def test_reference_maps_cross_threshold() -> None:
    """After the switch some pixels are masked and some are not, as the test above requires."""
    networks = _networks(decoder="paper")
    batch = _batches(1)[0]
    for attention, images in (
        (networks.model.attention_s, batch.source),
        (networks.model.attention_t, batch.target),
    ):
        share = (attention(images) >= TAU).double().mean().item()
        assert 0.1 < share < 0.9


@pytest.mark.parametrize("masks", [False, True])
@pytest.mark.parametrize("order", ["joint", "official"])
def test_micro_batches_equal_large_batch(order: str, masks: bool) -> None:
    settings = _settings(update_order=order, pool_size=0, lambda_mask=3.0)
    (large,) = _batches(1, size=4)
    if masks:  # of three source images, and one target image
        mask = (large.source[:, :1] > 0).float()
        absent = torch.full_like(mask, -1)
        large = large._replace(
            source_mask=torch.cat([mask[:3], absent[:1]]),
            target_mask=torch.cat([absent[:3], mask[:1]]),
        )
    small = [Batch(*(each if each is None else each[k : k + 2] for each in large)) for k in (0, 2)]
    results = []
    for batches in ([large], small):
        networks = _networks(decoder="paper")
        metrics = _step(networks, settings)(batches, Schedule(settings, 10).phase(0))
        results.append((networks.state_dict(), metrics))
    (whole, metrics), (split, split_metrics) = results
    for name, tensor in whole.items():
        torch.testing.assert_close(split[name], tensor, rtol=1e-6, atol=1e-7)
    for name, value in metrics.items():
        torch.testing.assert_close(split_metrics[name], value, rtol=1e-5, atol=1e-6)


def test_attention_ones_equals_literal_cyclegan() -> None:
    """With maps of 1 the literal step without masks is plain CycleGAN with this loss."""
    networks = _networks(decoder="paper", attention="ones")
    assert not list(networks.model.attention_s.parameters())
    settings = _settings(switch=SwitchConfig(epoch=None), pool_size=0)
    (batch,) = _batches(1)
    before = {n: [p.detach().clone() for p in ps] for n, ps in _by_name(networks).items()}
    metrics = _step(networks, settings)([batch], Schedule(settings, 10).phase(0))
    f_st, f_ts = before["generator_st"], before["generator_ts"]
    fake_t = literal.generator(f_st, batch.source, BLOCKS)
    fake_s = literal.generator(f_ts, batch.target, BLOCKS)
    cycle = (literal.generator(f_ts, fake_t, BLOCKS) - batch.source).abs().mean().item()
    score = literal.discriminator(before["discriminator_t"], fake_t, True)
    real = literal.discriminator(before["discriminator_s"], batch.source, True)
    fake = literal.discriminator(before["discriminator_s"], fake_s, True)
    expected = ((real - 1).square().mean() + fake.square().mean()).item() / 2
    assert metrics["loss/cycle_s"].item() == pytest.approx(cycle, 1e-5)
    adversarial = (score - 1).square().mean().item()
    assert metrics["loss/adversarial_st"].item() == pytest.approx(adversarial, 1e-5)
    assert metrics["loss/discriminator_s"].item() == pytest.approx(expected, 1e-5)
    assert metrics["attention/source/mean"].item() == 1


def test_max_grad_norm_clips_gradients() -> None:
    networks = _networks(decoder="paper")
    settings = _settings(max_grad_norm=1e-3)
    step = _step(networks, settings)
    step(_batches(1), Schedule(settings, 10).phase(0))
    optimizer = step.optimizers["generators_st_ts"].optimizer
    gradients = [state["exp_avg"] / 0.5 for state in optimizer.state.values()]
    norm = torch.stack([gradient.norm() for gradient in gradients]).norm().item()
    assert norm == pytest.approx(1e-3, rel=1e-4)


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_each_kind_of_network_uses_its_learning_rate(preset: str) -> None:
    """The first step of Adam equals the learning rate if the gradient is significant."""
    networks = _networks(decoder=preset)
    order = "joint" if preset == "paper" else "official"
    rates = {"learning_rate": 1e-3, "attention_learning_rate": 4e-3}
    settings = _settings(update_order=order, discriminator_learning_rate=2e-3, **rates)
    before = {name: [p.detach().clone() for p in ps] for name, ps in _by_name(networks).items()}
    _step(networks, settings)(_batches(1), Schedule(settings, steps_per_epoch=10).phase(0))
    for name, parameters in _by_name(networks).items():
        kind = name.rpartition("_")[0]
        expected = {"generator": 1e-3, "attention": 4e-3, "discriminator": 2e-3}[kind]
        moved = [
            (p.detach() - b).abs().max() for p, b in zip(parameters, before[name], strict=True)
        ]
        assert torch.stack(moved).max().item() == pytest.approx(expected, rel=1e-3)


def test_step_sets_networks_to_training_mode() -> None:
    """In evaluation mode attention is averaged over scales of the image, in training it is not."""
    tiny = {"image_size": 16, "channels": 4, "blocks": 0, "attention_channels": 4}
    after = []
    for left_in_evaluation in (False, True):
        torch.manual_seed(0)
        model = AGITModel(AGITConfig(attention="features", attention_levels=3, **tiny))  # type: ignore[arg-type]
        networks = TrainingNetworks(model, lambda: PatchDiscriminator(4, 2))
        settings = _settings()
        step = _step(networks, settings)
        if left_in_evaluation:
            networks.eval()
        batch = Batch(*(torch.rand(2, 3, 32, 32) * 2 - 1 for _ in "st"))
        step([batch], Schedule(settings, steps_per_epoch=10).phase(0))
        assert networks.model.attention_s.training
        after.append(networks.state_dict())
    assert all(torch.equal(value, after[1][name]) for name, value in after[0].items())


def _flat(networks: TrainingNetworks) -> dict[str, Tensor]:
    by_name = _by_name(networks).items()
    return {name: torch.cat([p.detach().flatten() for p in each]) for name, each in by_name}


@pytest.mark.parametrize("order", ["joint", "official"])
@pytest.mark.parametrize(
    ("directions", "trained"),
    [
        ("source_to_target", {"generator_st", "attention_s", "discriminator_t"}),
        ("target_to_source", {"generator_ts", "attention_t", "discriminator_s"}),
    ],
)
def test_one_direction_is_trained_as_in_both_and_the_other_stays(
    order: str, directions: str, trained: set[str]
) -> None:
    """Without a cycle, a joint step's directions are independent of each other."""
    orders = {"both": "joint", directions: order}
    weights = {"before": _flat(_networks("paper"))}
    for name, update_order in orders.items():
        networks = _networks("paper")
        settings = _settings(lambda_cyc=0.0, update_order=update_order, directions=name)
        metrics = _step(networks, settings)(_batches(1), Schedule(settings, 10).phase(0))
        weights[name] = _flat(networks)
    for key, before in weights["before"].items():
        assert torch.equal(weights[directions][key], before) == (key not in trained)
        if key in trained:
            torch.testing.assert_close(weights[directions][key], weights["both"][key])
    losses = {key.rpartition("/")[2] for key in metrics if key.startswith("loss/")}
    d = "st" if "generator_st" in trained else "ts"
    assert losses == {f"adversarial_{d}", f"discriminator_{d[1]}"}
    # Both maps are measured, since both are needed.
    assert {"attention/source/mean", "attention/target/mean"} <= metrics.keys()
    change = {key for key in metrics if key.endswith("/change")}
    assert change == {f"attention/{'source' if d == 'st' else 'target'}/change"}


def test_one_direction_with_a_cycle_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"directions is target_to_source and lambda_cyc 10"):
        _settings(directions="target_to_source")
