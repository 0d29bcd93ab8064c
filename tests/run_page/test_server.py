"""`agit watch` serves the page of a run and what it shows, and nothing else of its folder."""

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from typer.testing import CliRunner

from agit_hub.cli import app
from agit_hub.errors import InputPathError, RunFolderError
from agit_hub.run_page.server import serving
from agit_hub.run_page.status import RunStatus, write_status
from agit_hub.runs import RunFolder


@pytest.fixture
def port(run: RunFolder) -> Iterator[int]:
    """Serve the run."""
    with serving(run, "127.0.0.1", None) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def get(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_server_answers_with_page_status_and_samples(run: RunFolder, port: int) -> None:
    status, page = get(port, "/")
    assert status == 200 and b"horses & zebras" in page
    assert json.loads(get(port, "/status.json")[1])["step"] == 1000
    image = run.sample_grid(500).read_bytes()
    assert get(port, "/samples/step-00000500.png") == (200, image)
    assert get(port, "/samples/step-00000500.png", "HEAD") == (200, b"")


@pytest.mark.parametrize(
    "path",
    ["/config.yaml", "/checkpoints/", "/samples/", "/samples/../config.yaml", "//etc/passwd",
     "/samples/step-1.png%2f..%2f..%2fconfig.yaml", "/samples/step-00000777.png"],
)  # fmt: skip
def test_server_other_paths_are_not_found(port: int, path: str) -> None:
    assert get(port, path)[0] == 404


def test_server_run_that_is_deleted_is_not_found(run: RunFolder, port: int) -> None:
    run.config_file.unlink()
    assert get(port, "/")[0] == 404


def test_server_taken_port_raises_input_path_error(run: RunFolder, port: int) -> None:
    with pytest.raises(InputPathError, match=f"127.0.0.1:{port}"), serving(run, "127.0.0.1", port):
        pass


def test_server_other_folder_raises_run_folder_error(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError), serving(RunFolder(tmp_path), "127.0.0.1", None):
        pass


def test_served_page_reloads_when_the_run_goes_on(
    browser: Browser, run: RunFolder, port: int
) -> None:
    page = browser.new_page()
    page.goto(f"http://127.0.0.1:{port}")
    expect(page.locator("#facts")).to_contain_text("Step: 1000 of 2000")
    write_status(run, RunStatus("finished", 2000, 2000, "Finished after 2000 steps."))
    expect(page.locator("#facts")).to_contain_text("Step: 2000 of 2000")
    expect(page.locator("#notes")).to_contain_text("Finished after 2000 steps.")
    page.close()


def test_watch_out_writes_one_file_with_all_images(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    message = f"Stopped at step 1000 of 2000 and saved it in {run.path}."
    write_status(run, RunStatus("stopped", 1000, 2000, message))
    # A model's folder names its run.
    done = CliRunner().invoke(app, ["watch", str(run.path / "model"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    page = out.read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 2
    # It is made to be sent to somebody.
    assert str(tmp_path) not in page and "saved it in horses & zebras." in page
    assert "train.max_steps" in page


def test_watch_of_a_folder_without_a_run_exits_with_a_sentence(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["watch", str(tmp_path)])
    assert done.exit_code == 2 and "not a run folder" in done.stderr
