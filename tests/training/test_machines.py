"""Several machines, and processes that die."""

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agit_hub.cli.train import main
from tests.training.conftest import ROOT, SCRIPT, Arguments, Process
from tests.training.test_distributed import ENVIRONMENT, FOREVER, LAUNCH

States = Callable[[Path], dict[str, Any]]
AssertSame = Callable[[Any, Any, str], None]


def _launch_on_two(places: list[Path], arguments: list[str]) -> list[tuple[int, str, str]]:
    """Launch as on two machines that share no disk: each has a working folder of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    together = ["--multi_gpu", "--num_machines", "2", "--num_processes", "2"]
    meeting = ["--main_process_ip", "127.0.0.1", "--main_process_port", port]
    launched = []
    for rank, place in enumerate(places):
        place.mkdir(exist_ok=True)
        machine = [*LAUNCH, *together, *meeting, "--machine_rank", str(rank)]
        launched.append(
            subprocess.Popen(
                [*machine, str(SCRIPT), *arguments],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                cwd=place,
                env=ENVIRONMENT | {"PYTHONPATH": str(ROOT)},
            )
        )
    outputs = [running.communicate(timeout=120) for running in launched]
    return [
        (running.returncode, said, printed)
        for running, (printed, said) in zip(launched, outputs, strict=True)
    ]


def test_two_machines_without_a_common_disk_train_across_the_switch_and_resume(
    tmp_path: Path, arguments: Arguments, states: States, assert_same: AssertSame
) -> None:
    """What the first machine saved is all that the second needs to go on, to the last bit."""
    first, second = tmp_path / "first", tmp_path / "second"
    settings = {"train.switch.step": 2, "train.ema": 0.5, "train.decay_from": 1.0}
    for steps, flags in ((3, []), (6, ["--resume"])):
        command = arguments(Path("run"), settings | {"train.max_steps": steps}, *flags)
        for code, said, _ in _launch_on_two([first, second], command):
            # The launcher that ends last may log that the other, which held their store, is gone.
            assert code == 0 and 'train_accelerate.py", line' not in said, said
    assert list(second.iterdir()) == []
    assert sorted(states(first / "run")) == [
        f"step-0000000{step}/{name}.pt" for step in (3, 6) for name in ("rank-0", "rank-1", "state")
    ]

    whole = tmp_path / "whole"
    at_once = arguments(Path("run"), settings | {"train.max_steps": 6})
    assert [code for code, _, _ in _launch_on_two([whole, second], at_once)] == [0, 0]
    expected, found = states(whole / "run"), states(first / "run")
    for name in ("state.pt", "rank-0.pt", "rank-1.pt"):
        assert_same(found[f"step-00000006/{name}"], expected[f"step-00000006/{name}"], name)


def child(launcher: int, rank: int) -> int:
    """The process that a launcher gave a rank."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(launcher)], capture_output=True, text=True, check=True
    )
    for pid in map(int, found.stdout.split()):
        if f"RANK={rank}" in Path(f"/proc/{pid}/environ").read_text().split("\0"):
            return pid
    raise AssertionError(f"no process of rank {rank}")


def test_a_process_that_dies_takes_the_run_down_with_a_message(
    tmp_path: Path, arguments: Arguments
) -> None:
    settings = FOREVER | {"train.checkpoint_every": 2}
    command = [*LAUNCH, "--multi_gpu", "--num_processes", "2", "--main_process_port", "0"]
    with subprocess.Popen(
        [*command, SCRIPT.name, *arguments(tmp_path, settings)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=ENVIRONMENT,
        cwd=ROOT,
    ) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("step 3/"):
                break
        os.kill(child(running.pid, rank=1), signal.SIGKILL)
        said = running.stderr.read()
    assert running.returncode != 0
    (line,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: Process 0 stops at step ")
    assert "another process of this run has died" in line
    newest = max(path.name for path in (tmp_path / "checkpoints").glob("step-????????"))
    assert f"{tmp_path / 'checkpoints' / newest} is safe." in line


def test_a_first_process_that_refuses_takes_the_others_with_it(
    tmp_path: Path, arguments: Arguments, two_ranks: Callable[..., list[Process]]
) -> None:
    """Only the first looks at folders; the others hear what it found, and none of them speaks."""
    changes = {"data.source.path": str(tmp_path / "missing")}
    first, second = (rank.finish() for rank in two_ranks(arguments(tmp_path / "run", changes)))
    assert first[0] == second[0] == 2
    assert first[1].startswith("error: ") and second[1] == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, 0), ({"data.source.path": "/nowhere"}, 2)],
    ids=["ends", "refuses"],
)
def test_processes_take_leave_of_each_other_before_they_end(
    tmp_path: Path,
    arguments: Arguments,
    two_ranks: Callable[..., list[Process]],
    changes: dict[str, str],
    expected: int,
) -> None:
    """What still listens when a process ends may abort it: then a finished run counts as failed."""
    command = arguments(tmp_path / "run", changes)
    for rank in two_ranks([command], function=_main_and_what_is_left):
        code, said, printed = rank.finish()
        assert code == 0 and printed.splitlines()[-1] == f"{expected} []", said


def _main_and_what_is_left(arguments: list[str]) -> None:
    code = main(arguments)
    threads = [Path(task, "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    print(code, [name for name in threads if "gloo" in name], flush=True)
