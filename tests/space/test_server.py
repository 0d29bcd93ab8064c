"""Where the Space listens: as asked, or not at all."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agit_hub.errors import InputPathError, SpaceError
from agit_hub.space.server import Server
from tests.space.conftest import free_port


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_SHARE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "gradio"))


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that is in use."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_server_taken_port_is_refused(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    message = rf"127.0.0.1:{taken}: the port is in use"
    with pytest.raises(SpaceError, match=message):
        Server(port=taken).prepare()
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(taken))
    with pytest.raises(SpaceError, match=message):
        Server().prepare()


def test_server_free_port_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    assert Server(port=port).prepare() == port
    monkeypatch.setenv("GRADIO_SERVER_PORT", str(port))
    assert Server().prepare() == port
    monkeypatch.delenv("GRADIO_SERVER_PORT")
    assert Server().prepare() is None


def test_server_host_of_option_or_variable_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = "192.0.2.7"  # reserved for documentation
    with pytest.raises(SpaceError, match=rf"{foreign}: .*not one of this machine's"):
        Server(host=foreign).prepare()
    monkeypatch.setenv("GRADIO_SERVER_NAME", foreign)
    with pytest.raises(SpaceError, match=foreign):
        Server().prepare()
    Server(host="0.0.0.0").prepare()


@pytest.mark.parametrize("text", ["abc", "0", "70000", "-1"])
def test_server_port_variable_that_is_none_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_SERVER_PORT", text)
    with pytest.raises(SpaceError, match=f"GRADIO_SERVER_PORT is '{text}'"):
        Server().prepare()


@pytest.mark.parametrize("auth", ["bob", ":x", "bob:"])
def test_server_auth_without_both_parts_is_refused(auth: str) -> None:
    with pytest.raises(SpaceError, match="USER:PASSWORD"):
        Server(auth=auth)


def test_server_auth_password_may_hold_colons() -> None:
    assert Server(auth="bob:a:b").credentials == ("bob", "a:b")
    assert Server().credentials is None


def test_server_root_path_is_a_path() -> None:
    with pytest.raises(SpaceError, match="--root-path is 'agit'"):
        Server(root_path="agit")
    for path in ("/agit", "https://example.org/agit"):
        assert Server(root_path=path).root_path == path


def test_server_link_is_wanted_by_option_or_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Server(share=True).wants_link and not Server().wants_link
    monkeypatch.setenv("GRADIO_SHARE", "True")
    assert Server().wants_link


def test_server_exempts_its_own_address_from_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "example.org, localhost")
    Server().prepare()
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "example.org,localhost,127.0.0.1,::1"


def test_server_folder_for_uploads_that_is_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file"))
    with pytest.raises(InputPathError, match=r"GRADIO_TEMP_DIR.*is a file"):
        Server().prepare()
