"""Any number of processes without Redis: builds, cancels and readers go through the ledger, and one warning says so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server.fleet import Fleet, hold
from tests.server.fleet_readers import Reader, replay
from tests.services import PostgresServer

pytestmark = pytest.mark.matrix


@pytest.mark.parametrize("ledger", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
@pytest.mark.parametrize("size", [2, 4, 8])
def test_without_redis_processes_are_one_server_but_for_tokens(
    size: int, ledger: str, tmp_path: Path, shared_postgres: PostgresServer
) -> None:
    with shared_postgres.database() as postgres:
        url = postgres if ledger == "postgresql" else f"sqlite:///{tmp_path}/ledger.db"
        with Fleet(tmp_path, {"database_url": url}, kind="gunicorn", size=size) as fleet:
            check_one_server(fleet, tmp_path)
            assert fleet.said().count("asyncio") == 1, fleet.said()


def check_one_server(fleet: Fleet, home: Path) -> None:
    """Let every process begin builds that the next one's clients read; of two, the one after that cancels one."""
    processes = fleet.processes()

    def one(number: int) -> None:
        is_cancelled = number % 2 == 0
        own = home / f"{number}"
        own.mkdir()
        held = hold(own, 2)
        begins, reads, cancels = (processes[(number + further) % len(processes)] for further in range(3))
        reader = Reader(fleet, fleet.build("walk", begins, home=str(own)), reads)
        reader.wait_for(lambda reader: reader.count("end_vertex") == 1)
        if is_cancelled:
            with fleet.client(cancels) as client:
                assert client.post(f"/api/v1/build/{reader.job_id}/cancel").json()["success"] is True
        held.unlink()
        seen = [one for one in reader.wait_end().seen if one.is_durable]
        assert seen == [one for one in replay(fleet, reader.job_id, cancels) if one.is_durable]
        assert seen[-1].data["status"] == ("cancelled" if is_cancelled else "succeeded")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(len(processes))))
