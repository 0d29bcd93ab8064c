"""Where the Space listens, checked before models are loaded: what is asked for happens or is refused.

Gradio itself moves on to another port, or goes on without a public link.
"""

import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from agit_hub.environment import check_writable, describe
from agit_hub.errors import SpaceError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Server:
    """Where and to whom the page is served; what is unset is Gradio's, or that of its variables.

    Raises:
        SpaceError: If a value cannot be used.
    """

    host: str | None = None
    """Address to listen on; `GRADIO_SERVER_NAME` or 127.0.0.1 by default."""
    port: int | None = None
    """`GRADIO_SERVER_PORT`, or the first free one from 7860 on, by default."""
    root_path: str | None = None
    """Path below which a proxy serves the page, such as `/agit`; or its whole address."""
    auth: str | None = None
    """`USER:PASSWORD` that visitors must give."""
    share: bool = False
    """Whether to create a public link."""

    def __post_init__(self) -> None:
        user, colon, password = (self.auth or "user:password").partition(":")
        if not (user and colon and password):
            raise SpaceError("--auth must be USER:PASSWORD, with neither part empty.")
        if self.root_path and not self.root_path.startswith(("/", "http://", "https://")):
            raise SpaceError(
                f"--root-path is {self.root_path!r}; it is a path such as /agit, or a whole address."
            )

    @property
    def credentials(self) -> tuple[str, str] | None:
        """User name and password."""
        user, _, password = (self.auth or "").partition(":")
        return (user, password) if self.auth else None

    @property
    def wants_link(self) -> bool:
        """Whether a public link is asked for, here or by `GRADIO_SHARE`."""
        return self.share or os.environ.get("GRADIO_SHARE", "").lower() == "true"

    def prepare(self) -> int | None:
        """Check the address and the folder for uploads, and return the port if one is asked for.

        Raises:
            SpaceError: If the address cannot be listened on.
            InputPathError: If the folder for uploads cannot be written to.
        """
        folder = os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir(), "gradio")
        check_writable(Path(folder), "GRADIO_TEMP_DIR, the folder for uploads,")
        host = self.host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
        port = self.port or _port_variable()
        _check_address(host, port)
        _bypass_proxies(host)
        return port


def _port_variable() -> int | None:
    text = os.environ.get("GRADIO_SERVER_PORT")
    if not text:
        return None
    if not (text.isdecimal() and 0 < int(text) < 2**16):
        raise SpaceError(f"GRADIO_SERVER_PORT is {text!r}; it must be a number from 1 to 65535.")
    return int(text)


def _check_address(host: str, port: int | None) -> None:
    """Listen for a moment."""
    try:
        place = socket.getaddrinfo(host.strip("[]"), port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(place[0]) as listener:
            # As servers do, so that a port whose connections have just ended is free.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(place[4])
            listener.listen()
    except OSError as error:
        where = f"{host}:{port}" if port else host
        raise SpaceError(
            f"The Space cannot listen on {where}: {describe(error)} (--host, --port, or the variables "
            "GRADIO_SERVER_NAME and GRADIO_SERVER_PORT)."
        ) from error


def _bypass_proxies(host: str) -> None:
    """Exempt this machine's own address from HTTP_PROXY and the like: Gradio asks it at its start."""
    exempt = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name.strip() for name in exempt.split(",") if name.strip()]
    names = list(dict.fromkeys([*names, *_LOOPBACK, host]))
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(names)
