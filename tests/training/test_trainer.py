"""Whole runs in this process: repeatable, resumable to the last bit, and honest when they go wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from agit_hub.cli.train import main
from agit_hub.models.agit import AGITModel
from agit_hub.training.config import TrainConfig
from agit_hub.training.metrics import RunError
from agit_hub.training.setup import prepare
from agit_hub.training.trainer import Trainer
from tests.training.conftest import Arguments, Train, saved_networks

Configure = Callable[..., TrainConfig]
Metrics = Callable[[Path], list[dict[str, float]]]
States = Callable[[Path], dict[str, Any]]
Pixels = npt.NDArray[Any]
WEIGHTS = "model/model.safetensors"


def test_a_run_leaves_what_the_design_says(
    tmp_path: Path, train: Train, metrics: Metrics, states: States
) -> None:
    outcome = train(tmp_path, {"train.max_steps": 5, "log.every": 2, "log.samples_every": 3})
    assert (outcome.step, outcome.finished) == (5, True)
    files = {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()}
    assert files == {
        "config.yaml",
        "metrics.jsonl",
        "run.json",
        "samples/step-00000003.png",
        "samples/step-00000005.png",
        "checkpoints/step-00000005/state.pt",
        "checkpoints/step-00000005/rank-0.pt",
        *(f"model/{name}" for name in ("README.md", "config.json", "model.safetensors")),
    }
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 5]
    attention = {
        f"attention/{side}/{figure}"
        for side in ("source", "target")
        for figure in ("mean", "area", "entropy", "binary")
    }
    losses = {
        f"loss/{term}"
        for term in (
            *("cycle_s", "cycle_t", "adversarial_st", "adversarial_ts"),
            *("discriminator_s", "discriminator_t"),
        )
    }
    rest = {"step", "learning_rate", "lambda_cyc", "switched", "epoch"}
    assert all(set(line) >= attention | losses | rest for line in lines)
    assert all(list(line) == list(lines[0]) for line in lines)
    # The rate of the last step taken: constant for 2.5 steps, then linear to 0 at step 5.
    assert [line["learning_rate"] for line in lines] == pytest.approx([1e-3, 8e-4, 4e-4])
    # An epoch is as many samples as the longer domain has pictures: five.
    assert [line["epoch"] for line in lines] == pytest.approx([0.4, 0.8, 1.0])
    # Without an average, what would be pushed is what was trained, and no discriminator.
    pushed = AGITModel.from_pretrained(tmp_path / "model").state_dict()
    trained = saved_networks(states(tmp_path), 5, "model.")
    assert pushed.keys() == trained.keys()
    assert all(torch.equal(pushed[name], trained[name]) for name in trained)


def test_the_seed_decides_everything_and_looking_changes_nothing(
    tmp_path: Path, train: Train
) -> None:
    variants: dict[str, dict[str, Any]] = {
        "once": {},
        "again": {},
        "looked at often": {"log.samples_every": 1, "log.every": 3, "log.samples": 2},
        "by workers": {"data.workers": 2, "log.samples_every": 1000},
        "another seed": {"train.seed": 1},
        "enlarged": {"data.zoom": 2.0},
    }
    weights = {}
    for name, changes in variants.items():
        train(tmp_path / name, {"train.max_steps": 6} | changes)
        weights[name] = (tmp_path / name / WEIGHTS).read_bytes()
    for other in ("another seed", "enlarged"):
        assert weights.pop(other) != weights["once"]
    assert all(each == weights["once"] for each in weights.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"train.update_order": "joint"},
        {
            "train.update_order": "official",
            "data.workers": 2,
            "train.gradient_accumulation_steps": 2,
            "data.pairing": "fixed",
        },
        {
            "train.discriminator_updates": 3,
            "train.gradient_accumulation_steps": 2,
            "train.attention_floor": 0.6,
            "data.zoom": 1.5,
        },
        {
            "model.attention": "features",
            "train.discriminator": "projected",
            "train.discriminator_updates": 2,
        },
    ],
    ids=["joint", "official, workers, accumulation", "further updates", "features"],
)
def test_an_interrupted_run_equals_the_uninterrupted_one_to_the_last_bit(
    tmp_path: Path,
    damaged_source: Path,
    train: Train,
    metrics: Metrics,
    states: States,
    interrupt_when: Callable[..., Any],
    assert_same: Callable[[Any, Any, str], None],
    changes: dict[str, Any],
) -> None:
    settings = changes | {
        "data.source.path": damaged_source,
        "train.max_steps": 14,
        "train.ema": 0.9,
        "train.switch.step": 6,
        "train.lambda_cyc_warmup_steps": 8,
        "train.checkpoint_every": 5,
        "train.keep_checkpoints": 9,
        "log.every": 4,
        "log.samples_every": 5,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, settings).finished

    # Once in the first epoch, before the switch; once after it. Never at a log step or a save.
    with interrupt_when("Skipped a picture") as first:
        early = train(parts, settings)
    with interrupt_when("the switch.") as second:
        late = train(parts, settings, resume=True)
    assert train(parts, settings, resume=True).finished
    assert not early.finished and early.step in (1, 2, 3)
    assert not late.finished and late.step == 7
    assert f"Stopped at step {early.step} of 14 and saved it in {parts}" in first.getvalue()
    assert f"Resuming at step {early.step} of 14" in second.getvalue()

    expected, found = states(whole), states(parts)
    assert {name.split("/")[0] for name in found} - {name.split("/")[0] for name in expected} == {
        f"step-{early.step:08d}",
        "step-00000007",
    }
    assert [name for name in expected if "rank-0" in name] == [
        f"step-{step:08d}/rank-0.pt" for step in (5, 10, 14)
    ]
    for name, state in expected.items():
        assert_same(found[name], state, name)
    assert metrics(parts) == metrics(whole)
    assert [line["switched"] for line in metrics(whole)] == [0, 1, 1, 1]
    for folder in ("model", "samples"):
        files = sorted(file.name for file in (whole / folder).iterdir())
        assert files == sorted(file.name for file in (parts / folder).iterdir())
        for name in files:
            assert (parts / folder / name).read_bytes() == (whole / folder / name).read_bytes()


def test_photographs_are_decoded_as_large_as_is_needed(
    tmp_path: Path, configure: Configure
) -> None:
    """A JPEG of 160 pixels is decoded at a quarter where 18 are needed, and whole where 54 are, or 64."""
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
        Image.new("RGB", (160, 160), "red").save(tmp_path / side / "0.jpg")
    places = {f"data.{side}.path": tmp_path / side for side in ("source", "target")}
    larger = {"model.image_size": 64, "data.crop_size": 16}
    for name, changes, decoded in (
        ("plain", {}, 40),
        ("zoomed", {"data.zoom": 3.0}, 160),
        ("shown larger than trained on", larger, 160),
    ):
        config = configure(tmp_path / name, places | changes)
        picture = prepare(config, resume=False).source.domain.image(0, 0)
        assert picture.size == (decoded, decoded)


def test_every_update_of_a_step_has_pictures_of_its_own(
    tmp_path: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two updates of two micro-batches: each step takes the next four batches of the stream."""
    changes = {"train.discriminator_updates": 2, "train.gradient_accumulation_steps": 2}
    trainer = Trainer(configure(tmp_path / "run", changes | {"train.max_steps": 2}))
    plain = Trainer(configure(tmp_path / "plain", {"train.max_steps": 8}))
    seen: dict[Trainer, list[Tensor]] = {trainer: [], plain: []}
    for each, batches in seen.items():
        step = each._train_step

        def watch(
            first: Any, phase: Any, more: Any, step: Any = step, batches: Any = batches
        ) -> Any:
            batches += [batch.source for update in (first, *more) for batch in update]
            return step(first, phase, more)

        monkeypatch.setattr(each, "_train_step", watch)
        monkeypatch.setattr(each, "_save", lambda: None)
        assert each.fit().finished
    assert len(seen[trainer]) == 8
    for one, other in zip(seen[trainer], seen[plain], strict=True):
        assert torch.equal(one, other)


