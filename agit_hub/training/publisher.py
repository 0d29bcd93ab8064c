"""Pushes of a run on its way and at its end, beside the training and never in its way."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from huggingface_hub.utils.tqdm import disable_progress_bars

from agit_hub.errors import ConfigError, PushError, PushRefusedError
from agit_hub.hub.push import Target, prepare_repo, push_folder, staged
from agit_hub.training.config import HubConfig

# Seconds for a Hub that may be out of reach as a training begins: it is needed only later.
_BRIEFLY = 10.0


class Publisher:
    """Publishes a run's model, as it is at a step, in the background.

    Args:
        settings: Where to and how.
        run: The run's folder.
        say: Tells the person something.
    """

    def __init__(self, settings: HubConfig, run: Path, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._on_the_way = target_of(settings, settings.branch)
        self._at_the_end = target_of(settings, None)
        self._run = run
        self._say = say
        self._pushing: threading.Thread | None = None
        disable_progress_bars()  # the client's would tear the training's own

    def is_due(self, step: int) -> bool:
        """Whether a push is due after a step."""
        every = self._settings.every
        return every is not None and step % every == 0

    def push(self, step: int) -> None:
        """Push what the run folder holds now, unless the push before it is still under way."""
        if self._pushing is not None and self._pushing.is_alive():
            self._say(f"Step {step}: not pushed, for the push before it is still under way.")
            return
        # What is pushed is put aside now, for the next checkpoint replaces it.
        with ExitStack() as stack:
            folder = stack.enter_context(staged(self._run, self._on_the_way))
            kept = stack.pop_all()
        self._pushing = threading.Thread(target=self._push, args=(kept, folder, step), daemon=True)
        self._pushing.start()

    def finish(self, step: int) -> None:
        """Push the last model, to the main branch, and wait until it is there."""
        if self._pushing is not None:
            self._pushing.join()
        target = self._at_the_end
        try:
            with staged(self._run, target) as folder:
                page = push_folder(folder, target, f"Step {step}, the last")
        except PushError as error:
            self._say(self._in_vain(error))
        else:
            self._say(f"Published: {page}")

    def _push(self, kept: ExitStack, folder: Path, step: int) -> None:
        with kept:
            try:
                push_folder(folder, self._on_the_way, f"Step {step}")
            except PushError as error:
                self._say(self._in_vain(error))

    def _in_vain(self, error: PushError) -> str:
        settings = self._settings
        return (
            f"Not published: {error} The model is safe in {self._run / 'model'}. Publish it with: "
            f"agit push {self._run} --repo {settings.hub_model_id} --license {settings.license}"
            f"{' --private' if settings.private else ''}{'' if settings.samples else ' --no-samples'}"
        )


def target_of(settings: HubConfig, branch: str | None, patience: float = 300) -> Target:
    """The settings of a run as those of a push."""
    assert settings.hub_model_id is not None and settings.license is not None
    return Target(
        settings.hub_model_id,
        settings.license,
        settings.private,
        settings.samples,
        branch,
        patience,
    )


def check_repo(settings: HubConfig) -> None:
    """Find out before a training whether its model can be published.

    Raises:
        ConfigError: If the Hub refuses. A Hub that cannot be reached is no reason not to train.
    """
    try:
        prepare_repo(target_of(settings, settings.branch, _BRIEFLY))
    except PushRefusedError as error:
        raise ConfigError(f"hub.push_to_hub: {error}") from error
    except PushError:
        return
