"""Fixtures of the tests of training: images, tiny runs, and processes that train."""

import io
import json
import multiprocessing
import os
import resource
import runpy
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Exact comparisons run on the CPU, even on a machine with a GPU.
os.environ["ACCELERATE_USE_CPU"] = "true"

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from agit_hub.data.domains import parquet
from agit_hub.training.config import TrainConfig
from agit_hub.training.config_loader import parse
from agit_hub.training.trainer import Outcome, Trainer

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "train_accelerate.py"
SIZE = 16
TINY = {
    "model.image_size": SIZE,
    "model.channels": 4,
    "model.blocks": 0,
    "model.attention_channels": 4,
    "train.discriminator_channels": 4,
    "train.pool_size": 2,
    "train.max_steps": 4,
    "train.learning_rate": 1e-3,
    "train.switch.epoch": None,
    "log.steps": 1,
    "log.num_samples": 1,
}

# Processes are forked from one that has already imported the slow modules.
_FORKSERVER = multiprocessing.get_context("forkserver")
_FORKSERVER.set_forkserver_preload(
    ["agit_hub.training.trainer", "tests.training.conftest", "jinja2"]
)


def _write_images(folder: Path, count: int, seed: int) -> Path:
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    for number in range(count):
        pixels = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of five images."""
    return _write_images(tmp_path_factory.mktemp("images") / "source", 5, seed=0)


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three images."""
    return _write_images(tmp_path_factory.mktemp("images") / "target", 3, seed=1)