def test_squares_to_train_on_may_be_smaller_than_what_the_networks_translate(
    tmp_path: Path, configure: Configure
) -> None:
    """Pictures are black to the left and white to the right: by its edges a square shows all of one."""
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
        halves = np.zeros((64, 64, 3), np.uint8)
        halves[:, 32:] = 255
        Image.fromarray(halves).save(tmp_path / side / "0.png")
    places = {f"data.{side}.path": tmp_path / side for side in ("source", "target")}
    sizes = {"model.image_size": 32, "data.crop_size": 16, "data.crop_margin": 1.0}
    trainer = Trainer(configure(tmp_path / "run", places | sizes | {"train.max_steps": 1}))
    seen: list[Tensor] = []
    trainer.published.attention_s.register_forward_pre_hook(
        lambda network, pictures: seen.append(pictures[0])
    )
    assert trainer.fit().finished
    trained_on, shown = seen[0], next(each for each in seen if each.shape[2:] == (32, 32))
    assert trained_on.shape == (1, 3, 16, 16)
    for each in (trained_on, shown):
        assert sorted(each[..., column].mean().round().item() for column in (0, -1)) == [-1, 1]
    assert AGITModel.from_pretrained(tmp_path / "run" / "model").config.image_size == 32


def test_a_second_interrupt_ends_the_run_at_once_and_nothing_untrue_is_said(
    tmp_path: Path, arguments: Arguments, interrupt_when: Callable[..., Any]
) -> None:
    settings = {"train.max_steps": 9, "train.checkpoint_every": 2}
    with interrupt_when("step 3/", times=2) as said:
        assert main(arguments(tmp_path, settings)) == 130
    last = said.getvalue().splitlines()[-1]
    assert "Traceback" not in said.getvalue()
    assert "before the first step" not in last and "nothing was changed" not in last
    assert "step-00000002" in last


