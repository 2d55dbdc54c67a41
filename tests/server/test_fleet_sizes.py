"""Any number of processes without Redis: builds, cancels and readers go through the ledger, and one warning says so."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server.fleet import Fleet, build, hold
from tests.server.fleet_readers import Reader, check_complete, replay
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
    def one(number: int) -> None:
        own = home / f"{number}"
        own.mkdir()
        held = hold(own, 2)
        with fleet.client(processes[number % len(processes)]) as client:
            job_id = build(client, "walk", home=str(own))
        reader = Reader(fleet, job_id, processes[(number + 1) % len(processes)])
        reader.wait_for(lambda reader: reader.count("end_vertex") == 1)
        if number % 2:
            held.unlink()
        else:
            with fleet.client(processes[(number + 2) % len(processes)]) as client:
                answer = client.post(f"/api/v1/build/{job_id}/cancel")
            assert answer.json()["success"] is True
        told = check_complete_here(reader, job_id)
        assert told == ("succeeded" if number % 2 else "cancelled")

    def check_complete_here(reader: Reader, job_id: str) -> str:
        seen = [one for one in reader.wait_end().seen if one.is_durable]
        assert seen == [one for one in replay(fleet, job_id) if one.is_durable]
        status: str = seen[-1].data["status"]
        return status

    processes = fleet.processes()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(one, range(2 * len(processes))))
    last = fleet.build("walk", home=str(home))
    check_complete(fleet, last, [])
