"""The command line `agit` in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from testing.hub_server import Hub
from tests.hub.conftest import MakeRun, hub, make_run

__all__ = ["hub", "make_run"]  # fixtures

Agit = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def agit(tmp_path: Path) -> Agit:
    """Run `agit` in a process of its own."""

    def run(
        *arguments: str, hub: Hub | None = None, token: str | None = "hf_test"
    ) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
        environment.pop("HF_TOKEN", None)
        if hub is not None:
            environment |= {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
            environment |= {"HF_TOKEN": token} if token else {}
        return subprocess.run(
            [sys.executable, "-m", "agit_hub.cli", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=100,
            check=False,
        )

    return run


@pytest.mark.slow
def test_push_publishes_a_run_and_prints_its_url(agit: Agit, make_run: MakeRun, hub: Hub) -> None:
    run = str(make_run())
    done = agit("push", run, "--repo", "user/model", "--license", "mit", "--no-samples", hub=hub)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Published: {hub.url}/user/model\n"
    assert "samples.png" not in hub.files("user/model")


@pytest.mark.slow
def test_push_without_token_is_an_error_line(agit: Agit, make_run: MakeRun, hub: Hub) -> None:
    run = str(make_run())
    done = agit("push", run, "--repo", "user/model", "--license", "mit", hub=hub, token=None)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") and "user/model" in done.stderr
    assert "hf auth login" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push", "nowhere", "--repo", "user/model", "--license", "mit"], "is not a run folder"),
        (["push", "nowhere", "--repo", "user/model"], "--license"),
        (["push", "nowhere", "--license", "mit"], "--repo"),
        (["push-data", "nowhere", "too", "--repo", "a/b", "--license", "mit"], "does not exist"),
        (["pusch"], "pusch"),
    ],
)
def test_user_errors_exit_with_code_2(agit: Agit, arguments: list[str], message: str) -> None:
    done = agit(*arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_push_out_writes_repository_without_publishing(
    agit: Agit, make_run: MakeRun, tmp_path: Path
) -> None:
    out = tmp_path / "preview"
    settings = ["--repo", "user/model", "--license", "mit"]
    done = agit("push", str(make_run()), "--out", str(out), *settings)
    assert done.returncode == 0 and done.stdout == f"Written: {out}\n"
    assert sorted(file.name for file in out.iterdir()) == [
        "README.md", "attention.png", "config.json", "model.safetensors", "samples.png",
    ]  # fmt: skip
    assert "user/model" in (out / "README.md").read_text()


@pytest.mark.slow
def test_push_empty_gallery_is_a_user_error(agit: Agit, make_run: MakeRun, tmp_path: Path) -> None:
    settings = ["--repo", "user/model", "--license", "mit", "--gallery", str(tmp_path)]
    done = agit("push", str(make_run()), "--out", str(tmp_path / "preview"), *settings)
    assert done.returncode == 2
    assert "has no images: put some in its folders horse and zebra" in done.stderr


@pytest.mark.slow
def test_push_missing_notes_are_a_user_error(agit: Agit, make_run: MakeRun, tmp_path: Path) -> None:
    settings = ["--repo", "user/model", "--license", "mit", "--notes", str(tmp_path / "no.md")]
    done = agit("push", str(make_run()), "--out", str(tmp_path / "preview"), *settings)
    assert done.returncode == 2 and "no.md: it does not exist" in done.stderr


def test_missing_package_names_the_extra_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['tenacity'] = None; sys.argv = ['agit', 'push', 'run', "
        "'--repo', 'a/b', '--license', 'mit']; from agit_hub.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr == "error: tenacity is not installed: pip install 'agit-hub[train]'.\n"


def test_help_lists_the_commands_in_order(agit: Agit) -> None:
    done = agit("--help")
    assert done.returncode == 0
    _, _, commands = done.stdout.partition("Commands:")
    names = [line.split()[0] for line in commands.splitlines() if line.strip()]
    ordered = ["translate", "evaluate", "compare", "masks", "push", "push-data", "export"]
    assert [name for name in names if name in ordered] == ordered


@pytest.mark.parametrize("command", ["evaluate", "compare", "masks", "push", "push-data"])
def test_help_of_a_command_fits_a_screen_and_shows_an_example(command: str, agit: Agit) -> None:
    done = agit(command, "--help")
    assert done.returncode == 0
    assert f"Example: agit {command} " in done.stdout and len(done.stdout.splitlines()) <= 60
