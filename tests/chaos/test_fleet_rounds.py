"""Server processes are killed under load over HTTP: nothing accepted is lost or done twice, readers miss nothing."""

import re

import pytest

from tests.chaos.test_rounds import played

pytestmark = pytest.mark.timeout(900)  # as there


def test_a_few_kills_of_server_processes_lose_nothing() -> None:
    table = played("--servers", "2", "--rounds", "1", "--kills", "5", "--databases", "sqlite", "--queues", "asyncio")
    kills = re.search(r"sum +(\d+) ", table)
    assert kills is not None, table
    assert int(kills[1]) >= 5, table


@pytest.mark.matrix
def test_connections_to_postgresql_are_cut_too() -> None:
    played("--servers", "3", "--rounds", "2", "--kills", "10", "--databases", "postgresql", "--queues", "asyncio")