def test_the_published_average_is_the_one_worked_out_from_every_steps_weights(
    tmp_path: Path, train: Train, states: States
) -> None:
    train(
        tmp_path,
        {
            "train.ema": 0.75,
            "train.max_steps": 5,
            "train.checkpoint_every": 1,
            "train.keep_checkpoints": 9,
            "train.learning_rate": 0.1,
        },
    )
    saved = states(tmp_path)
    average = saved_networks(saved, 1, "model.")
    for step in (2, 3, 4, 5):
        weights = saved_networks(saved, step, "model.")
        average = {name: 0.75 * mean + 0.25 * weights[name] for name, mean in average.items()}
    published = load_file(tmp_path / WEIGHTS)
    assert published.keys() == average.keys()
    for name, tensor in published.items():
        torch.testing.assert_close(tensor, average[name], rtol=1e-5, atol=1e-7)
    moved = max((published[name] - weights[name]).abs().max() for name in published)
    assert moved > 0.01


def _is_finite(weights: dict[str, Tensor]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in weights.values())


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_last_checkpoint(
    tmp_path: Path, train: Train, states: States
) -> None:
    """With such a rate the first step's losses are still sound, and the second's are not."""
    settings = {"train.learning_rate": 1e30, "train.checkpoint_every": 1, "train.max_steps": 9}
    with pytest.raises(RunError) as failure:
        train(tmp_path, settings)
    message = str(failure.value)
    assert "A loss was not finite at step 2:" in message and "train.clip_norm" in message
    newest = tmp_path / "checkpoints" / "step-00000001"
    assert message.endswith(f"The checkpoint {newest} is safe.")
    assert list(newest.parent.iterdir()) == [newest]
    assert _is_finite(saved_networks(states(tmp_path), 1)) and _is_finite(
        load_file(tmp_path / WEIGHTS)
    )


