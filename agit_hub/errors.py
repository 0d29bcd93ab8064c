"""The package's exceptions. Commands print one as a single sentence, and exit with its code.

The exit code is 1 for `AgitError`, and 2 for `UserError`, which the user can correct.
"""


class AgitError(Exception):
    """Base class. The message states what failed and why, and which files are safe."""

    exit_code = 1


class UserError(AgitError, ValueError):
    """Invalid input; the message names the value and the remedy."""

    exit_code = 2


class ConfigError(UserError):
    """A configuration that cannot be used; the message names the key, the value and the remedy."""


class ModelLoadError(UserError):
    """A repo or folder that does not hold a usable AGIT model."""


class BackendError(UserError):
    """A backend that is unavailable; the message states what is missing."""


class PackageError(BackendError, ImportError):
    """A package that is missing or cannot be loaded; the message states what to install."""


class ExportError(AgitError, RuntimeError):
    """An exported file whose translations differ from the model's by more than is allowed."""


class EditError(UserError):
    """An attention edit that cannot be applied; the message names the value and what is accepted."""


class InputPathError(UserError):
    """Input or output paths that cannot be used."""


class VideoError(UserError):
    """A file that is not a usable video; the message names it and states why."""


class DatasetError(AgitError):
    """Images that are unavailable; the message states which, why, and what to do."""

    def __init__(self, message: str) -> None:
        # A DataLoader re-raises an error of a worker with the traceback's text as its message.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


class DataError(DatasetError, UserError):
    """A dataset that cannot be used: a wrong name, a missing folder, terms not accepted."""


class FetchError(DatasetError):
    """The network failed for longer than `data.hub_timeout`."""


class ImageError(DataError):
    """A file that is not a usable image; the message states why."""


class ImageTypeError(UserError, TypeError):
    """A value that is not an image; the message states what is accepted."""


class SpaceError(UserError):
    """A request that the Space does not accept; the message is shown to the user."""


class MaskError(UserError):
    """A mask that cannot be used, or not be told apart; the message names it and the remedy."""


class EvaluationError(UserError):
    """An evaluation that cannot run with the given options or images."""


class RunFolderError(UserError):
    """A folder that is not a run, or that has nothing to publish yet; the message states which."""


class SaveError(AgitError, OSError):
    """A file that could not be written; the message states which and why."""


class RunError(AgitError, RuntimeError):
    """A training run that cannot continue; the message states why, and which checkpoint is safe."""


class RankError(RunError):
    """A `RunError` of a single process, which prints it even if it is not the first rank."""


class PushError(AgitError, RuntimeError):
    """A push that failed; the message states why and how to repeat it."""


class PushRefusedError(PushError, UserError):
    """A push that the Hub refuses permanently: no write access, a wrong name, a gated repo."""
