"""Processes under load are ended again and again: nothing that was accepted is lost, and nothing happens twice."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(900)  # many processes start and end, one after the other

_ROOT = Path(__file__).resolve().parents[2]


def played(*options: str) -> str:
    """Play rounds in a process of their own, which forks, and return the table; what does not hold fails the test."""
    command = [sys.executable, "-m", "tests.chaos", *options]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=800)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_ten_kills_lose_nothing_and_record_nothing_twice(database: str) -> None:
    table = played("--rounds", "2", "--kills", "5", "--seed", "20", "--databases", database)
    kills = re.search(r"sum +(\d+) ", table)
    assert kills is not None, table
    assert int(kills[1]) >= 10, table


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_processes_that_are_asked_to_stop_at_any_point_hand_on_what_runs(database: str) -> None:
    played("--rounds", "1", "--kills", "10", "--seed", "25", "--databases", database, "--action", "term")


@pytest.mark.parametrize("pool", ["prefork", pytest.param("async", marks=pytest.mark.matrix)])
def test_celery_workers_and_their_broker_are_killed_and_nothing_is_lost(pool: str) -> None:
    table = played("--rounds", "1", "--kills", "8", "--databases", "sqlite", "--brokers", "redis", "--pools", pool)
    kills = re.search(r"sum +(\d+) ", table)
    assert kills is not None, table
    assert int(kills[1]) >= 8, table


@pytest.mark.matrix
@pytest.mark.parametrize("pool", ["prefork", "async"])
def test_the_same_holds_over_rabbitmq_and_on_postgresql(pool: str) -> None:
    played("--rounds", "1", "--kills", "10", "--databases", "postgresql", "--brokers", "rabbitmq", "--pools", pool)