def test_a_loss_that_was_never_finite_is_found_also_without_a_log_step(
    tmp_path: Path, train: Train
) -> None:
    train(tmp_path / "sound")
    model = tmp_path / "sound" / "model"
    weights = load_file(model / "model.safetensors")
    weights["generator_st.layers.0.weight"].view(-1)[0] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    for name, changes in (("save", {"train.checkpoint_every": 3}), ("end", {})):
        settings = {"train.init_from": model, "log.every": 99, "train.max_steps": 6}
        with pytest.raises(
            RunError, match=r"not finite at step [01]:.* No checkpoint was saved yet"
        ):
            train(tmp_path / name, settings | changes)
        assert not (tmp_path / name / "checkpoints").exists()
        assert not (tmp_path / name / "model").exists()


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path, train: Train) -> None:
    """The losses of a step are those of the weights before it: sound, while the gradients are not."""
    settings = {"train.lambda_cyc": 1e39, "train.checkpoint_every": 1, "train.keep_checkpoints": 9}
    with pytest.raises(RunError, match="not finite"):
        train(tmp_path, settings)
    for file in tmp_path.rglob("state.pt"):
        saved = torch.load(file, weights_only=True)["training"]["networks"]
        assert _is_finite(saved), f"{file.parent.name} holds weights that are not finite"
    if (tmp_path / WEIGHTS).exists():
        assert _is_finite(load_file(tmp_path / WEIGHTS))


def test_a_damaged_checkpoint_is_named_in_a_sentence(
    tmp_path: Path, train: Train, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path)
    for name in ("rank-0.pt", "state.pt"):
        file = tmp_path / "checkpoints" / "step-00000004" / name
        file.write_bytes(file.read_bytes()[:1000])
        capsys.readouterr()
        assert main(arguments(tmp_path, {"train.max_steps": 6}, "--resume")) in (1, 2)
        (said,) = capsys.readouterr().err.splitlines()
        assert said.startswith("error: ") and name in said


def test_a_damaged_picture_is_passed_over_and_named_once(
    tmp_path: Path, damaged_source: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "data.source.path": damaged_source,
        "data.pairing": "fixed",
        "train.batch_size": 6,
        "train.checkpoint_every": 2,
        "log.samples": 3,
    }
    assert train(tmp_path, settings).finished
    assert train(tmp_path, settings | {"train.max_steps": 6}, resume=True).finished
    said = [line for line in capsys.readouterr().err.splitlines() if "Skipped" in line]
    assert len(said) == 1
    assert "(1 so far)" in said[0] and str(damaged_source / "2.png") in said[0]


def test_pictures_of_every_kind_train(
    tmp_path: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "kinds" / "deep" / "er"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        noise = Image.fromarray(random.integers(0, 256, (20, 33, 3), dtype=np.uint8))
        noise.convert(mode).save(folder / f"{mode}.png")
    noise.convert("CMYK").save(folder / "CMYK.jpg")
    noise.convert("P").save(folder / "transparent.gif", transparency=0)
    Image.fromarray(random.integers(0, 65536, (20, 33), dtype=np.uint16)).save(folder / "I16.png")
    noise.resize((1, 1)).save(folder / "dot.PNG")
    noise.resize((3, 200)).save(folder / "pole.webp")
    kinds = len(list(folder.iterdir()))
    settings = {
        "data.source.path": tmp_path / "kinds",
        "data.target.path": tmp_path / "kinds",
        "data.pairing": "fixed",
        "train.batch_size": kinds,
        "train.max_steps": 2,
        "log.samples": kinds,
    }
    assert train(tmp_path / "run", settings).finished
    said = capsys.readouterr().err
    assert "Skipped" not in said and f"on {kinds} source and {kinds} target pictures" in said
