"""Processes of one ledger use the same event log: whoever comes with another one is told so in a line, and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream.clock import SystemClock
from millstream.ledger.sql import SqlLedger
from millstream.testing.ledger_doings import nobody
from tests.integration.cli_program import millstream

FLOW = """
from millstream import flow, task

@task
def one():
    return 1

@flow
def report():
    return one()
"""


@pytest.fixture
def redis_member(tmp_path: Path) -> Iterator[None]:
    """A member of the ledger whose event log is in Redis; it lives as long as the test."""
    (tmp_path / "shop.py").write_text(FLOW, encoding="utf-8")
    assert millstream("run", "shop.py:report", cwd=tmp_path).returncode == 0
    (path,) = tmp_path.rglob("ledger.db")
    ledger = SqlLedger(f"sqlite:///{path}", SystemClock())
    with asyncio.Runner() as runner:
        runner.run(ledger.join("member", nobody, job_queue="redis"))
        yield
        runner.run(ledger.close())


@pytest.mark.usefixtures("redis_member")
@pytest.mark.parametrize("command", ["run shop.py:report", "worker -A shop", "serve --port 0", "jobs list"])
def test_a_process_with_another_event_log_ends_in_one_line(command: str, tmp_path: Path) -> None:
    done = millstream(*command.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (78, "")
    (line,) = done.stderr.splitlines()
    assert "event log here is asyncio, but process" in line
    assert "uses redis: set MILLSTREAM_JOB_QUEUE_TYPE=redis here too, or stop" in line
