"""Several machines, and processes that are killed."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agit_hub.cli.train import main
from tests.training.conftest import ROOT, SCRIPT, Arguments, Process, read_until
from tests.training.test_distributed import ENVIRONMENT, FOREVER, LAUNCH

pytestmark = pytest.mark.slow

States = Callable[[Path], dict[str, Any]]
AssertSame = Callable[[Any, Any, str], None]


def _launch_on_two(places: list[Path], arguments: list[str]) -> list[tuple[int, str, str]]:
    """Launch as on two machines without a shared disk: each has its own working folder."""
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
        (running.returncode, log, printed)
        for running, (printed, log) in zip(launched, outputs, strict=True)
    ]


def test_two_machines_without_shared_disk_train_and_resume_exactly(
    tmp_path: Path,
    arguments: Arguments,
    two_ranks: Callable[..., list[Process]],
    states: States,
    assert_same: AssertSame,
) -> None:
    """The files of the first machine suffice to resume exactly; one machine trains the same."""
    first, second = tmp_path / "first", tmp_path / "second"
    settings = {"train.switch.step": 2, "train.ema_decay": 0.5, "train.decay_from": 1.0}
    for steps, flags in ((3, []), (6, ["--resume"])):
        command = arguments(Path("run"), settings | {"train.max_steps": steps}, *flags)
        for code, log, _ in _launch_on_two([first, second], command):
            # The launcher that ends last may log that the other, which held their store, is gone.
            assert code == 0 and 'train_accelerate.py", line' not in log, log
    assert list(second.iterdir()) == []
    assert sorted(states(first / "run")) == [
        f"step-0000000{step}/{name}.pt" for step in (3, 6) for name in ("rank-0", "rank-1", "state")
    ]

    whole = tmp_path / "whole"
    at_once = arguments(whole, settings | {"train.max_steps": 6})
    assert [rank.finish()[0] for rank in two_ranks(at_once)] == [0, 0]
    expected, found = states(whole), states(first / "run")
    for name in ("state.pt", "rank-0.pt", "rank-1.pt"):
        assert_same(found[f"step-00000006/{name}"], expected[f"step-00000006/{name}"], name)


def child(launcher: int, rank: int) -> int:
    """Return the process of a rank of a launcher."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(launcher)], capture_output=True, text=True, check=True
    )
    for pid in map(int, found.stdout.split()):
        if f"RANK={rank}" in Path(f"/proc/{pid}/environ").read_text().split("\0"):
            return pid
    raise AssertionError(f"no process of rank {rank}")


def test_two_processes_one_killed_stops_the_other_with_message(
    tmp_path: Path, arguments: Arguments
) -> None:
    settings = FOREVER | {"train.checkpointing_steps": 2}
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
        read_until(running.stderr, "step 3/")
        os.kill(child(running.pid, rank=1), signal.SIGKILL)
        log = running.stderr.read()
    assert running.returncode != 0
    (line,) = [line for line in log.splitlines() if line.startswith("error: ")]
    assert re.match(r"error: Process 0 .*step \d+: another process .*died", line)
    newest = max(path.name for path in (tmp_path / "checkpoints").glob("step-????????"))
    assert f"{tmp_path / 'checkpoints' / newest} is safe." in line


def test_two_processes_user_error_stops_both_with_one_message(
    tmp_path: Path, arguments: Arguments, two_ranks: Callable[..., list[Process]]
) -> None:
    """Only the first process reads folders; the others receive its error without printing it."""
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
def test_main_destroys_process_group_before_exit(
    tmp_path: Path,
    arguments: Arguments,
    two_ranks: Callable[..., list[Process]],
    changes: dict[str, str],
    expected: int,
) -> None:
    """Threads of the group could abort a process at exit, and a finished run would count as failed."""
    command = arguments(tmp_path / "run", changes)
    for rank in two_ranks([command], function=_main_and_remaining_threads):
        code, log, printed = rank.finish()
        assert code == 0 and printed.splitlines()[-1] == f"{expected} []", log


def _main_and_remaining_threads(arguments: list[str]) -> None:
    code = main(arguments)
    threads = [Path(task, "comm").read_text() for task in Path("/proc/self/task").iterdir()]
    print(code, [name for name in threads if "gloo" in name], flush=True)
