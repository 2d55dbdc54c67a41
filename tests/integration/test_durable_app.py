"""One app on a shared ledger: when it opens it, jobs that start later, forks, and what an end leaves behind."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import anyio
import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from millstream import DefinitionError, JobNotFoundError, JobState, Millstream, Settings, flow, points, sleep, task
from millstream.errors import ClosedError
from millstream.execution import recorder
from millstream.testing import VirtualClock


@task
async def double(x: int) -> int:
    return 2 * x


@task
async def endless() -> None:
    await asyncio.Event().wait()


@flow(durability="off")
def fleeting(x: int) -> Any:
    return double(x)


@flow(durability="full")
def lasting(x: int) -> Any:
    return double(x)


@flow
def napping(seconds: float) -> Any:
    return sleep(seconds)


def files(directory: Path) -> set[str]:
    return {path.name for path in directory.rglob("*") if not path.is_dir()}


# ------------------------------------------------------------------------------------------------- opening, tiers
async def test_an_app_without_durable_jobs_opens_nothing(tmp_path: Path) -> None:
    async with Millstream(settings=Settings(durability="off")) as app:
        assert await (await app.submit(double, x=2)).result() == 4
    assert files(tmp_path) == set()


async def test_a_durable_flow_opens_the_ledger_whatever_the_settings_say(tmp_path: Path) -> None:
    async with Millstream(settings=Settings(durability="off")) as app:
        job = await app.submit(lasting, x=2)
        assert await job.result() == 4
    async with Millstream() as later:
        assert await (await later.job(job.id)).result() == 4
    assert "ledger.db" in files(tmp_path)


async def test_a_flow_that_need_not_last_is_gone_with_its_app() -> None:
    async with Millstream() as app:
        job = await app.submit(fleeting, x=2)
        assert await job.result() == 4
        kept = await app.submit(double, x=2)
        assert [record.id for record in await app.jobs()] == [kept.id, job.id]
    async with Millstream() as later:
        with pytest.raises(JobNotFoundError):
            await later.job(job.id)


async def test_looking_makes_no_ledger_and_sees_the_one_that_others_make(tmp_path: Path) -> None:
    async with Millstream(executes=False) as client:
        assert await client.jobs() == []
        assert files(tmp_path) == set()
        async with Millstream() as app:
            job = await app.submit(double, x=2)
            assert [record.id for record in await client.jobs()] == [job.id]


async def test_a_short_job_is_written_in_one_transaction_besides_its_submission(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []
    monkeypatch.setattr(recorder, "_BEGIN_SECONDS", 60.0)  # however slow the machine is
    async with Millstream() as app:
        await (await app.submit(lasting, x=1)).result()
        monkeypatch.setattr(points, "_armed", [written.append])
        job = await app.submit(lasting, x=2)
        assert await job.result() == 4
        assert written.count("in-commit") == 2
        told = [event.type async for event in job.events() if event.is_durable]
    assert told == ["planned", "started", "node_succeeded", "ended"]


async def test_the_result_of_a_flow_is_recorded_though_what_it_cancelled_takes_its_time_to_end() -> None:
    entered, released = asyncio.Event(), asyncio.Event()

    @task
    async def stubborn() -> None:
        try:
            entered.set()
            await asyncio.Event().wait()
        finally:
            with anyio.CancelScope(shield=True):
                await released.wait()

    @flow(durability="full")
    async def racing() -> int:
        other = asyncio.ensure_future(stubborn())
        await entered.wait()
        other.cancel()
        return 1

    async with Millstream() as app:
        job = await app.submit(racing)
        async for event in job.events():
            if event.type == "node_succeeded" and event.node == "racing":
                break
        assert await job.state() is JobState.RUNNING
        released.set()
        assert await job.result() == 1


async def test_what_could_never_run_is_refused() -> None:
    async with Millstream(executes=False) as client:
        with pytest.raises(DefinitionError, match="durability off"):
            await client.submit(fleeting, x=1)


async def test_an_end_leaves_no_lock_and_no_socket(tmp_path: Path) -> None:
    async with Millstream() as app:
        await (await app.submit(double, x=2)).result()
        assert {name.rpartition(".")[2] for name in files(tmp_path / ".millstream" / "ledger.db.members")} == {
            "lock",
            "bell",
        }
    assert files(tmp_path / ".millstream" / "ledger.db.members") == set()


# ------------------------------------------------------------------------------------------------ ending, going on
async def test_what_a_closed_app_ran_the_next_one_goes_on_with() -> None:
    async with Millstream() as app:
        job = await app.submit(endless)
        waiter = asyncio.create_task(job.result())
        async for event in job.events():
            if event.type == "node_started":
                break
    with pytest.raises(ClosedError, match="others on its ledger"):
        await waiter
    later = Millstream()
    later.registry.add(endless)
    async with later:
        again = await later.job(job.id)
        seen = [event async for event in _until(again, "node_started", 2)]
        assert [event.data["attempt"] for event in seen if event.type == "started"] == [1, 2]
        assert await again.cancel() is JobState.CANCELLED


async def _until(job: Any, kind: str, count: int) -> Any:
    async for event in job.events():
        yield event
        count -= event.type in (kind, "started") and event.type == "started"
        if not count:
            return


def test_an_app_whose_loop_is_gone_hands_its_jobs_to_its_next_loop() -> None:
    app = Millstream()

    async def submit() -> str:
        job = await app.submit(napping, seconds=0.05)
        return job.id

    async def look(job_id: str) -> JobState:
        state = await (await app.job(job_id)).wait()
        await app.aclose()
        return state

    assert asyncio.run(look(asyncio.run(submit()))) is JobState.SUCCEEDED


def test_a_forked_child_starts_with_nothing_and_both_go_on(tmp_path: Path) -> None:
    script = tmp_path / "forking.py"
    script.write_text(
        textwrap.dedent(
            """
            import asyncio, os, warnings
            from millstream import Millstream, task

            # Python 3.12 and later say so of every fork beside threads.
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

            @task
            async def double(x): return 2 * x

            async def both(app):
                async with app:
                    job = await app.submit(double, x=2)
                    await job.result()
                    child = os.fork()
                    if child == 0:
                        os._exit(0 if asyncio.new_event_loop is None else in_child(app))
                    _, status = await asyncio.to_thread(os.waitpid, child, 0)
                    assert await (await app.submit(double, x=4)).result() == 8
                    assert len(await app.jobs()) == 3, await app.jobs()
                    return os.waitstatus_to_exitcode(status)

            def in_child(app):
                import threading
                codes = []
                def run():
                    codes.append(asyncio.run(app._run(double, x=3)))
                    asyncio.run(app.aclose())
                thread = threading.Thread(target=run)
                thread.start()
                thread.join()
                return 0 if codes == [6] else 1

            print(asyncio.run(both(Millstream())))
            """
        ),
        encoding="utf-8",
    )
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


# ------------------------------------------------------------------------------------------------------ later
async def test_a_job_with_a_countdown_starts_when_it_is_over_by_the_clock() -> None:
    clock = VirtualClock()
    async with Millstream(clock=clock) as app:
        job = await app.submit(double, x=2, countdown=3600.0)
        assert await job.state() is JobState.SCHEDULED
        assert await clock.drive(job.result()) == 4
        record = await job.record()
        assert record.started_at == pytest.approx(record.created_at + 3600.0)


async def test_a_job_with_an_eta_starts_then_and_one_that_is_past_at_once() -> None:
    clock = VirtualClock()
    now = datetime.fromtimestamp(clock.now(), UTC)
    async with Millstream(clock=clock) as app:
        past = await app.submit(double, x=1, eta=now - timedelta(days=1))
        assert await clock.drive(past.result()) == 2
        later = await app.submit(double, x=2, eta=now + timedelta(days=1))
        assert await clock.drive(later.result()) == 4
        assert (await later.record()).started_at == pytest.approx(now.timestamp() + 86_400)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"countdown": 1.0, "eta": datetime.now(UTC)}, "not both"),
        ({"countdown": -1.0}, "0 or more"),
        ({"eta": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001  that is the mistake
    ],
)
async def test_a_start_that_cannot_be_meant_is_refused(wrong: dict[str, Any], said: str) -> None:
    async with Millstream() as app:
        with pytest.raises(DefinitionError, match=said):
            await app.submit(double, x=1, **wrong)


# ---------------------------------------------------------------------------------------------- in a transaction
@pytest.mark.parametrize("is_kept", [True, False])
async def test_a_job_submitted_in_a_users_transaction_shares_its_fate(tmp_path: Path, *, is_kept: bool) -> None:
    url = f"sqlite:///{tmp_path}/shop.db"
    engine = sa.create_engine(url)
    async with Millstream(settings=Settings(database_url=url)) as app:
        with engine.connect() as connection:
            transaction = connection.begin()
            job = await app.submit(double, x=4, connection=connection)
            with pytest.raises(JobNotFoundError):
                await app.job(job.id)
            if is_kept:
                transaction.commit()
            else:
                transaction.rollback()
        if is_kept:
            assert await job.result() == 8
        else:
            assert await app.jobs() == []
    engine.dispose()


async def test_a_job_that_does_not_last_is_refused_in_a_transaction(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    async with Millstream() as app:
        with engine.connect() as connection, pytest.raises(DefinitionError, match="durability off"):
            await app.submit(fleeting, x=1, connection=connection)
    engine.dispose()


async def test_what_is_no_connection_is_refused_with_what_to_give(tmp_path: Path) -> None:
    engine = sa.create_engine(f"sqlite:///{tmp_path}/shop.db")
    async with Millstream() as app:
        with Session(engine) as session, closing(sqlite3.connect(":memory:")) as raw:
            for given in (engine, session, raw):
                with pytest.raises(DefinitionError, match=rf"not {type(given).__name__}; .* session\.connection\(\)"):
                    await app.submit(double, x=1, connection=cast("sa.Connection", given))
    engine.dispose()


def test_the_import_of_the_package_loads_no_database_driver() -> None:
    program = "import sys, millstream; sys.exit(bool({'sqlalchemy', 'alembic', 'psycopg'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ)


# --------------------------------------------------------------------------------------------------------- expiry
async def test_a_job_that_nobody_starts_in_time_fails_though_nobody_knows_its_flow() -> None:
    async with Millstream(executes=False) as client:
        job = await client.submit(double, x=1, expires=0.01)
        async with Millstream():
            assert await job.wait() is JobState.FAILED
        record = await job.record()
        assert record.reason == "expired"
        assert record.error is not None
        assert [event.type async for event in job.events()][-1] == "ended"


async def test_a_job_that_expires_while_all_slots_are_taken_does_not_wait_for_one() -> None:
    async with Millstream(settings=Settings(max_segments=1)) as app:
        blocker = await app.submit(endless)
        job = await app.submit(double, x=1, expires=0.01)
        assert await job.wait() is JobState.FAILED
        assert (await job.record()).reason == "expired"
        await blocker.cancel()


async def test_what_is_held_by_mistake_is_laid_down_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("millstream.execution.reconcile.IDLE_SECONDS", 0.1)
    monkeypatch.setattr("millstream.execution.reconcile.LOOK_SECONDS", 0.05)
    async with Millstream(executes=False) as client, Millstream() as app:
        job = await client.submit(double, x=2)
        process = app._home.process
        assert process is not None
        (lost,) = await (await process.share()).claim(process._membership.id, 1)
        assert lost.job.id == job.id
        app.registry.add(double)
        assert await job.result() == 4
