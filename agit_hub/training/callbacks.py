"""Callbacks of the trainer: validation, logging, sample grids, and pushes to the Hub."""

import io
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from huggingface_hub.utils.tqdm import disable_progress_bars
from PIL import Image
from torch import Tensor

from agit_hub.atomic import write_bytes
from agit_hub.data.load import load_domains
from agit_hub.data.loader import UnpairedLoader
from agit_hub.errors import ConfigError, EvaluationError, PushError, PushRefusedError
from agit_hub.evaluation.datasets import (
    SHAPES_VALIDATION_SEED,
    DomainEvalDataset,
    EvalDataset,
    load_eval_datasets,
)
from agit_hub.evaluation.evaluator import Evaluation, Evaluator
from agit_hub.evaluation.protocols import find_protocol
from agit_hub.evaluation.results import write_results
from agit_hub.hub.push import Target, prepare_repo, push_folder, staged
from agit_hub.inference.image_processor import to_map, to_pil
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from agit_hub.runs import RunFolder
from agit_hub.training import checkpoint
from agit_hub.training.config import HubConfig, TrainConfig
from agit_hub.training.distributed import on_first_rank
from agit_hub.training.metrics import MetricLogger, ValidationResult
from agit_hub.visualization import heat_map, labelled_grid

# Seconds for which the Hub is retried at the start of a run, which does not need it yet.
_CHECK_TIMEOUT = 10.0


@dataclass
class TrainerState:
    """State of a run, which callbacks may change where stated."""

    step: int
    """Optimiser steps done."""
    total_steps: int
    model: AGITModel
    """The networks to publish: the moving average, if there is one."""
    is_last: bool = False
    """Whether the run ends after this step. Callbacks may set it."""
    should_save: bool = False
    """Whether a checkpoint is saved after this step. Callbacks may set it."""


class Callback:
    """Base class of callbacks, which all processes call in the same order."""

    def on_train_begin(self, state: TrainerState) -> None:
        """Called before the first step of a run or a resumed run."""

    def on_step_end(self, state: TrainerState) -> None:
        """Called after each step, before the checkpoint."""

    def on_save(self, state: TrainerState) -> None:
        """Called after each checkpoint."""

    def on_train_end(self, state: TrainerState) -> None:
        """Called when the run has finished, but not when it was interrupted."""


class LogCallback(Callback):
    """Log the metrics every `log.steps` steps, and at the end."""

    def __init__(self, metric_logger: MetricLogger, steps: int) -> None:
        self._metric_logger = metric_logger
        self._steps = steps

    def on_step_end(self, state: TrainerState) -> None:
        """Log the metrics if due."""
        if state.is_last or state.step % self._steps == 0:
            self._metric_logger.log(state.step)


class SampleGridCallback(Callback):
    """Save a sample grid every `log.sample_steps` steps, and at the end, in the main process."""

    def __init__(self, config: TrainConfig, folder: RunFolder, loader: UnpairedLoader) -> None:
        self._config = config.log
        self._folder = folder
        self._loader = loader

    def on_step_end(self, state: TrainerState) -> None:
        """Save a grid if due."""
        if state.is_last or state.step % self._config.sample_steps == 0:
            self.save_grid(state)

    def save_grid(self, state: TrainerState) -> None:
        """Save a grid of the first images of both domains."""
        batch = self._loader.first_images(self._config.num_samples)
        buffer = io.BytesIO()
        sample_grid(state.model, batch.source, batch.target).save(buffer, format="PNG")
        write_bytes(self._folder.sample_grid(state.step), buffer.getbuffer())


@torch.inference_mode()
def sample_grid(model: AGITModel, source: Tensor, target: Tensor) -> Image.Image:
    """Translate images and draw a grid of input, attention, translation and reconstruction.

    Args:
        model: The networks.
        source: (N, 3, H, W) in [-1, 1], on the model's device.
        target: Likewise.

    Returns:
        A row for each pair: four columns for the source image and four for the target image.
    """
    model.eval()
    source_label, target_label = model.config.labels
    st, ts = model.source_to_target, model.target_to_source
    s_prime, t_prime = st(source), ts(target)
    s_cycle, t_cycle = ts(s_prime.image), st(t_prime.image)
    rows = [
        [
            *(to_pil(source[n]), heat_map(to_map(s_prime.attention[n]))),
            *(to_pil(s_prime.image[n]), to_pil(s_cycle.image[n])),
            *(to_pil(target[n]), heat_map(to_map(t_prime.attention[n]))),
            *(to_pil(t_prime.image[n]), to_pil(t_cycle.image[n])),
        ]
        for n in range(len(source))
    ]
    columns = [
        *(source_label, "attention", f"to {target_label}", "and back"),
        "",
        *(target_label, "attention", f"to {source_label}", "and back"),
    ]
    size = source.shape[-1]
    return labelled_grid(columns, rows, tile=size * max(1, round(128 / size)))


