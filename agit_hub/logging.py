"""The library's logger: writes messages of level INFO and above to standard error."""

import logging
import sys
from typing import TextIO

_ROOT = logging.getLogger("agit_hub")


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Write to the current `sys.stderr`, which may have been redirected since."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module of this package, and install the library's handler if needed."""
    if not _ROOT.handlers:
        _ROOT.addHandler(_StderrHandler())
        _ROOT.setLevel(logging.INFO)
    return logging.getLogger(name)


def set_verbosity(level: int) -> None:
    """Set the lowest level that is logged, such as `logging.WARNING`."""
    get_logger("agit_hub").setLevel(level)


def set_verbosity_info() -> None:
    """Log progress, warnings and errors (the default)."""
    set_verbosity(logging.INFO)


def set_verbosity_warning() -> None:
    """Log warnings and errors only."""
    set_verbosity(logging.WARNING)


def set_verbosity_error() -> None:
    """Log errors only."""
    set_verbosity(logging.ERROR)
