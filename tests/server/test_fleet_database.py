"""PostgreSQL is killed and started again, or answers nobody, under several server processes in the middle of builds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from millstream.testing.proxy import HALF_OPEN, PASS, RESET, STALL, Fault, FaultProxy
from tests.chaos.witness import Witness
from tests.server.fleet import Combination, Fleet, effects, hold, until
from tests.server.fleet_readers import Reader, check_complete
from tests.services import PostgresServer
from tests.valkey import ValkeyServer

pytestmark = [pytest.mark.matrix, pytest.mark.postgresql]

BOUND_SECONDS = 12.0
"""After this whoever asks the database something is told that it does not answer."""

ASKED = {
    "build": ("POST", "/run-task", {"duration": 1}),
    "look": ("GET", "/api/v1/jobs", None),
    "sign in": ("POST", "/api/v1/login", {}),
}


class Stage(NamedTuple):
    """Server processes on a database that a test spoils."""

    fleet: Fleet
    server: PostgresServer
    proxy: FaultProxy


@pytest.fixture(params=[Combination("separate", "asyncio", "postgresql")], ids="-".join)
def stage(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    postgres_server: PostgresServer,
    shared_valkey: ValkeyServer,
) -> Iterator[Stage]:
    combination: Combination = request.param
    with ExitStack() as stack:
        direct = stack.enter_context(postgres_server.database())
        proxy = stack.enter_context(FaultProxy(postgres_server.port))
        given = {
            "database_url": direct.replace(f":{postgres_server.port}/", f":{proxy.port}/"),
            "job_queue_type": combination.queue,
            "lease_seconds": "60",
        }
        if combination.queue == "redis":
            given["redis_queue_url"] = stack.enter_context(shared_valkey.database())
        fleet = stack.enter_context(Fleet(tmp_path, given, kind=combination.kind))
        fleet.witness = Witness(direct)
        yield Stage(fleet, postgres_server, proxy)
        proxy.behave(RESET)
        proxy.behave(PASS)


def asked(clients: list[httpx.Client]) -> list[tuple[str, httpx.Response]]:
    """Ask each process everything at once, and return the answers; one that does not come in time is an error."""
    wanted = [(client, what) for client in clients for what in ASKED]

    def ask(one: tuple[httpx.Client, str]) -> tuple[str, httpx.Response]:
        client, what = one
        method, path, body = ASKED[what]
        with httpx.Client(base_url=client.base_url, headers=client.headers, timeout=5 * BOUND_SECONDS) as alone:
            if what == "sign in":
                return what, alone.post(path, data={"username": "admin", "password": "wrong"})
            return what, alone.request(method, path, json=body)

    with ThreadPoolExecutor(len(wanted)) as pool:
        return list(pool.map(ask, wanted))


def check_refused(fleet: Fleet) -> None:
    """Check that every process says that it cannot serve now, in time and with when to come again."""
    clients = [fleet.client(process, timeout=5 * BOUND_SECONDS) for process in fleet.processes()]
    for what, answer in asked(clients):
        assert (what, answer.status_code) == (what, 503), answer.text
        assert answer.elapsed.total_seconds() < 1.5 * BOUND_SECONDS, what
        assert int(answer.headers["Retry-After"]) > 0
    for client in clients:
        with client:
            assert client.get("/health").status_code == 200
            assert client.get("/health_check").status_code == 503


def test_what_ran_when_the_database_was_killed_goes_on_when_it_is_there_again(stage: Stage, tmp_path: Path) -> None:
    fleet = stage.fleet
    held = hold(tmp_path, 3)
    job_id = fleet.build("walk", home=str(tmp_path))
    readers = [Reader(fleet, job_id, process) for process in fleet.processes()]
    for reader in readers:
        reader.wait_for(lambda reader: reader.count("end_vertex") == 2)
    stage.server.kill()
    held.unlink()
    until(lambda: ("done", 3) in [line[:2] for line in effects(tmp_path)])
    check_refused(fleet)
    assert [reader.count("end_vertex") for reader in readers] == [2, 2, 2], "what is not recorded is told to nobody"
    stage.server.start()
    told = check_complete(fleet, job_id, readers)
    assert told[-1].data["status"] == "succeeded"
    assert set(Counter(line[1] for line in effects(tmp_path) if line[0] == "began").values()) == {1}
    again = fleet.build("walk", fleet.processes()[-1], home=str(tmp_path))
    assert fleet.await_end(again) == "succeeded"


@pytest.mark.parametrize("fault", [HALF_OPEN, STALL], ids=lambda fault: fault.kind)
def test_while_the_database_answers_nobody_every_request_is_answered_and_jobs_go_on_afterwards(
    stage: Stage, tmp_path: Path, fault: Fault
) -> None:
    fleet = stage.fleet
    held = hold(tmp_path, 3)
    job_id = fleet.build("walk", home=str(tmp_path))
    readers = [Reader(fleet, job_id, process) for process in fleet.processes()]
    for reader in readers:
        reader.wait_for(lambda reader: reader.count("end_vertex") == 2)
    stage.proxy.behave(fault)
    held.unlink()
    check_refused(fleet)
    stage.proxy.behave(RESET)
    stage.proxy.behave(PASS)
    told = check_complete(fleet, job_id, readers)
    assert told[-1].data["status"] == "succeeded"
    again = fleet.build("walk", fleet.processes()[-1], home=str(tmp_path))
    assert fleet.await_end(again) == "succeeded"
