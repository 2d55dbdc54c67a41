"""Several processes on one ledger: shared work, deaths, hand-overs, zombies, and what each sees of the others."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from millstream import JobState, Millstream, Settings
from tests.integration import shared_flows
from tests.integration.cli_program import started, wait_until
from tests.integration.workers import DEAF, FLOWS, NO_LOCKS, ROOT, Told, Workers, workers_on
from tests.lifeline import stop_between_writes
from tests.services import PostgresServer

PROMISED_CANCEL = 2.0
SLACK = 10.0
"""A bound that is promised is asserted at ten times its value: machines differ."""


@pytest.fixture
def workers(url: str) -> Iterator[Workers]:
    with workers_on(url) as workers:
        yield workers


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "told")


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


@pytest.fixture
async def client(url: str) -> AsyncIterator[Millstream]:
    """An app in this process that executes nothing itself."""
    async with Millstream(settings=Settings(database_url=url), executes=False) as client:
        yield client


async def until(holds: Callable[[], object], what: str) -> None:
    await asyncio.to_thread(wait_until, holds, what)


def open_gate(gate: Path) -> None:
    gate.touch()


# -------------------------------------------------------------------------------------------------------- sharing
async def test_two_workers_share_the_jobs_and_neither_takes_more_than_it_has_slots(
    workers: Workers, client: Millstream, told: Told
) -> None:
    two = [workers.start("--max-segments", "4") for _ in range(2)]
    jobs = [await client.submit(shared_flows.brief, log=str(told.path), name=str(i)) for i in range(200)]
    assert [await job.result() for job in jobs] == [str(i) for i in range(200)]
    assert told.count("begin") == told.count("end") == 200
    for worker in two:
        assert len(told.by(worker.pid)) >= 40
        assert told.most_at_once(worker.pid) <= 4


async def test_four_processes_that_write_at_once_all_get_their_turn(
    workers: Workers, client: Millstream, told: Told
) -> None:
    four = [workers.start("--max-segments", "8", lease_seconds="2") for _ in range(4)]
    jobs = [await client.submit(shared_flows.brief, log=str(told.path), name=str(i)) for i in range(400)]
    for job in jobs:
        await job.result()
    assert told.count("begin") == 400
    for worker in four:
        assert len(told.by(worker.pid)) >= 20
        assert "for dead" not in worker.said


# ---------------------------------------------------------------------------------------------- deaths and ends
@pytest.mark.parametrize("is_proved", [True, False])
async def test_what_a_killed_worker_leaves_another_goes_on_with_and_repeats_no_finished_node(
    workers: Workers, client: Millstream, told: Told, gate: Path, *, is_proved: bool
) -> None:
    changes, lease = ((), "15") if is_proved else ((NO_LOCKS,), "3")
    first = workers.start(changes=changes, lease_seconds=lease)
    job = await client.submit(shared_flows.gated, log=str(told.path), gate=str(gate))
    await until(lambda: told.by(first.pid) == ["first", "second"], "the second step of the first worker")
    second = workers.start(changes=changes, lease_seconds=lease)
    first.send(signal.SIGKILL)
    killed_at = time.monotonic()
    await until(lambda: told.by(second.pid) == ["second"], "the second step of the second worker")
    assert time.monotonic() - killed_at < (SLACK * 2 if is_proved else SLACK * 3)
    open_gate(gate)
    assert await job.result() == second.pid
    assert told.count("begin", "first") == 1
    assert told.count("begin", "third") == 1
    assert [event.type async for event in job.events()].count("ended") == 1


async def test_a_worker_that_is_asked_to_stop_hands_on_what_runs_and_it_is_no_crash(
    workers: Workers, client: Millstream, told: Told, gate: Path
) -> None:
    first = workers.start(drain_grace="0")
    job = await client.submit(shared_flows.gated, log=str(told.path), gate=str(gate))
    await until(lambda: told.by(first.pid) == ["first", "second"], "the second step of the first worker")
    second = workers.start()
    first.send(signal.SIGTERM)
    asked_at = time.monotonic()
    await until(lambda: told.by(second.pid) == ["second"], "the second step of the second worker")
    assert time.monotonic() - asked_at < SLACK * 1
    assert first.wait() == 0
    open_gate(gate)
    assert await job.result() == second.pid


async def test_a_worker_that_is_asked_to_stop_lets_end_what_ends_in_time(
    workers: Workers, client: Millstream, told: Told, gate: Path
) -> None:
    worker = workers.start()
    job = await client.submit(shared_flows.gated, log=str(told.path), gate=str(gate))
    await until(lambda: told.by(worker.pid) == ["first", "second"], "the second step")
    worker.send(signal.SIGTERM)
    worker.wait_for("stopping")
    late = await client.submit(shared_flows.brief, log=str(told.path), name="late")
    open_gate(gate)
    assert await job.result() == worker.pid
    assert worker.wait() == 0
    assert await late.state() is JobState.QUEUED


async def test_a_second_signal_kills_a_worker(workers: Workers, client: Millstream, told: Told, gate: Path) -> None:
    worker = workers.start()
    await client.submit(shared_flows.gated, log=str(told.path), gate=str(gate))
    await until(lambda: told.by(worker.pid) == ["first", "second"], "the second step")
    worker.send(signal.SIGTERM)
    worker.wait_for("stopping")
    worker.send(signal.SIGTERM)
    assert worker.wait() == 143


async def test_one_that_was_stopped_and_taken_for_dead_records_nothing_when_it_wakes_up(
    workers: Workers, client: Millstream, told: Told, gate: Path, url: str
) -> None:
    zombie = workers.start(changes=(NO_LOCKS,), lease_seconds="3")
    job = await client.submit(shared_flows.gated, log=str(told.path), gate=str(gate))
    await until(lambda: told.by(zombie.pid) == ["first", "second"], "the second step of the first worker")
    if url.startswith("sqlite"):
        stop_between_writes(Path(url.removeprefix("sqlite:///")), zombie.pid)
    else:
        zombie.send(signal.SIGSTOP)
    heir = workers.start(changes=(NO_LOCKS,), lease_seconds="3")
    await until(lambda: told.by(heir.pid) == ["second"], "the second step of the second worker")
    open_gate(gate)
    assert await job.result() == heir.pid
    story = [event async for event in job.events()]

    heir.send(signal.SIGTERM)
    assert heir.wait() == 0
    zombie.send(signal.SIGCONT)
    zombie.wait_for("took this process for dead")
    again = await client.submit(shared_flows.brief, log=str(told.path), name="again")
    assert await again.result() == "again"
    assert told.by(zombie.pid)[-1] == "again", "it goes on under a new id"
    assert [event async for event in job.events()] == story
    assert "third" not in told.by(zombie.pid)


# ---------------------------------------------------------------------------------------------- across processes
@pytest.mark.parametrize("changes", [(), (DEAF,)], ids=["rung", "deaf"])
async def test_a_cancel_reaches_the_process_that_runs_the_job(
    workers: Workers, client: Millstream, told: Told, gate: Path, changes: tuple[str, ...]
) -> None:
    worker = workers.start(changes=changes)
    job = await client.submit(shared_flows.gated, log=str(told.path), gate=str(gate))
    await until(lambda: told.by(worker.pid) == ["first", "second"], "the second step")
    asked_at = time.monotonic()
    await job.cancel()
    assert await job.wait() is JobState.CANCELLED
    assert time.monotonic() - asked_at < SLACK * PROMISED_CANCEL
    assert told.count("end", "second") == 0


async def test_results_and_events_are_seen_by_every_process_while_they_come_and_afterwards(
    workers: Workers, client: Millstream, told: Told, gate: Path, url: str
) -> None:
    worker = workers.start()
    job = await client.submit(shared_flows.gated, log=str(told.path), gate=str(gate))
    seen = []
    async for event in job.events():
        seen.append(event)
        if event.type == "node_succeeded":
            open_gate(gate)
    assert await job.result() == worker.pid
    assert [event.seq for event in seen if event.is_durable] == list(range(1, seen[-1].seq + 1))
    async with Millstream(settings=Settings(database_url=url), executes=False) as later:
        known = await later.job(job.id)
        assert [event async for event in known.events()] == [event for event in seen if event.is_durable]
        assert await known.result() == worker.pid


@pytest.mark.parametrize("changes", [(), (DEAF,)], ids=["rung", "deaf"])
async def test_an_approval_is_given_from_another_process(
    workers: Workers, client: Millstream, told: Told, changes: tuple[str, ...]
) -> None:
    workers.start(changes=changes)
    job = await client.submit(shared_flows.asking, log=str(told.path))
    async for event in job.events():
        if event.type == "waiting":
            assert event.node is not None
            assert await job.approve(event.node, {"go": "on"})
    assert await job.result() == {"go": "on"}
    assert told.count("begin", "asked") == told.count("begin", "answered") == 1


async def test_what_a_script_leaves_queued_a_worker_executes(workers: Workers, url: str, told: Told) -> None:
    async with Millstream(settings=Settings(database_url=url), executes=False) as script:
        job = await script.submit(shared_flows.brief, log=str(told.path), name="left")
    workers.start()
    async with Millstream(settings=Settings(database_url=url), executes=False) as later:
        assert await (await later.job(job.id)).result() == "left"


def run_gated(url: str, told: Told, gate: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    return started(
        *("run", f"{FLOWS}:gated", "-i", f"log={told.path}", "-i", f"gate={gate}"),
        cwd=told.path.parent,
        PYTHONPATH=str(ROOT),
        MILLSTREAM_DATABASE_URL=url,
    )


async def test_what_a_killed_run_leaves_the_next_run_goes_on_with_while_it_is_there(
    client: Millstream, url: str, told: Told, gate: Path, tmp_path: Path
) -> None:
    with run_gated(url, told, tmp_path / "never") as killed:
        await until(lambda: told.by(killed.pid) == ["first", "second"], "the second step of the run")
    (left,) = await client.jobs()
    with run_gated(url, told, gate) as heir:
        await until(lambda: told.by(heir.pid).count("second") == 2, "the second steps of both jobs in the second run")
        open_gate(tmp_path / "never")
        assert await (await client.job(left.id)).result() == heir.pid
        open_gate(gate)
        out, err = await asyncio.to_thread(heir.communicate)
    assert (heir.returncode, out) == (0, f"{heir.pid}\n"), err


async def test_a_worker_waits_for_a_ledger_that_is_away_and_says_so_once(
    postgres_server: PostgresServer, told: Told
) -> None:
    await asyncio.to_thread(postgres_server.start)
    with workers_on(postgres_server.url) as workers:
        worker = await asyncio.to_thread(workers.start)
        await asyncio.to_thread(postgres_server.kill)
        await asyncio.to_thread(worker.wait_for, "the ledger is not available")
        await asyncio.to_thread(postgres_server.start)
        await asyncio.to_thread(worker.wait_for, "the ledger is available again")
        async with Millstream(settings=Settings(database_url=postgres_server.url), executes=False) as client:
            job = await client.submit(shared_flows.brief, log=str(told.path), name="after")
            assert await job.result() == "after"
        assert worker.said.count("the ledger is not available") == 1
