"""A run measures itself on its way, on pictures that it is not trained on."""

import time
from dataclasses import dataclass, replace
from typing import Any

from agit_hub.data.domains.subset import held_out
from agit_hub.data.loading import load_domains
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
from agit_hub.training import checkpoint
from agit_hub.training.config import TrainConfig
from agit_hub.training.run_folder import RunFolder


@dataclass(frozen=True)
class ValidationResult:
    """What one measurement on the way found."""

    figures: dict[str, float]
    """For the log: `eval/st/kid`, `eval/ts/identical`, ..., and `eval/step`."""
    said: str
    """A sentence for the person."""
    seconds: float
    """That it took, which are none of the training's."""


class Validation:
    """Measures the published networks, and keeps the weights of the lowest KID in `picked`.

    Args:
        config: The run.
        folder: Of the run.

    Raises:
        ConfigError: If its protocol or pictures cannot be used.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder) -> None:
        self._config = config
        self._folder = folder
        self._lowest: float | None = None
        self._since_lowest = 0
        try:
            protocol = find_protocol(config.eval.protocol)
            self._evaluator = Evaluator(
                *_specimens(config), protocol, with_fid=False, with_regions=False
            )
        except EvaluationError as error:
            raise ConfigError(f"eval: {error}") from error

    def is_due(self, step: int, last: bool) -> bool:
        """Whether to measure after `step` steps."""
        every = self._config.eval.every
        return every is not None and (last or step % every == 0)

    def measure(self, model: AGITModel, step: int) -> ValidationResult:
        """Measure the networks as they would be published after `step` steps."""
        began = time.perf_counter()
        was_training = model.training
        evaluation = self._evaluator(AGITPipeline(model))
        model.train(was_training)
        self._note(evaluation, step)
        kids = [m for m in evaluation.measurements if m.metric == "kid"]
        total = sum(m.value for m in kids)
        self._since_lowest += 1
        if self._lowest is None or total < self._lowest:
            self._lowest, self._since_lowest = total, 0
            checkpoint.save_model(model, self._folder.picked)
            self._folder.write_picked({"step": step, "kid": total / len(kids)})
        said = "; ".join(
            f"KID {m.direction} {m.value:.4g} (identity {m.baseline:.4g})" for m in kids
        )
        seconds = time.perf_counter() - began
        return ValidationResult(
            _for_the_log(evaluation) | {"eval/step": float(step)},
            f"Step {step}: {said}; measured in {seconds:.0f} s.",
            seconds,
        )

    @property
    def why_to_stop(self) -> str | None:
        """Why the run is to end before its last step; None if it is to go on."""
        patience = self._config.eval.patience
        if patience is None or self._since_lowest < patience:
            return None
        return (
            f"KID has not improved for {self._since_lowest} measurements (eval.patience {patience}). "
            f"The weights of the lowest are in {self._folder.picked}."
        )

    def _note(self, evaluation: Evaluation, step: int) -> None:
        """Leave the figures for the model's card."""
        found = [
            replace(m, split="validation", protocol=f"{m.protocol}; weights of step {step}")
            for m in evaluation.measurements
        ]
        write_results(self._folder.path, found)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs to go on identically."""
        return {"lowest": self._lowest, "since_lowest": self._since_lowest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._lowest = state["lowest"]
        self._since_lowest = state.get("since_lowest", 0)  # older checkpoints did not count


def _specimens(config: TrainConfig) -> tuple[EvalDataset, EvalDataset]:
    data, settings, labels = config.data, config.eval, config.model.labels
    size, limit = config.model.image_size, settings.pictures
    if settings.holdout is None:
        places = settings.source, settings.target
        seed = SHAPES_VALIDATION_SEED
        return load_eval_datasets(*places, labels, size, limit=limit, side=size, shapes_seed=seed)
    opened = load_domains(data.source, data.target, size, data.network_patience)
    one, other = (
        DomainEvalDataset(held_out(found, settings.holdout), label, limit=limit, side=size)
        for found, label in zip(opened, labels, strict=True)
    )
    return one, other


def _for_the_log(evaluation: Evaluation) -> dict[str, float]:
    directions = list(dict.fromkeys(m.direction for m in evaluation.measurements))
    names = dict(zip(directions, ("st", "ts"), strict=True))
    return {f"eval/{names[m.direction]}/{m.metric}": m.value for m in evaluation.measurements}
