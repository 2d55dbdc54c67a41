"""The app's doors: from scripts, notebooks, other loops and threads, by name, closed and closed again."""

import asyncio
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any, cast

import pytest

from millstream import (
    BlockingCallError,
    Flow,
    JobCancelledError,
    JobNotFoundError,
    Millstream,
    Settings,
    SettingsError,
    flow,
    task,
)
from millstream.authoring import current
from millstream.authoring.registry import Registry
from millstream.errors import ClosedError, DefinitionError, DuplicateNameError, UnknownNameError
from millstream.ledger.base import IdempotencyConflictError
from millstream.model.job import JobState


@task
async def double(x: int) -> int:
    return 2 * x


@flow
def doubled(x: int = 1) -> Any:
    return double(x)


@task
async def endless() -> None:
    await asyncio.Event().wait()


def test_run_blocks_and_returns_the_result() -> None:
    assert doubled.run(x=4) == 8
    assert doubled.run(5) == 10


async def test_run_works_where_a_loop_runs_already_as_in_a_notebook() -> None:
    assert doubled.run(x=4) == 8


async def test_run_on_the_loop_that_runs_the_app_is_refused() -> None:
    async with Millstream() as app:
        with pytest.raises(BlockingCallError, match=r"await app\.submit"):
            app.run(doubled)


async def test_run_inside_a_task_is_refused() -> None:
    @task
    def nested() -> Any:
        return doubled.run()

    async with Millstream() as app:
        with pytest.raises(BlockingCallError, match="inside a task"):
            await (await app.submit(nested)).result()


async def test_run_from_another_thread_uses_the_app_where_it_lives() -> None:
    async with Millstream() as app:
        assert await asyncio.to_thread(app.run, doubled, x=21) == 42


async def test_submit_result_events_and_cancel_work_from_another_loop() -> None:
    async with Millstream() as app:

        async def elsewhere() -> tuple[Any, list[str], JobState]:
            job = await app.submit(doubled, x=3)
            stuck = await app.submit(endless)
            return await job.result(), [event.type async for event in job.events()], await stuck.cancel()

        result, types, state = await asyncio.to_thread(asyncio.run, elsewhere())
    assert result == 6
    assert types[0] == "planned"
    assert types[-1] == "ended"
    assert state is JobState.CANCELLED


def test_an_app_goes_on_in_a_new_loop_after_its_own_has_ended() -> None:
    app = Millstream()

    async def submit_and_wait() -> tuple[str, Any]:
        job = await app.submit(doubled, x=2)
        return job.id, await job.result()

    async def look(job_id: str) -> Any:
        return await (await app.job(job_id)).result()

    job_id, result = asyncio.run(submit_and_wait())
    assert result == 4
    assert asyncio.run(look(job_id)) == 4


def test_many_threads_may_run_at_once() -> None:
    app, results = Millstream(), []
    threads = [threading.Thread(target=lambda x=x: results.append(app.run(doubled, x=x))) for x in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    asyncio.run(app.aclose())
    assert sorted(results) == [2 * x for x in range(20)]


async def test_closing_cancels_what_nobody_could_go_on_with_and_says_why() -> None:
    app = Millstream(settings=Settings(durability="off"))
    async with app:
        job = await app.submit(endless)
        waiter = asyncio.create_task(job.result())
        await asyncio.sleep(0)
        ledger = app.ledger
    record = await ledger.get(job.id)
    assert (record.state, record.reason) == (JobState.CANCELLED, "shutdown")
    with pytest.raises((ClosedError, JobCancelledError)):
        await waiter


async def test_an_app_may_be_closed_twice_and_before_it_was_started() -> None:
    app = Millstream()
    await app.aclose()
    await app.aclose()
    with pytest.raises(ClosedError):
        await app.submit(doubled)


async def test_a_flow_is_found_by_its_name_or_the_last_part_of_it() -> None:
    async with Millstream() as app:
        app.registry.add(doubled)
        assert await (await app.submit("doubled", x=3)).result() == 6
        assert await (await app.submit(doubled.name, x=3)).result() == 6
        with pytest.raises(UnknownNameError, match=r"'doubld'.*doubled"):
            await app.submit("doubld")


async def test_only_tasks_and_flows_can_be_submitted() -> None:
    async with Millstream() as app:
        with pytest.raises(DefinitionError, match="@task or @flow"):
            await app.submit(cast("Flow", len))


async def test_a_job_that_is_not_there_is_one_clear_error() -> None:
    async with Millstream() as app:
        with pytest.raises(JobNotFoundError, match="no job 'x'"):
            await app.job("x")


async def test_one_idempotency_key_never_makes_two_jobs() -> None:
    async with Millstream() as app:
        jobs = await asyncio.gather(*[app.submit(doubled, x=1, idempotency_key="k") for _ in range(20)])
        assert len({job.id for job in jobs}) == 1
        with pytest.raises(IdempotencyConflictError, match="'k'"):
            await app.submit(doubled, x=2, idempotency_key="k")


async def test_jobs_are_listed_newest_first_and_by_state() -> None:
    async with Millstream() as app:
        first = await app.submit(doubled)
        await first.result()
        second = await app.submit(endless)
        assert [record.id for record in await app.jobs()] == [second.id, first.id]
        assert [record.id for record in await app.jobs(states=[JobState.SUCCEEDED])] == [first.id]
        assert [record.id for record in await app.jobs(flow=endless.name)] == [second.id]


def test_a_name_that_is_defined_twice_shows_both_places() -> None:
    registry = Registry()
    registry.add(Flow("same", doubled.inputs._fn))
    with pytest.raises(DuplicateNameError, match=r"test_facade\.py:\d+ and .*test_facade\.py:\d+"):
        registry.add(Flow("same", test_run_blocks_and_returns_the_result))


def test_modules_to_import_are_named_by_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_tasks.py").write_text("from millstream import task\n@task\ndef sell(): return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    app = Millstream(settings=Settings(imports=("shop_tasks",)))
    assert [known.name for known in app.registry.tasks()] == ["shop_tasks.sell"]
    with pytest.raises(UnknownNameError, match="no_such_module"):
        Millstream(imports=["no_such_module"])


def test_a_wrong_setting_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLSTREAM_MAX_THREADS", "0")
    with pytest.raises(SettingsError, match="MILLSTREAM_MAX_THREADS"):
        Millstream()


def test_another_app_can_take_the_default_ones_place() -> None:
    app = Millstream()
    with current.use(app):
        assert doubled.run(x=2) == 4
        assert current.app() is app
    assert current.app() is not app
    asyncio.run(app.aclose())


def test_a_script_that_closes_nothing_ends_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            from millstream import flow, task

            @task(run_in="process")
            def square(x):
                print("squaring", x, flush=True)
                return x * x

            @task
            def total(xs): return sum(xs)

            @flow
            def squares(n=3): return total(square.map(list(range(n))))

            if __name__ == "__main__":
                print("total", squares.run())
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "total 5" in done.stdout
    assert done.stdout.count("squaring") == 3, "what a task prints in its process is seen"
    assert done.stderr == ""


async def test_many_submits_at_once_draw_in_few_threads() -> None:
    threads: set[int] = set()

    @flow
    def drawn(number: int) -> Any:
        threads.add(threading.get_ident())
        return double(number)

    async with Millstream() as app:
        jobs = await asyncio.gather(*(app.submit(drawn, number) for number in range(300)))
        assert [await job.result() for job in jobs] == [2 * number for number in range(300)]
    assert 0 < len(threads) <= 32
