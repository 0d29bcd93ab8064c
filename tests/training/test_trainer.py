"""Whole runs in this process: reproducible, resumed exactly, and stopped with a message."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
from agit_hub.errors import RunError
from agit_hub.models.agit import AGITModel
from agit_hub.runs import RunFolder
from agit_hub.training.config import TrainConfig
from agit_hub.training.setup import setup_run
from agit_hub.training.trainer import Trainer
from tests.training.conftest import Arguments, Train, saved_networks

Configure = Callable[..., TrainConfig]
Metrics = Callable[[Path], list[dict[str, float]]]
States = Callable[[Path], dict[str, Any]]
Pixels = npt.NDArray[Any]
WEIGHTS = "model/model.safetensors"


@pytest.mark.parametrize(("steps", "following"), [(2, 2), (9, 3)])
def test_run_says_when_metrics_follow(
    tmp_path: Path, train: Train, caplog: pytest.LogCaptureFixture, steps: int, following: int
) -> None:
    train(tmp_path, {"train.max_steps": 3, "log.steps": steps})
    lines = caplog.messages
    first = [line for line in lines if line.startswith("Step 1 is done, after ")]
    assert len(first) == 1 and first[0].endswith(f" s; metrics follow at step {following}.")
    assert not any(line.startswith("Step 2") for line in lines)


def test_run_writes_expected_files_and_metrics(
    tmp_path: Path, train: Train, metrics: Metrics, states: States
) -> None:
    outcome = train(tmp_path, {"train.max_steps": 5, "log.steps": 2, "log.sample_steps": 3})
    assert (outcome.step, outcome.finished) == (5, True)
    files = {str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file()}
    assert files == {
        "config.yaml",
        "index.html",
        "metrics.jsonl",
        "run.json",
        "status.json",
        "samples/step-00000003.png",
        "samples/step-00000005.png",
        "checkpoints/step-00000005/state.pt",
        "checkpoints/step-00000005/rank-0.pt",
        *(f"model/{name}" for name in ("README.md", "config.json", "model.safetensors")),
    }
    lines = metrics(tmp_path)
    assert [line["step"] for line in lines] == [2, 4, 5]
    attention = {
        f"attention/{side}/{name}"
        for side in ("source", "target")
        for name in ("mean", "area", "entropy", "binary")
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
    # An epoch is as many samples as the larger domain has images: five.
    assert [line["epoch"] for line in lines] == pytest.approx([0.4, 0.8, 1.0])
    # Without a moving average the published weights are the trained ones, without discriminators.
    pushed = AGITModel.from_pretrained(tmp_path / "model").state_dict()
    trained = saved_networks(states(tmp_path), 5, "model.")
    assert pushed.keys() == trained.keys()
    assert all(torch.equal(pushed[name], trained[name]) for name in trained)


def test_weights_depend_on_seed_and_not_on_logging(tmp_path: Path, train: Train) -> None:
    variants: dict[str, dict[str, Any]] = {
        "once": {},
        "again": {},
        "logged often": {"log.sample_steps": 1, "log.steps": 3, "log.num_samples": 2},
        "loader workers": {"data.num_workers": 2, "log.sample_steps": 1000},
        "another seed": {"train.seed": 1},
        "zoom": {"data.zoom": 2.0},
    }
    weights = {}
    for name, changes in variants.items():
        train(tmp_path / name, {"train.max_steps": 6} | changes)
        weights[name] = (tmp_path / name / WEIGHTS).read_bytes()
    for other in ("another seed", "zoom"):
        assert weights.pop(other) != weights["once"]
    assert all(each == weights["once"] for each in weights.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"train.update_order": "joint"},
        {
            "train.update_order": "official",
            "data.num_workers": 2,
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
def test_interrupted_run_equals_uninterrupted_run_exactly(
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
        "train.ema_decay": 0.9,
        "train.switch.step": 6,
        "train.lambda_cyc_warmup_steps": 8,
        "train.checkpointing_steps": 5,
        "train.checkpoints_total_limit": 9,
        "log.steps": 4,
        "log.sample_steps": 5,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, settings).finished

    # Once in the first epoch, before the switch; once after it; not at a log step or a checkpoint.
    with interrupt_when("Skipped an unreadable image") as first:
        early = train(parts, settings)
    with interrupt_when("the switch.") as second:
        late = train(parts, settings, resume=True)
    assert train(parts, settings, resume=True).finished
    assert not early.finished and early.step in (1, 2, 3)
    assert not late.finished and late.step == 7
    assert f"Stopped at step {early.step} of 14 " in first.getvalue()
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


def test_setup_run_decodes_jpeg_at_needed_size(tmp_path: Path, configure: Configure) -> None:
    """A JPEG of 160 pixels is decoded at a quarter if 18 are needed, and whole for 54 or 64."""
    for side, colour in (("source", "red"), ("target", "blue")):
        (tmp_path / side).mkdir()
        Image.new("RGB", (160, 160), colour).save(tmp_path / side / "0.jpg")
    places = {f"data.{side}.path": tmp_path / side for side in ("source", "target")}
    larger = {"model.image_size": 64, "data.crop_size": 16}
    for name, changes, decoded in (
        ("plain", {}, 40),
        ("zoomed", {"data.zoom": 3.0}, 160),
        ("image_size larger than crops", larger, 160),
    ):
        config = configure(tmp_path / name, places | changes)
        setup = setup_run(config, RunFolder(config.output_dir), resume=False)
        image = setup.source.domain.image(0, 0)
        assert image.size == (decoded, decoded)


def test_each_update_of_a_step_uses_own_batches(
    tmp_path: Path, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two updates of two micro-batches: each step uses the next four batches of the stream."""
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