@pytest.fixture(scope="session")
def damaged_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of six images; the third is truncated."""
    folder = _write_images(tmp_path_factory.mktemp("images") / "damaged", 6, seed=0)
    whole = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(whole[: len(whole) // 2])
    return folder


Arguments = Callable[..., list[str]]
Equal = Callable[[Path, Path], None]
Train = Callable[..., Outcome]


@pytest.fixture(scope="session")
def arguments(source: Path, target: Path) -> Arguments:
    """Return the command line of a tiny run, with some keys changed."""

    def make(output: Path, changes: Mapping[str, Any] | None = None, *flags: str) -> list[str]:
        paths = {"data.source.path": source, "data.target.path": target, "output_dir": output}
        values = TINY | paths | dict(changes or {})
        return [
            *(f"--{key}={'null' if v is None else v}" for key, v in values.items()),
            *flags,
        ]

    return make


@pytest.fixture(scope="session")
def configure(arguments: Arguments) -> Callable[..., TrainConfig]:
    """Return the configuration of a tiny run."""
    return lambda *args: parse(arguments(*args)).config


@pytest.fixture(scope="session")
def train(configure: Callable[..., TrainConfig]) -> Train:
    """Train a tiny run in this process."""

    def run(
        output: Path, changes: Mapping[str, Any] | None = None, resume: bool = False
    ) -> Outcome:
        return Trainer(configure(output, changes), resume).fit()

    return run


class _Interrupting(io.StringIO):
    """Standard error that raises SIGINT when a text is written."""

    def __init__(self, text: str, times: int) -> None:
        super().__init__()
        self._text, self._times = text, times

    def write(self, written: str) -> int:
        count = super().write(written)
        if self._text in written:
            for _ in range(self._times):
                signal.raise_signal(signal.SIGINT)  # handled before it returns
        return count


@pytest.fixture
def interrupt_when() -> Callable[..., Any]:
    """Context in which this process receives SIGINT each time it logs a text."""

    @contextmanager
    def interrupting(text: str, times: int = 1) -> Iterator[io.StringIO]:
        stream = _Interrupting(text, times)
        # A process started in the background may ignore Ctrl-C.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with redirect_stderr(stream):
                yield stream
        finally:
            signal.signal(signal.SIGINT, before)

    return interrupting


def read_until(stream: Iterable[str], start: str) -> None:
    """Read lines up to one that starts with a text."""
    lines = []
    for line in stream:
        lines.append(line)
        if line.startswith(start):
            return
    pytest.fail(f"never logged {start!r} but {lines}")


class Process:
    """A function, by default `train_accelerate.py` itself, in a separate process.

    Args:
        arguments: Of the command line, or of the function.
        environment: Variables to set there.
        largest_file: Size in bytes above which writing a file fails, as on a full disk.
    """

    def __init__(
        self,
        arguments: Sequence[Any],
        environment: Mapping[str, str] | None = None,
        largest_file: int | None = None,
        function: Callable[..., None] | None = None,
    ) -> None:
        (self._err, err), (self._out, out) = (_FORKSERVER.Pipe(duplex=False) for _ in range(2))
        self._process = _FORKSERVER.Process(
            target=_child,
            args=(function, arguments, dict(environment or {}), largest_file, err, out),
        )
        self._process.start()
        err.close()
        out.close()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self._lines = os.fdopen(os.dup(self._err.fileno()), encoding="utf-8")

    def wait_for(self, start: str) -> None:
        """Read standard error up to a line that starts with a text."""
        read_until(self._lines, start)

    def finish(self) -> tuple[int, str, str]:
        """Wait, and return the exit code, the rest of standard error, and standard output."""
        with self._lines, os.fdopen(os.dup(self._out.fileno()), encoding="utf-8") as out:
            log, printed = self._lines.read(), out.read()
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode, log, printed


def _child(
    function: Callable[..., None] | None,
    arguments: Sequence[Any],
    environment: dict[str, str],
    largest_file: int | None,
    err: Connection,
    out: Connection,
) -> None:
    # A separate process group, as of a job or a service.
    os.setsid()
    os.dup2(err.fileno(), 2)
    os.dup2(out.fileno(), 1)
    err.close()
    out.close()
    os.environ.update(environment)
    torch.set_num_threads(1)
    if largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if function is not None:
        function(*arguments)
        return
    sys.argv = [SCRIPT.name, *arguments]
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.stdout.flush()


@pytest.fixture
def process() -> type[Process]:
    """Start a process: `process(arguments)` runs `train_accelerate.py`."""
    return Process


@pytest.fixture
def two_ranks() -> Callable[..., list[Process]]:
    """Start a run of two processes with the environment of a launcher."""

    def start(
        arguments: Sequence[Any],
        environment: Mapping[str, str] | None = None,
        function: Callable[..., None] | None = None,
    ) -> list[Process]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        shared |= environment or {}
        ranks = [{"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
        return [Process(arguments, shared | rank, function=function) for rank in ranks]

    return start


@pytest.fixture
def metrics() -> Callable[[Path], list[dict[str, float]]]:
    """Read `metrics.jsonl` of a run, without values that depend on time."""

    def read(run: Path) -> list[dict[str, float]]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert all(line.pop("images_per_second") > 0 for line in lines)
        return lines

    return read


@pytest.fixture
def states() -> Callable[[Path], dict[str, Any]]:
    """Load every file of every checkpoint of a run, by name such as 'step-00000004/state.pt'."""

    def read(run: Path) -> dict[str, Any]:
        files = sorted((run / "checkpoints").rglob("*.pt"))
        return {
            f"{file.parent.name}/{file.name}": torch.load(file, weights_only=True) for file in files
        }

    return read


def _assert_same(one: Any, other: Any, where: str) -> None:
    assert type(one) is type(other), where
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), where
    elif isinstance(one, Mapping):
        assert list(one) == list(other), where
        for key in one:
            _assert_same(one[key], other[key], f"{where} > {key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            _assert_same(*pair, f"{where} > {number}")
    else:
        assert one == other, where


@pytest.fixture
def assert_same() -> Callable[[Any, Any, str], None]:
    """Assert that two nested states are equal bit for bit."""
    return _assert_same


@pytest.fixture
def assert_equal_runs(
    states: Callable[[Path], dict[str, Any]],
    metrics: Callable[[Path], list[dict[str, float]]],
) -> Equal:
    """Assert that the newest checkpoints and all metrics are equal bit for bit."""

    def check(one: Path, other: Path) -> None:
        newest = max(states(other))[: len("step-00000000")]
        names = [name for name in states(other) if name.startswith(newest)]
        assert names and newest == max(states(one))[: len(newest)]
        for name in names:
            _assert_same(states(one)[name], states(other)[name], name)
        assert metrics(one) == metrics(other)

    return check


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep one row group at a time in memory, so that shards arrive one after the other."""
    monkeypatch.setattr(parquet, "_WINDOW_ROWS", 3)


def saved_networks(states: dict[str, Any], step: int, prefix: str = "") -> dict[str, Tensor]:
    """Return the weights in a checkpoint whose names start with `prefix`, without it."""
    weights: dict[str, Tensor] = states[f"step-{step:08d}/state.pt"]["training"]["networks"]
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in weights.items()
        if name.startswith(prefix)
    }
