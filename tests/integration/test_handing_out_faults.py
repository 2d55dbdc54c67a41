"""Side segments in which something goes wrong: poison, deaths, calls that are given up, and queues that few serve."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from millstream import JobState, NodeState, chord, group
from millstream.model.job import Decision
from tests.integration.handed_out_flows import (
    app_on,
    count,
    die,
    gives_up,
    identity,
    number_of,
    stay_once,
    tell_process,
)
from tests.integration.handed_out_processes import Start, client_on, kinds, notes, starting, until


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=[pytest.mark.postgresql, pytest.mark.matrix])])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a test's ledger lies."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def start(url: str) -> Iterator[Start]:
    """Starts a process that executes what is in the ledger, of these queues or of all; all are killed at the end."""
    with starting(url) as one:
        yield one


@pytest.mark.matrix  # deaths in main segments are held to it by tests/chaos
async def test_a_node_that_kills_whoever_executes_it_for_others_fails_as_poison_and_nobody_else_does(
    url: str, start: Start
) -> None:
    workers = [start(), start()]
    async with client_on(url) as client:
        job = await client.submit(group(die.s(), *(tell_process.s() for _ in range(3))))
        other = await client.submit(chord([tell_process.s() for _ in range(4)], number_of.s()))
        deaths = 0
        while not (await job.state()).is_final:
            for dead in [worker for worker in workers if worker.poll() is not None]:
                workers.remove(dead)
                workers.append(start())
                deaths += 1
        record = await job.record()
        assert (record.state, record.reason) == (JobState.FAILED, "poison")
        assert await other.result() == 4
        states = Counter(node.state for node in await job.nodes())
    assert states == {NodeState.FAILED: 1, NodeState.SUCCEEDED: 3}
    assert deaths == 2  # from then on it dies in processes of its own


async def test_what_must_run_once_is_decided_about_when_the_process_that_ran_it_for_others_dies(
    tmp_path: Path, url: str, start: Start
) -> None:
    worker = start("heavy")
    async with app_on(url, [None]) as app:
        job = await app.submit(chord([stay_once.s(str(tmp_path), "a"), identity.s(1)], number_of.s()))
        await until(lambda: bool(notes(tmp_path)))
        worker.kill()
        worker.wait()
        (tmp_path / "go").touch()
        start("heavy")
        async for event in job.events():
            if event.type == "waiting":
                assert event.data["reason"] == "decision"
                assert await job.approve(event.node or "", Decision("done", "a"))
        assert await job.result() == 2
        ends = [event.node async for event in job.events() if event.type == "node_succeeded"]
    assert len(set(ends)) == len(ends) == 3
    assert [what for what, _, _ in notes(tmp_path)] == ["begin"]


@pytest.mark.parametrize("is_apart", [True, pytest.param(False, marks=pytest.mark.matrix)], ids=["process", "thread"])
async def test_who_executes_a_call_that_was_given_up_is_fenced_and_goes_on_with_others(
    tmp_path: Path, url: str, start: Start, *, is_apart: bool
) -> None:
    worker = start("heavy")
    async with app_on(url, [None]) as app:
        job = await app.submit(gives_up, str(tmp_path), is_apart=is_apart)
        assert await job.result() == [True, worker.pid]
        assert "taken_back" in await kinds(job)
        before = await kinds(job)
        ((_, _, pid),) = notes(tmp_path)
        if is_apart:
            await until(lambda: not _lives(int(pid)))  # it is killed
        (tmp_path / "go").touch()
        if not is_apart:
            await until(lambda: len(notes(tmp_path)) == 2)  # a thread cannot be
        again = await app.submit(tell_process.s().set(queue="heavy"))
        assert await again.result() == worker.pid
        assert await kinds(job) == before
        given_up = [node.state for node in await job.nodes() if "stay" in node.path]
    assert given_up == [NodeState.CANCELLED]
    assert len(notes(tmp_path)) == 1 + (not is_apart)


async def test_each_node_runs_where_its_queue_is_served(url: str, start: Start) -> None:
    heavy, light = start("heavy"), start("light")
    where = [tell_process.s().set(queue=queue) for queue in ("heavy", "light") * 3]
    async with app_on(url, [None]) as app:
        here = tell_process.s().set(run_in="auto")
        done = await (await app.submit(chord([*where, here], count.s()))).result()
    assert done == {heavy.pid: 3, light.pid: 3, os.getpid(): 1}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
