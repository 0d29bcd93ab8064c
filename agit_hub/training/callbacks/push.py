"""Pushes to the Hub during a run."""

import threading
from contextlib import ExitStack
from pathlib import Path

from huggingface_hub.utils.tqdm import disable_progress_bars

from agit_hub.errors import ConfigError, PushError, PushRefusedError
from agit_hub.hub.push import Target, prepare_repo, push_folder, staged
from agit_hub.runs import RunFolder
from agit_hub.training.callbacks.base import Callback, TrainerState
from agit_hub.training.config import HubConfig
from agit_hub.training.metrics import MetricLogger

# Seconds for which the Hub is retried at the start of a run, which does not need it yet.
_CHECK_TIMEOUT = 10.0


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
