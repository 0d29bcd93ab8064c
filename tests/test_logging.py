"""Logging of the library."""

import logging
from collections.abc import Iterator

import pytest

from agit_hub.logging import (
    get_logger,
    set_verbosity,
    set_verbosity_error,
    set_verbosity_info,
    set_verbosity_warning,
)


@pytest.fixture(autouse=True)
def _restore_level() -> Iterator[None]:
    yield
    set_verbosity_info()


def _log_all(capsys: pytest.CaptureFixture[str]) -> list[str]:
    logger = get_logger("agit_hub.test")
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logger.log(level, "%s", logging.getLevelName(level))
    return capsys.readouterr().err.splitlines()


def test_logger_default_writes_messages_from_info_to_stderr(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert _log_all(capsys) == ["INFO", "WARNING", "ERROR"]


def test_set_verbosity_filters_messages(capsys: pytest.CaptureFixture[str]) -> None:
    set_verbosity_warning()
    assert _log_all(capsys) == ["WARNING", "ERROR"]
    set_verbosity_error()
    assert _log_all(capsys) == ["ERROR"]
    set_verbosity(logging.DEBUG)
    assert _log_all(capsys) == ["DEBUG", "INFO", "WARNING", "ERROR"]


def test_get_logger_twice_adds_one_handler(capsys: pytest.CaptureFixture[str]) -> None:
    get_logger("agit_hub.one")
    get_logger("agit_hub.two").info("once")
    assert capsys.readouterr().err == "once\n"