def test_crop_size_smaller_than_image_size_trains_on_crops(
    tmp_path: Path, configure: Configure
) -> None:
    """Images are black on the left and white on the right: the edges show that crops are whole images."""
    for side in ("source", "target"):
        (tmp_path / side).mkdir()
        halves = np.zeros((64, 64, 3), np.uint8)
        halves[:, 32:] = 255
        halves[0, 0] = len(side) + ord(side[0])  # domains of the same images are refused
        Image.fromarray(halves).save(tmp_path / side / "0.png")
    places = {f"data.{side}.path": tmp_path / side for side in ("source", "target")}
    sizes = {"model.image_size": 32, "data.crop_size": 16, "data.crop_margin": 1.0}
    trainer = Trainer(configure(tmp_path / "run", places | sizes | {"train.max_steps": 1}))
    seen: list[Tensor] = []
    trainer.published.attention_s.register_forward_pre_hook(
        lambda network, inputs: seen.append(inputs[0])
    )
    assert trainer.fit().finished
    trained_on, shown = seen[0], next(each for each in seen if each.shape[2:] == (32, 32))
    assert trained_on.shape == (1, 3, 16, 16)
    for each in (trained_on, shown):
        assert sorted(each[..., column].mean().round().item() for column in (0, -1)) == [-1, 1]
    assert AGITModel.from_pretrained(tmp_path / "run" / "model").config.image_size == 32


def test_second_interrupt_exits_immediately_and_names_checkpoint(
    tmp_path: Path, arguments: Arguments, interrupt_when: Callable[..., Any]
) -> None:
    settings = {"train.max_steps": 9, "train.checkpointing_steps": 2}
    with interrupt_when("step 3/", times=2) as log:
        assert main(arguments(tmp_path, settings)) == 130
    last = log.getvalue().splitlines()[-1]
    assert "Traceback" not in log.getvalue()
    assert last.startswith("error: Interrupted.") and "step-00000002" in last


