"""Every error that the package raises on purpose; commands turn them into one sentence and an exit code.

`AgitError` ends a command with exit code 1, `UserError`, for what the user can correct, with 2.
"""


class AgitError(Exception):
    """Something failed; the message says what, why, and what is safe."""

    exit_code = 1


class UserError(AgitError, ValueError):
    """A mistake in what was asked for; the message names the value and the remedy."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration that cannot be used; the message names the key, the value and the remedy."""


class ModelLoadError(UserError):
    """A repo or folder that does not hold a usable AGIT model."""


class BackendError(UserError):
    """A backend that is unavailable here; the message says what is missing."""


class ExportError(AgitError, RuntimeError):
    """An exported file whose translations differ from the model's by more than is allowed."""


class EditError(UserError):
    """An attention edit that cannot be applied; the message names the value and what is accepted."""


class InputPathError(UserError):
    """Input or output paths that cannot be used."""


class VideoError(UserError):
    """A file that is no usable video; the message names it and says why."""


class DatasetError(AgitError):
    """Images that are unavailable; the message says which, why, and what to do."""

    def __init__(self, message: str) -> None:
        # Out of a loader's worker process an error comes as the text of its traceback.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class DataError(DatasetError, UserError):
    """A dataset that the user has to correct: a wrong name, a missing folder, terms not accepted."""


class FetchError(DatasetError):
    """The network failed for longer than `data.hub_timeout`."""


class ImageError(DataError):
    """A file that is no usable image; the message says why."""


class SpaceError(UserError):
    """A request that the Space does not accept; the message is shown to the user."""


class EvaluationError(UserError):
    """An evaluation that cannot be done as asked."""


class RunFolderError(UserError):
    """A folder that is no run, or a run that has nothing to publish yet; the message says which."""


class SaveError(AgitError, OSError):
    """Something could not be written; the message says what and why."""


class RunError(AgitError, RuntimeError):
    """A run that cannot go on; the message says why and what is safe."""


class RankError(RunError):
    """A `RunError` of one process alone, which must report it itself."""


class PushError(AgitError, RuntimeError):
    """A push that failed; the message says why and how to repeat it."""


class PushRefusedError(PushError, UserError):
    """A push that the Hub refuses permanently: no write access, a wrong name, a gated repo."""