class ValidationCallback(Callback):
    """Validate every `eval.steps` steps, keep the weights with the lowest KID, and stop early.

    The main process validates the published networks, which are the same in all processes.

    Raises:
        ConfigError: If the protocol or the validation images cannot be used.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        metric_logger: MetricLogger,
        accelerator: Accelerator,
    ) -> None:
        assert config.eval.steps is not None
        self._steps = config.eval.steps
        self._config = config
        self._folder = folder
        self._metric_logger = metric_logger
        self._accelerator = accelerator
        self._evaluator: Evaluator | None = None
        self._lowest: float | None = None
        self._since_lowest = 0
        on_first_rank(accelerator, self._make_evaluator)

    def _make_evaluator(self) -> None:
        try:
            protocol = find_protocol(self._config.eval.protocol)
            datasets = _eval_datasets(self._config)
            self._evaluator = Evaluator(*datasets, protocol, with_fid=False, with_regions=False)
        except EvaluationError as error:
            raise ConfigError(f"eval: {error}") from error

    def on_train_begin(self, state: TrainerState) -> None:
        """End a resumed run that had already stopped early."""
        if state.step < state.total_steps:
            self._stop_early(state)

    def on_step_end(self, state: TrainerState) -> None:
        """Validate if due."""
        if self._evaluator is not None and (state.is_last or state.step % self._steps == 0):
            self._metric_logger.record_validation(self.evaluate(state.model, state.step))
        if not state.is_last:
            self._stop_early(state)

    def evaluate(self, model: AGITModel, step: int) -> ValidationResult:
        """Validate the model of a step, and save it if its KID is the lowest so far."""
        assert self._evaluator is not None
        start = time.perf_counter()
        was_training = model.training
        evaluation = self._evaluator(AGITPipeline(model))
        model.train(was_training)
        # For the model card.
        results = [
            replace(m, split="validation", protocol=f"{m.protocol}; weights of step {step}")
            for m in evaluation.measurements
        ]
        write_results(self._folder.path, results)
        kids = [m for m in evaluation.measurements if m.metric == "kid"]
        total = sum(m.value for m in kids)
        self._since_lowest += 1
        if self._lowest is None or total < self._lowest:
            self._lowest, self._since_lowest = total, 0
            checkpoint.save_model(model, self._folder.best)
            self._folder.write_best({"step": step, "kid": total / len(kids)})
        values = "; ".join(
            f"KID {m.direction} {m.value:.4g} (identity baseline {m.baseline:.4g})" for m in kids
        )
        seconds = time.perf_counter() - start
        return ValidationResult(
            _by_direction(evaluation) | {"eval/step": float(step)},
            f"Step {step}: {values}; validated in {seconds:.0f} s.",
            seconds,
        )

    def _stop_early(self, state: TrainerState) -> None:
        """End the run if `eval.patience` has run out, as the main process decides for all."""
        patience = self._config.eval.patience
        # Between validations nothing changes, so nothing has to be sent.
        if patience is None or state.step % self._steps:
            return
        count = on_first_rank(self._accelerator, lambda: self._since_lowest)
        if count >= patience:
            state.is_last = True
            self._metric_logger.info(
                f"Stopped at step {state.step} of {state.total_steps}: KID has not improved for "
                f"{count} validations (eval.patience {patience}). The weights with the lowest KID are "
                f"in {self._folder.best}."
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state to save in a checkpoint."""
        return {"lowest": self._lowest, "since_lowest": self._since_lowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self._lowest, self._since_lowest = state["lowest"], state["since_lowest"]


def _eval_datasets(config: TrainConfig) -> tuple[EvalDataset, EvalDataset]:
    data, settings, labels = config.data, config.eval, config.model.labels
    size, limit = config.model.image_size, settings.max_images
    ranges = config.model.value_range(labels[1]), config.model.value_range(labels[0])
    if settings.holdout is None:
        domains = settings.source, settings.target
        seed = SHAPES_VALIDATION_SEED
        return load_eval_datasets(
            *domains,
            labels,
            size,
            limit=limit,
            side=size,
            shapes_seed=seed,
            splits=("validation", "test", "train"),
            ranges=ranges,
        )
    loaded = load_domains(data.source, data.target, size, data.hub_timeout, ranges=ranges)
    source, target = (
        DomainEvalDataset(
            domain.subset(settings.holdout, held_out=True), label, limit=limit, side=size
        )
        for domain, label in zip(loaded, labels, strict=True)
    )
    return source, target


def _by_direction(evaluation: Evaluation) -> dict[str, float]:
    directions = list(dict.fromkeys(m.direction for m in evaluation.measurements))
    names = dict(zip(directions, ("st", "ts"), strict=True))
    return {f"eval/{names[m.direction]}/{m.metric}": m.value for m in evaluation.measurements}


class PushCallback(Callback):
    """Push the model to the Hub every `hub.push_steps` steps in the background, and at the end."""

    def __init__(
        self, config: HubConfig, folder: RunFolder, metric_logger: MetricLogger, is_main: bool
    ) -> None:
        self._config = config
        self._folder = folder
        self._metric_logger = metric_logger
        self._is_main = is_main
        self._thread: threading.Thread | None = None
        disable_progress_bars()  # those of the Hub client would break the training's own

    def on_step_end(self, state: TrainerState) -> None:
        """Request a checkpoint if a push is due."""
        if self._is_due(state.step):
            state.should_save = True

    def on_save(self, state: TrainerState) -> None:
        """Push the saved model if due."""
        if self._is_main and self._is_due(state.step) and not state.is_last:
            self.push(state.step)

    def on_train_end(self, state: TrainerState) -> None:
        """Push the last model to the main branch, and wait until it is there."""
        if not self._is_main:
            return
        if self._thread is not None:
            self._thread.join()
        target = push_target(self._config, None)
        try:
            with staged(self._folder.path, target) as folder:
                page = push_folder(folder, target, f"Step {state.step}, the last")
        except PushError as error:
            self._log_failure(error)
        else:
            self._metric_logger.info(f"Published: {page}")

    def push(self, step: int) -> None:
        """Push the content of the run folder, unless the previous push is still running."""
        if self._thread is not None and self._thread.is_alive():
            self._metric_logger.info(
                f"Step {step}: not pushed, the previous push is still running."
            )
            return
        target = push_target(self._config, self._config.branch)
        # Copied now, because the next checkpoint replaces it.
        copy = ExitStack()
        folder = copy.enter_context(staged(self._folder.path, target))
        self._thread = threading.Thread(
            target=self._push, args=(copy, folder, target, step), daemon=True
        )
        self._thread.start()

    def _is_due(self, step: int) -> bool:
        steps = self._config.push_steps
        return steps is not None and step % steps == 0

    def _push(self, copy: ExitStack, folder: Path, target: Target, step: int) -> None:
        with copy:
            try:
                push_folder(folder, target, f"Step {step}")
            except PushError as error:
                self._log_failure(error)

    def _log_failure(self, error: PushError) -> None:
        config, run = self._config, self._folder
        options = (
            f"{' --private' if config.private else ''}{'' if config.samples else ' --no-samples'}"
        )
        self._metric_logger.info(
            f"Not published: {error} The model is safe in {run.model}. Publish it with: agit push "
            f"{run.path} --repo {config.hub_model_id} --license {config.license}{options}"
        )


def push_target(config: HubConfig, branch: str | None, timeout: float = 300) -> Target:
    """Return the settings of a push."""
    assert config.hub_model_id is not None and config.license is not None
    return Target(
        config.hub_model_id, config.license, config.private, config.samples, branch, timeout
    )


def check_repo(config: HubConfig) -> None:
    """Check before training that the model can be published.

    Raises:
        ConfigError: If the Hub refuses. A Hub that is unreachable does not prevent training.
    """
    try:
        prepare_repo(push_target(config, config.branch, _CHECK_TIMEOUT))
    except PushRefusedError as error:
        raise ConfigError(f"hub.push_to_hub: {error}") from error
    except PushError:
        return
