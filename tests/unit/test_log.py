"""Where our log lines go in programs that are not ours."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from structlog.testing import CapturingLoggerFactory

from millstream.log import get_logger

PROGRAM = """
from millstream.log import get_logger

log = get_logger("millstream.events")
log.debug("nobody sees this")
try:
    1 / 0
except ZeroDivisionError as error:
    log.warning("it is away", url="redis://r", exc_info=error)
"""


@pytest.fixture(autouse=True)
def _as_new() -> Iterator[None]:
    """Have structlog as it is where nobody has set it up."""
    before, was_configured = structlog.get_config(), structlog.is_configured()
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    if was_configured:
        structlog.configure(**before)


def test_a_program_that_sets_nothing_up_sees_warnings_on_standard_error_and_nothing_on_standard_output() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    first, *rest = done.stderr.splitlines()
    assert (first, rest[-1], done.stdout) == ("it is away url='redis://r'", "ZeroDivisionError: division by zero", "")


def test_a_program_with_a_log_of_its_own_gets_the_lines_there(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "millstream.events"):
        get_logger("millstream.events").debug("it is away", url="redis://r")
    assert caplog.record_tuples == [("millstream.events", logging.DEBUG, "it is away url='redis://r'")]


def test_a_program_that_sets_structlog_up_later_gets_the_lines_there_from_then_on() -> None:
    log, lines = get_logger("millstream.events"), CapturingLoggerFactory()
    structlog.configure(processors=[structlog.processors.KeyValueRenderer()], logger_factory=lines)
    log.warning("it is away")
    assert [call.args for call in lines.logger.calls] == [("event='it is away'",)]
