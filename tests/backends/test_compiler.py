"""The compiler that torch.compile needs."""

import sys

import pytest

from agit_hub.backends.auto import choose_backend
from agit_hub.backends.compiler import check_compiler
from agit_hub.errors import BackendError
from tests.conftest import MakeModel


@pytest.mark.parametrize(("device", "variable"), [("cpu", "CXX"), ("cuda", "CC")])
def test_check_compiler_missing_one_is_refused(
    device: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "/nowhere/compiler")
    with pytest.raises(BackendError, match=f"{variable} is '/nowhere/compiler'.*--backend torch"):
        check_compiler(device)
    monkeypatch.delenv(variable)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BackendError, match=r"none is installed.*build-essential"):
        check_compiler(device)


def test_check_compiler_that_runs_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", sys.executable)  # it knows --version too
    check_compiler("cpu")


def test_choose_backend_compile_without_compiler_is_refused(
    make_model: MakeModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/compiler")
    with pytest.raises(BackendError, match="compiler"):
        choose_backend(make_model(), "compile")