def test_ema_equals_average_over_checkpoints(tmp_path: Path, train: Train, states: States) -> None:
    train(
        tmp_path,
        {
            "train.ema_decay": 0.75,
            "train.max_steps": 5,
            "train.checkpointing_steps": 1,
            "train.checkpoints_total_limit": 9,
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


def test_infinite_loss_stops_run_and_keeps_checkpoint(
    tmp_path: Path, train: Train, states: States
) -> None:
    """With this learning rate only the losses of the first step are finite."""
    settings = {"train.learning_rate": 1e30, "train.checkpointing_steps": 1, "train.max_steps": 9}
    with pytest.raises(RunError) as failure:
        train(tmp_path, settings)
    message = str(failure.value)
    assert "not finite at step 2:" in message and "train.max_grad_norm" in message
    newest = tmp_path / "checkpoints" / "step-00000001"
    assert message.endswith(f"The checkpoint {newest} is safe.")
    assert list(newest.parent.iterdir()) == [newest]
    assert _is_finite(saved_networks(states(tmp_path), 1)) and _is_finite(
        load_file(tmp_path / WEIGHTS)
    )


def test_infinite_loss_without_log_step_is_found(tmp_path: Path, train: Train) -> None:
    train(tmp_path / "first")
    model = tmp_path / "first" / "model"
    weights = load_file(model / "model.safetensors")
    weights["generator_st.layers.0.weight"].view(-1)[0] = float("nan")
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    for name, changes in (("save", {"train.checkpointing_steps": 3}), ("end", {})):
        settings = {"train.init_from": model, "log.steps": 99, "train.max_steps": 6}
        with pytest.raises(
            RunError, match=r"not finite at step [01]:.* No checkpoint was saved yet"
        ):
            train(tmp_path / name, settings | changes)
        assert not (tmp_path / name / "checkpoints").exists()
        assert not (tmp_path / name / "model").exists()


def test_infinite_weights_are_never_saved(tmp_path: Path, train: Train) -> None:
    """The losses of a step are those of the weights before it: finite, unlike the gradients."""
    settings = {
        "train.lambda_cyc": 1e39,
        "train.checkpointing_steps": 1,
        "train.checkpoints_total_limit": 9,
    }
    with pytest.raises(RunError, match="not finite"):
        train(tmp_path, settings)
    for file in tmp_path.rglob("state.pt"):
        saved = torch.load(file, weights_only=True)["training"]["networks"]
        assert _is_finite(saved), f"{file.parent.name} holds weights that are not finite"
    if (tmp_path / WEIGHTS).exists():
        assert _is_finite(load_file(tmp_path / WEIGHTS))


def test_resume_damaged_checkpoint_names_file(
    tmp_path: Path, train: Train, arguments: Arguments, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path)
    for name in ("rank-0.pt", "state.pt"):
        file = tmp_path / "checkpoints" / "step-00000004" / name
        file.write_bytes(file.read_bytes()[:1000])
        capsys.readouterr()
        assert main(arguments(tmp_path, {"train.max_steps": 6}, "--resume")) in (1, 2)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and name in line


def test_damaged_image_is_skipped_and_logged_once(
    tmp_path: Path, damaged_source: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {
        "data.source.path": damaged_source,
        "data.pairing": "fixed",
        "train.batch_size": 6,
        "train.checkpointing_steps": 2,
        "log.num_samples": 3,
    }
    assert train(tmp_path, settings).finished
    assert train(tmp_path, settings | {"train.max_steps": 6}, resume=True).finished
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "Skipped" in line]
    assert "(1 so far)" in line and str(damaged_source / "2.png") in line


def test_images_of_all_modes_train(
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
    shutil.copytree(tmp_path / "kinds", tmp_path / "others")
    noise.rotate(180).convert("L").save(tmp_path / "others" / "deep" / "er" / "L.png")
    settings = {
        "data.source.path": tmp_path / "kinds",
        "data.target.path": tmp_path / "others",
        "data.pairing": "fixed",
        "train.batch_size": kinds,
        "train.max_steps": 2,
        "log.num_samples": kinds,
    }
    assert train(tmp_path / "run", settings).finished
    log = capsys.readouterr().err
    assert "Skipped" not in log and f"on {kinds} source and {kinds} target images" in log


def test_fit_in_a_thread_trains(tmp_path: Path, train: Train) -> None:
    """Python allows signal handlers in the main thread only."""
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(train, tmp_path / "run").result().finished
