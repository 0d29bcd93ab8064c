"""Device flags and optimisers, and the defaults of the data loader for each device."""

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from agit_hub.data.config import DataConfig, DomainConfig
from agit_hub.data.domains.base import Domain
from agit_hub.data.domains.in_memory import InMemoryDomain
from agit_hub.data.load import load_domains
from agit_hub.data.loader import keep_in_memory, resolve_num_workers
from agit_hub.training.config import TrainSettings
from agit_hub.training.distributed import (
    configure_device,
    indices_on,
    make_adam,
    memory_format,
)
from tests.training.conftest import Train

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def _flags() -> tuple[bool, ...]:
    cudnn = torch.backends.cudnn
    return (
        torch.backends.cuda.matmul.allow_tf32,
        cudnn.allow_tf32,
        cudnn.benchmark,
        cudnn.deterministic,
        torch.are_deterministic_algorithms_enabled(),
    )


@pytest.fixture(autouse=True)
def _restore_flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    matmul, tf32, benchmark, deterministic, algorithms = _flags()
    yield
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    torch.backends.cuda.matmul.allow_tf32 = matmul
    cudnn = torch.backends.cudnn
    cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = tf32, benchmark, deterministic
    torch.use_deterministic_algorithms(algorithms)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (TrainSettings(), (True, True, True, False, False)),
        (TrainSettings(tf32=False), (False, False, True, False, False)),
        (TrainSettings(cudnn_benchmark=False), (True, True, False, False, False)),
        # The fastest algorithm may differ between runs.
        (TrainSettings(deterministic=True), (True, True, False, True, True)),
    ],
)
def test_configure_device_gpu_sets_flags(
    settings: TrainSettings, expected: tuple[bool, ...]
) -> None:
    configure_device(settings, CUDA)
    assert _flags() == expected
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) is settings.deterministic


def test_configure_device_cpu_changes_nothing() -> None:
    before = _flags()
    configure_device(TrainSettings(deterministic=True), CPU)
    assert _flags() == before


@pytest.mark.parametrize(
    ("device", "fused", "expected"), [(CUDA, True, True), (CUDA, False, None), (CPU, True, None)]
)
def test_make_adam_gpu_is_fused(device: torch.device, fused: bool, expected: bool | None) -> None:
    settings = TrainSettings(fused_adam=fused, adam_beta1=0.25)
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "kind": "generators"}]
    optimizer = make_adam(groups, settings, device)
    assert optimizer.defaults["fused"] is expected
    assert optimizer.defaults["betas"] == (0.25, 0.999)


def test_memory_format_follows_setting() -> None:
    assert memory_format(TrainSettings()) is torch.contiguous_format
    assert memory_format(TrainSettings(channels_last=True)) is torch.channels_last


def test_indices_on_several_lists_splits_them() -> None:
    lists = [[3, 1], [], [7]]
    assert [each.tolist() for each in indices_on(CPU, *lists)] == lists


@pytest.fixture
def domains(source: Path, target: Path) -> tuple[Domain, Domain]:
    """Five and three images in folders."""
    opened = load_domains(DomainConfig(str(source)), DomainConfig(str(target)), 16, 1)
    return opened[0].domain, opened[1].domain


@pytest.fixture
def settings(source: Path, target: Path) -> DataConfig:
    """Settings for two folders."""
    return DataConfig(source=DomainConfig(str(source)), target=DomainConfig(str(target)))


@pytest.mark.parametrize(
    ("workers", "device", "cores", "processes", "expected"),
    [
        (None, CPU, 16, 1, 0),
        (None, CUDA, 16, 1, 8),
        (None, CUDA, 4, 1, 3),
        (None, CUDA, 16, 8, 1),
        (None, CUDA, 1, 1, 1),
        (3, CPU, 16, 1, 3),
        (0, CUDA, 16, 1, 0),
    ],
)
def test_resolve_num_workers_follows_cores_and_processes(
    domains: tuple[Domain, Domain],
    settings: DataConfig,
    monkeypatch: pytest.MonkeyPatch,
    workers: int | None,
    device: torch.device,
    cores: int,
    processes: int,
    expected: int,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    config = replace(settings, num_workers=workers)
    assert resolve_num_workers(domains, config, device, processes) == expected


@pytest.mark.parametrize(
    ("in_memory", "device", "start", "expected"),
    [
        (None, CPU, "fork", False),
        (None, CUDA, "fork", True),
        (None, CUDA, "spawn", False),  # each worker would copy it
        (False, CUDA, "fork", False),
        (True, CPU, "spawn", True),
    ],
)
def test_keep_in_memory_follows_setting_or_rule(
    domains: tuple[Domain, Domain],
    settings: DataConfig,
    monkeypatch: pytest.MonkeyPatch,
    in_memory: bool | None,
    device: torch.device,
    start: str,
    expected: bool,
) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: start)
    kept = keep_in_memory(domains, replace(settings, in_memory=in_memory), device)
    assert [isinstance(domain, InMemoryDomain) for domain in kept] == [expected] * 2
    if expected and start == "spawn":
        assert resolve_num_workers(kept, settings, CUDA, 1) == 0


def test_run_in_memory_logs_size(
    tmp_path: Path, train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight images of 16 x 16 pixels are 6 144 bytes."""
    train(tmp_path / "kept", {"data.in_memory": True, "train.max_steps": 1})
    assert "in memory: 0.0 MB; loader workers: 0" in capsys.readouterr().err
    train(tmp_path / "files", {"train.max_steps": 1})
    assert "in memory" not in capsys.readouterr().err


def test_keep_in_memory_hub_dataset_is_unchanged(
    domains: tuple[Domain, Domain], settings: DataConfig
) -> None:
    remote = replace(settings, source=DomainConfig("user/horses"))
    assert keep_in_memory(domains, remote, CUDA) == domains
