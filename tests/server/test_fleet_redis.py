"""Redis dies, forgets, goes back in time, is full or answers nobody under several server processes in mid-build.

What was recorded keeps coming to every reader, nobody waits for Redis, and tokens come again when it is there again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from millstream.testing.proxy import HALF_OPEN, PASS, RESET, STALL, Fault, FaultProxy
from tests.server.fleet import Combination, Fleet, ServerProcess, build, hold, until
from tests.server.fleet_readers import Reader, check_complete
from tests.services import PostgresServer
from tests.valkey import ValkeyServer

pytestmark = pytest.mark.matrix

STEPS = 4
PROMPT_SECONDS = 1.0
"""What a request that has nothing to do with Redis takes at most; asserted at five times that."""

HALF_OPEN_SECONDS = 10.0


class Stage(NamedTuple):
    """Server processes with a Redis that a test spoils."""

    fleet: Fleet
    redis: ValkeyServer
    proxy: FaultProxy


@pytest.fixture(
    params=[
        Combination("separate", "redis", "sqlite"),
        pytest.param(Combination("gunicorn", "redis", "postgresql"), marks=pytest.mark.postgresql),
    ],
    ids="-".join,
)
def stage(request: pytest.FixtureRequest, tmp_path: Path, valkey_server: ValkeyServer) -> Iterator[Stage]:
    combination: Combination = request.param
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(valkey_server.port))
        given = {
            "database_url": f"sqlite:///{tmp_path}/ledger.db",
            "job_queue_type": "redis",
            "redis_queue_url": f"redis://127.0.0.1:{proxy.port}/1",
        }
        if combination.ledger == "postgresql":
            postgres: PostgresServer = request.getfixturevalue("shared_postgres")
            given["database_url"] = stack.enter_context(postgres.database())
        yield Stage(stack.enter_context(Fleet(tmp_path, given, kind=combination.kind)), valkey_server, proxy)
        proxy.behave(PASS)


def restart(redis: ValkeyServer) -> None:
    redis.kill()
    redis.start()


def forget(redis: ValkeyServer) -> None:
    redis.flush()


def check_prompt(fleet: Fleet, home: Path) -> str:
    """Check that every process takes a build and answers at once; return one of the builds."""
    job_id = ""
    for process in fleet.processes():
        with fleet.client(process, timeout=5 * PROMPT_SECONDS) as client:
            job_id = build(client, "walk", home=str(home), steps=2)
            assert client.get("/health").status_code == 200
            assert client.get("/health_check").status_code == 200
    return job_id


def check_tokens_come(fleet: Fleet, home: Path) -> None:
    """Check that tokens reach every process from one that speaks, by and by."""
    speaker, *_ = fleet.processes()
    with fleet.client(speaker) as client:
        job_id = build(client, "speech", home=str(home))
    readers = [Reader(fleet, job_id, process) for process in fleet.processes()]
    for reader in readers:
        reader.wait_for(lambda reader: len(reader.tokens) > 3)
    (home / "enough").touch()
    check_complete(fleet, job_id, readers)


def health(fleet: Fleet, process: ServerProcess) -> tuple[str, str]:
    with fleet.client(process, timeout=5 * PROMPT_SECONDS) as client:
        told = client.get("/health_check").json()
    return told["status"], told["event_log"]


@pytest.mark.parametrize("spoil", [restart, forget])
@pytest.mark.parametrize("at", [0, 1, 3, STEPS + 1], ids=["before", "at the first", "in the middle", "at the end"])
def test_redis_that_lost_everything_takes_nothing_from_any_reader(
    stage: Stage, tmp_path: Path, at: int, spoil: Callable[[ValkeyServer], None]
) -> None:
    fleet, redis, _ = stage
    held = hold(tmp_path, at)
    if at == 0:
        spoil(redis)
    job_id = fleet.build("walk", home=str(tmp_path), steps=STEPS)
    readers = [Reader(fleet, job_id, process) for process in fleet.processes()]
    if 0 < at <= STEPS:
        for reader in readers:
            reader.wait_for(lambda reader: reader.count("end_vertex") == at - 1 and reader.count("build_start"))
        spoil(redis)
        held.unlink()
    for reader in readers:
        reader.wait_end()
    if at > STEPS:
        spoil(redis)
    told = check_complete(fleet, job_id, readers)
    assert [seen.event for seen in told].count("end_vertex") == STEPS
    assert {len(reader.cuts) for reader in readers} == {0}, "no stream was cut"
    check_tokens_come(fleet, tmp_path)


def test_a_redis_that_goes_back_in_time_takes_nothing_from_any_reader(stage: Stage, tmp_path: Path) -> None:
    fleet, redis, _ = stage
    holds = {number: hold(tmp_path, number) for number in (2, 3)}
    job_id = fleet.build("walk", home=str(tmp_path), steps=STEPS)
    early = [Reader(fleet, job_id, process) for process in fleet.processes()]
    for reader in early:
        reader.wait_for(lambda reader: reader.count("end_vertex") == 1)
    with redis.client(1) as client:
        kept = {key: client.dump(key) for key in client.keys("*")}
    holds[2].unlink()
    for reader in early:
        reader.wait_for(lambda reader: reader.count("end_vertex") == 2)
    with redis.client(1) as client:  # as a replica does that was behind, and is the master now
        client.flushdb()
        for key, value in kept.items():
            client.restore(key, 0, value)
    late = [Reader(fleet, job_id, process) for process in fleet.processes()]
    for reader in late:
        reader.wait_for(lambda reader: reader.count("end_vertex") == 2)
    holds[3].unlink()
    check_complete(fleet, job_id, [*early, *late])
    check_tokens_come(fleet, tmp_path)


@pytest.mark.parametrize("fault", [HALF_OPEN, STALL], ids=lambda fault: fault.kind)
def test_while_redis_answers_nobody_builds_go_on_and_nobody_waits_for_it(
    stage: Stage, tmp_path: Path, fault: Fault
) -> None:
    fleet, _, proxy = stage
    held = hold(tmp_path, 3)
    job_id = fleet.build("walk", home=str(tmp_path), steps=STEPS)
    readers = [Reader(fleet, job_id, process) for process in fleet.processes()]
    for reader in readers:
        reader.wait_for(lambda reader: reader.count("end_vertex") == 2)
    proxy.behave(fault)
    end = time.monotonic() + HALF_OPEN_SECONDS
    held.unlink()
    check_complete(fleet, job_id, readers)
    others = tmp_path / "others"
    others.mkdir()
    assert fleet.await_end(check_prompt(fleet, others)) == "succeeded"
    for process in fleet.processes():
        until(lambda process=process: health(fleet, process) == ("degraded", "redis away"))  # type: ignore[misc]
    while time.monotonic() < end:
        check_prompt(fleet, others)
    proxy.behave(RESET)
    proxy.behave(PASS)
    for process in fleet.processes():
        until(lambda process=process: health(fleet, process) == ("ok", "ok"))  # type: ignore[misc]
    check_tokens_come(fleet, tmp_path)


def test_while_redis_is_gone_builds_are_taken_run_and_read(stage: Stage, tmp_path: Path) -> None:
    fleet, redis, _ = stage
    redis.kill()
    job_id = check_prompt(fleet, tmp_path)
    readers = [Reader(fleet, job_id, process) for process in fleet.processes()]
    check_complete(fleet, job_id, readers)
    held = hold(tmp_path, 1)
    cancelled = fleet.build("walk", home=str(tmp_path))
    with fleet.client(fleet.others(fleet.holder(cancelled))[0]) as client:
        assert client.post(f"/api/v1/build/{cancelled}/cancel").json()["success"] is True
    assert fleet.await_end(cancelled) == "cancelled"
    held.unlink()
    redis.start()
    check_tokens_come(fleet, tmp_path)


def test_a_redis_without_room_takes_tokens_from_readers_and_nothing_else(stage: Stage, tmp_path: Path) -> None:
    fleet, redis, _ = stage
    with redis.client() as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
    job_id = fleet.build("walk", home=str(tmp_path), steps=STEPS, tokens=20_000)
    readers = [Reader(fleet, job_id, process) for process in fleet.processes()]
    check_complete(fleet, job_id, readers)
    assert fleet.await_end(check_prompt(fleet, tmp_path)) == "succeeded"
    redis.empty()
    check_tokens_come(fleet, tmp_path)
