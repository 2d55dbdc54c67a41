"""Jobs whose nodes several processes execute, over nothing but their ledger."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from millstream import JobState, Millstream, NodeState, Settings, chord, group
from millstream.clock import Clock
from millstream.testing.contract_backend.handing_out import HandingOutContract, fan_away
from tests.integration.cli_program import wait_until
from tests.integration.handed_out_flows import (
    NO_BROKER,
    app_on,
    cheap,
    compute_apart,
    computing,
    count,
    number_of,
    stay_apart,
    staying,
    tell_process,
    wide,
)
from tests.integration.handed_out_processes import Start, client_on, kinds, knows_of, notes, starting


class TestHandedOut(HandingOutContract):
    """With everything that is meant for workers handed out, and taken by the same process: it has one slot."""

    keeps_jobs = True

    @pytest.fixture(autouse=True)
    def where(self, tmp_path: Path) -> None:
        self.url = f"sqlite:///{tmp_path}/ledger.db"

    def make(self, clock: Clock, **settings: Any) -> Millstream:
        given = {"celery_enabled": True, "broker_url": NO_BROKER, "max_segments": 1, **settings}
        return Millstream(clock=clock, settings=Settings(database_url=self.url, **given), executes=True)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that executes what is in the ledger, of these queues or of all; all are killed at the end."""
    with starting(f"sqlite:///{tmp_path}/ledger.db") as one:
        yield one


async def test_what_computes_is_shared_with_other_processes(tmp_path: Path, start: Start) -> None:
    async with app_on(tmp_path) as app:
        other = start()
        await app.jobs()
        await knows_of(app, 1)
        done = await (await app.submit(computing(40, 0.05))).result()
    assert set(done) == {os.getpid(), other.pid}
    assert sum(done.values()) == 40


async def test_calls_that_wait_for_a_process_are_taken_back_and_shared(tmp_path: Path, start: Start) -> None:
    async with app_on(tmp_path, max_processes=1) as app:
        other = start()
        await app.jobs()
        await knows_of(app, 1)
        done = await (await app.submit(chord([compute_apart.s(0.2) for _ in range(12)], count.s()))).result()
    assert set(done) == {os.getpid(), other.pid}
    assert sum(done.values()) == 12


async def test_a_node_for_workers_that_is_all_there_is_to_do_runs_in_the_worker_that_has_its_job(
    tmp_path: Path,
) -> None:
    async with app_on(tmp_path) as app:
        alone = await app.submit(tell_process.s())
        assert await alone.result() == os.getpid()
        assert "handed_out" not in await kinds(alone)
        two = await app.submit(group(tell_process.s(), tell_process.s()))
        assert await two.result() == [os.getpid()] * 2
        assert "handed_out" in await kinds(two)


async def test_what_is_cheap_stays_where_it_is(tmp_path: Path, start: Start) -> None:
    async with app_on(tmp_path) as app:
        start()
        await app.jobs()
        await knows_of(app, 1)
        job = await app.submit(cheap(1000))
        assert await job.result() == 1000
        # A thread that the machine holds up for long makes a cheap function dear for once: then a few may go.
        assert (await kinds(job)).count("handed_out") <= 2


@pytest.mark.parametrize("linger", [0, pytest.param(30, marks=pytest.mark.matrix)])
async def test_what_a_wide_map_releases_bit_by_bit_goes_together(tmp_path: Path, start: Start, linger: int) -> None:
    async with app_on(tmp_path, conduct_linger=linger) as app:
        start()
        await app.jobs()
        await knows_of(app, 1)
        job = await app.submit(wide, 3000)
        assert await job.result() == 3000
        assert (await kinds(job)).count("handed_out") < 150


async def test_nested_fan_outs_end_in_one_process_that_lays_down_what_waits(tmp_path: Path) -> None:
    async with app_on(tmp_path, conduct_linger=0) as app:
        job = await app.submit(fan_away.s(2))
        assert await job.result() == 9
        assert (await kinds(job)).count("started") > 1


@pytest.mark.parametrize("linger", [0, pytest.param(30, marks=pytest.mark.matrix)])
async def test_what_a_killed_process_had_taken_is_done_by_others(tmp_path: Path, start: Start, linger: int) -> None:
    first = start()
    async with app_on(tmp_path, conduct_linger=linger) as app:
        job = await app.submit(staying(tmp_path, ["a", "b"]))
        await asyncio.to_thread(
            wait_until, lambda: any(int(who) == first.pid for _, _, who in notes(tmp_path)), "taken"
        )
        first.send_signal(signal.SIGKILL)
        first.wait()
        (tmp_path / "go").touch()
        assert await job.result() == 2
    assert sorted(name for what, name, _ in notes(tmp_path) if what == "end") == ["a", "b"]


async def test_a_job_whose_planning_process_is_killed_goes_on_with_what_others_execute(
    tmp_path: Path, start: Start
) -> None:
    planner = start()
    async with client_on(f"sqlite:///{tmp_path}/ledger.db") as client:
        job = await client.submit(staying(tmp_path, ["a", "b", "c"]))
        await asyncio.to_thread(wait_until, lambda: notes(tmp_path), "begun")
        other = start()
        await asyncio.to_thread(
            wait_until, lambda: any(int(who) == other.pid for _, _, who in notes(tmp_path)), "taken"
        )
        planner.send_signal(signal.SIGKILL)
        planner.wait()
        (tmp_path / "go").touch()
        assert await job.result() == 3
        events = [event async for event in job.events() if event.type == "node_succeeded"]
    assert len({event.node for event in events}) == len(events) == 4


async def test_a_cancel_reaches_what_others_execute(tmp_path: Path, start: Start) -> None:
    start()
    async with app_on(tmp_path) as app:
        job = await app.submit(staying(tmp_path, ["a", "b"]))
        await asyncio.to_thread(wait_until, lambda: len(notes(tmp_path)) == 2, "begun")
        assert await job.cancel() is JobState.CANCELLED
        assert (await kinds(job))[-1] == "ended"


async def test_a_job_is_cancelled_when_the_processes_of_what_others_execute_are_dead(
    tmp_path: Path, start: Start
) -> None:
    start("heavy")
    names = ["a", "b", "c", "d"]
    async with app_on(tmp_path, [None]) as app:
        job = await app.submit(chord([stay_apart.s(str(tmp_path), name) for name in names], number_of.s()))
        await asyncio.to_thread(wait_until, lambda: notes(tmp_path), "begun")
        assert await job.cancel() is JobState.CANCELLED
        begun = notes(tmp_path)
        (tmp_path / "go").touch()
        for _, _, child in begun:
            with pytest.raises(ProcessLookupError):
                os.kill(int(child), 0)
        assert {node.state for node in await job.nodes()} == {NodeState.CANCELLED}
    assert notes(tmp_path) == begun
