"""What visitors are told: sentences without the host's paths, as text and not as HTML."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from html import escape
from inspect import isgeneratorfunction
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from agit_hub.environment import explain
from agit_hub.errors import UserError
from agit_hub.logging import get_logger
from agit_hub.space.visitors import Visitors, visitor_address

_log = get_logger("agit_hub.space")
# Of a path only the last part is shown; addresses (https://...) are none.
_PATH = re.compile(r"(?<![\w.:/\\])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\"]+[/\\])+")
_INTERNAL = "Something went wrong here, which is not your fault; try another image or model."

Handler = Callable[..., Any]


def visitor_message(error: Exception) -> str:
    """Return a sentence for a visitor; what is not the visitor's own mistake is in the log."""
    expected = explain(error)
    if not isinstance(expected, UserError):
        _log.warning("A request failed: %s", error, exc_info=expected is None)
    return _PATH.sub("", str(expected)) if expected is not None else _INTERNAL


def guarded(handler: Handler, visitors: Visitors) -> Handler:
    """Make a handler keep to its visitor's share, and show its errors as messages on the page.

    A handler that yields, so that it can be stopped between its steps, keeps to them over all of them.
    """

    @wraps(handler)
    def run(*args: Any, **kwargs: Any) -> Any:
        with _on_behalf_of_visitor(visitors):
            return handler(*args, **kwargs)

    @wraps(handler)
    def run_steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
        with _on_behalf_of_visitor(visitors):
            yield from handler(*args, **kwargs)

    return run_steps if isgeneratorfunction(handler) else run


@contextmanager
def _on_behalf_of_visitor(visitors: Visitors) -> Iterator[None]:
    try:
        request = LocalContext.request.get(None)
        with visitors.computing(visitor_address(request) if request else ""):
            yield
    except gr.Error:  # of ZeroGPU
        raise
    except Exception as error:
        # Gradio shows messages as HTML.
        message = escape(visitor_message(error), quote=False)
        raise gr.Error(message, title="Invalid input", print_exception=False) from error
