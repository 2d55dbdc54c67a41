"""What must not take the engine down: rough exceptions, closed loops, forks, threads that talk at once."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from millstream import (
    BlockingCallError,
    DefinitionError,
    DrawingError,
    JobCancelledError,
    Millstream,
    Settings,
    TaskError,
    branch,
    ctx,
    flow,
    task,
)
from millstream.model.job import JobState


@task
async def echo(x: Any) -> Any:
    return x


@flow
def echoed(x: int = 1) -> Any:
    return echo(x)


@pytest.mark.parametrize("kind", [GeneratorExit, KeyboardInterrupt, SystemExit, asyncio.CancelledError])
async def test_whatever_a_coroutine_raises_fails_its_node_and_nothing_else(kind: type[BaseException]) -> None:
    @task
    async def rough() -> None:
        raise kind

    async with Millstream() as app:
        job = await app.submit(rough)
        assert await job.wait() is JobState.FAILED
        with pytest.raises(TaskError, match=kind.__name__):
            await job.result()
        assert await (await app.submit(echoed, x=3)).result() == 3


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_a_body_that_exits_is_a_drawing_error_not_the_end(kind: type[BaseException]) -> None:
    @flow
    def leaving() -> None:
        raise kind

    with pytest.raises(DrawingError, match=kind.__name__):
        leaving.run()
    assert echoed.run(x=2) == 2


def test_a_loop_that_was_closed_under_a_job_ends_it() -> None:
    @task
    async def endless() -> None:
        await asyncio.Event().wait()

    app, loop = Millstream(settings=Settings(durability="off")), asyncio.new_event_loop()
    job = loop.run_until_complete(app.submit(endless))
    for pending in asyncio.all_tasks(loop):
        pending.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    async def look() -> None:
        with pytest.raises(JobCancelledError, match="shutdown"):
            await (await app.job(job.id)).result()
        assert await (await app.submit(echoed, x=4)).result() == 4
        await app.aclose()

    asyncio.run(look())


def test_an_app_whose_loop_is_paused_refuses_another_loop() -> None:
    app, loop = Millstream(), asyncio.new_event_loop()
    job = loop.run_until_complete(app.submit(echoed, x=5))
    with pytest.raises(BlockingCallError, match="paused"):
        app.run(echoed)
    assert loop.run_until_complete(job.result()) == 5
    loop.run_until_complete(app.aclose())
    loop.close()


def test_an_app_works_in_a_forked_child(tmp_path: Path) -> None:
    script = tmp_path / "forking.py"
    script.write_text(
        "import os\n"
        "from millstream import Millstream, task\n"
        "@task\n"
        "def one(): return 1\n"
        "if __name__ == '__main__':\n"
        "    app = Millstream()\n"
        "    assert app.run(one) == 1\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        os._exit(40 + app.run(one))\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "41", done.stderr


@task(run_in="process")
def talk_from_threads(count: int) -> int:
    import contextvars  # noqa: PLC0415  only the pool process needs it

    def talk(number: int) -> None:
        for _ in range(20):
            ctx.emit("said", {"number": number, "text": "x" * 100_000})

    threads = [threading.Thread(target=contextvars.copy_context().run, args=(talk, number)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count


async def test_threads_of_a_pool_process_may_talk_at_once() -> None:
    async with Millstream() as app:
        job = await app.submit(talk_from_threads, 4)
        assert await job.result() == 4
        said = [event async for event in job.events() if event.type == "said"]
    assert len(said) == 80


async def test_what_must_run_once_is_not_repeated_after_an_unknown_outcome(tmp_path: Path) -> None:
    async with Millstream() as app:
        job = await app.submit(die_once, str(tmp_path / "starts"))
        async with asyncio.timeout(120):
            while (record := await job.record()).state is not JobState.WAITING:  # noqa: ASYNC110  it gets there by itself
                await asyncio.sleep(0.01)
        assert record.reason == "decision"
    assert (tmp_path / "starts").read_text() == "."


@task(run_in="process", effect="once", retries=3)
def die_once(path: str) -> None:
    with Path(path).open("a") as starts:
        starts.write(".")
    os._exit(9)


async def test_the_start_of_what_must_run_once_is_recorded_before_it_runs() -> None:
    async with Millstream() as app:

        @task(effect="once")
        async def look() -> list[str]:
            return [event.type for event in await app.ledger.events(ctx.job_id, 0, 100)]

        assert "node_started" in await (await app.submit(look)).result()


async def test_nothing_new_starts_after_a_cancel() -> None:
    started, ran = asyncio.Event(), []

    @task
    async def polite() -> int:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return 1
        return 2

    @task
    async def successor(x: int) -> None:
        ran.append(x)

    @flow
    def both() -> Any:
        return successor(polite())

    async with Millstream() as app:
        job = await app.submit(both)
        await started.wait()
        assert await job.cancel() is JobState.CANCELLED
    assert ran == []


async def test_a_cancel_that_a_task_turns_into_a_failure_is_not_retried() -> None:
    started, attempts = asyncio.Event(), []

    @task(retries=5)
    async def sore() -> None:
        attempts.append(1)
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("so there") from None

    async with Millstream() as app:
        job = await app.submit(sore)
        await started.wait()
        assert await job.cancel() is JobState.CANCELLED
    assert len(attempts) == 1


async def test_ways_named_like_truth_are_values_all_the_same() -> None:
    @flow
    def named(value: Any) -> Any:
        return branch(echo(value), {"true": lambda: echo("said true"), "false": lambda: echo("said false")})

    async with Millstream() as app:
        assert await (await app.submit(named, "false")).result() == "said false"


def test_two_ways_for_one_value_are_refused() -> None:
    @flow
    def twice() -> Any:
        return branch(echo(1), {1: lambda: echo(1), "1": lambda: echo(2)})

    with pytest.raises(DefinitionError, match="two ways for one value"):
        twice.draw({})


async def test_the_cache_tells_types_apart_and_hands_out_copies() -> None:
    @task(cache_ttl=60)
    async def kind(x: Any) -> list[str]:
        return [type(x).__name__]

    async with Millstream() as app:
        for x, name in ((b"abc", "bytes"), ("YWJj", "str"), ((1, 2), "tuple"), ([1, 2], "list")):
            result = await (await app.submit(kind, x)).result()
            assert result == [name]
            result.append("spoiled")
            assert await (await app.submit(kind, x)).result() == [name]


async def test_options_of_submit_are_checked_before_anything_is_recorded() -> None:
    async with Millstream() as app:
        for wrong in ({"priority": 99}, {"priority": "high"}, {"expires": -1}):
            with pytest.raises(DefinitionError, match="submit of"):
                await app.submit(echoed, idempotency_key="k", **wrong)
        assert await app.jobs() == []


async def test_a_thread_s_time_out_does_not_count_the_wait_for_a_thread() -> None:
    @task(timeout=2)
    def half(x: int) -> int:
        time.sleep(0.5)  # six of them take over two seconds on one thread, each of them well under one
        return x

    @flow
    def six() -> Any:
        return half.map(list(range(6)))

    async with Millstream(settings=Settings(max_threads=1)) as app:
        assert await (await app.submit(six)).result() == list(range(6))
