"""Validation during a run: the best weights, and early stopping."""

import time
from dataclasses import replace
from typing import Any

from accelerate import Accelerator

from agit_hub.data.load import load_domains
from agit_hub.errors import ConfigError, EvaluationError
from agit_hub.evaluation.datasets import (
    SHAPES_VALIDATION_SEED,
    DomainEvalDataset,
    EvalDataset,
    load_eval_datasets,
)
from agit_hub.evaluation.evaluator import Evaluation, Evaluator
from agit_hub.evaluation.protocols import find_protocol
from agit_hub.evaluation.results import write_results
from agit_hub.inference.pipeline import AGITPipeline
from agit_hub.models.agit import AGITModel
from agit_hub.runs import RunFolder
from agit_hub.training import checkpoint
from agit_hub.training.callbacks.base import Callback, TrainerState
from agit_hub.training.config import TrainConfig
from agit_hub.training.distributed import on_first_rank
from agit_hub.training.metrics import MetricLogger, ValidationResult


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
            held_out = self._config.eval.holdout
            advice = (
                ""
                if held_out is None
                else f" Validation has one image in {held_out} (eval.holdout): set a smaller "
                "--eval.holdout, or --eval.steps null --eval.holdout null to train without validation."
            )
            raise ConfigError(f"eval: {error}{advice}") from error

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
