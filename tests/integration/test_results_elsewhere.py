"""Results as coroutines and other processes see them."""

from __future__ import annotations

import asyncio
import doctest
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from millstream import (
    AsyncResult,
    BlockingCallError,
    GroupResult,
    JobNotFoundError,
    Millstream,
    Settings,
    TaskRevokedError,
    group,
)
from millstream.authoring import current
from millstream.errors import ClosedError
from millstream.ledger.base import IdempotencyConflictError
from tests.integration.results_tasks import SECONDS, add, add_soon, fail, gate, sleep_long, total, until, wait_at

ROOT = Path(__file__).parents[2]

READER = """
import sys
from millstream import AsyncResult, GroupResult, Millstream, Settings, result_from_tuple
from millstream.authoring import current

reader = Millstream(settings=Settings(durability="full"), executes=False)
with current.use(reader):
    done, failed, waiting, several = sys.argv[1:]
    print(AsyncResult(done).get(timeout=120), AsyncResult(done).args)
    print(AsyncResult(failed).state, AsyncResult(failed).get(timeout=120, propagate=False))
    print(GroupResult.restore(several).get(timeout=120), GroupResult.restore("mine").get(timeout=120))
    print(AsyncResult(waiting).state, AsyncResult("nothing").state, flush=True)
    print(AsyncResult(waiting).get(timeout=120))
"""

SUBMITTER = """
from millstream import Millstream, Settings
from millstream.authoring import current
from tests.integration.results_tasks import add

outside = Millstream(settings=Settings(durability="full"), executes=False)
with current.use(outside):
    print((add.s(1, 2) | add.s(10)).apply_async().get(timeout=120))
"""


@pytest.fixture
def durable() -> Iterator[Millstream]:
    """An app in force that executes, on the ledger of the test's directory."""
    made = Millstream(settings=Settings(durability="full"), imports=[add.__module__])
    with current.use(made):
        yield made
    asyncio.run(made.aclose())


def python(script: str, *args: str) -> subprocess.Popen[str]:
    """Start a Python process on the ledger of the test's directory."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *args], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=-1, text=True
    )


def test_a_group_that_was_saved_where_nothing_is_executed_is_deleted_and_saved_again() -> None:
    outside = Millstream(settings=Settings(durability="full"), executes=False)
    with current.use(outside):
        waiting = add.delay(1, 2)
        for members in ([waiting], [waiting, waiting]):
            saved = GroupResult("mine", members).save()

            assert GroupResult.restore("mine") == saved
        saved.delete()

        assert GroupResult.restore("mine") is None
    asyncio.run(outside.aclose())


def test_any_process_can_run_the_job_that_keeps_a_group(durable: Millstream) -> None:
    outside = Millstream(settings=Settings(durability="full"), executes=False)
    with current.use(outside):
        GroupResult("mine", [AsyncResult("nothing")]).save()

    with current.use(durable):
        assert AsyncResult("group:mine").get(timeout=SECONDS) is not None
    asyncio.run(outside.aclose())


@pytest.mark.parametrize("waits_for_group", [False, True])
def test_who_waits_while_the_app_stops_is_told_so(*, waits_for_group: bool) -> None:
    app = Millstream(settings=Settings(durability="full"))
    with current.use(app):
        one, both = sleep_long.delay(), group(sleep_long.s(), sleep_long.s()).apply_async()
        waiting = both if waits_for_group else one
        until(lambda: one.state == both[0].state == "STARTED")
        with ThreadPoolExecutor(1) as threads:
            answer = threads.submit(waiting.get, timeout=SECONDS)
            until(app._home.log.watched)
            app._home.door().call(app._home._stop_on_portal())  # as it happens when the program ends

            with pytest.raises(ClosedError):
                answer.result()
    asyncio.run(app.aclose())


@pytest.mark.usefixtures("durable")
@pytest.mark.parametrize("waits_for_group", [False, True])
def test_who_waits_for_a_job_that_is_purged_elsewhere_waits_no_longer(*, waits_for_group: bool) -> None:
    outside = Millstream(settings=Settings(durability="full"), executes=False)
    later = group(add.s(1, 2), add.s(3, 4)).apply_async(countdown=3600)
    found = (
        GroupResult.restore(str(later.id), app=outside) if waits_for_group else AsyncResult(later[0].id, app=outside)
    )
    assert found is not None
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(found.get, timeout=SECONDS)
        until(outside._home.log.watched)
        later.revoke()
        later.forget()

        with pytest.raises((JobNotFoundError, TaskRevokedError)):
            answer.result()
    assert later[0].state is None
    asyncio.run(outside.aclose())


def test_another_process_reads_states_and_results_and_waits_for_them(durable: Millstream, name: str) -> None:
    done, failed, waiting = add.delay(1, 2), fail.delay("rice"), wait_at.delay(name, "at last")
    several = group(add.s(1, 1), add.s(2, 2)).apply_async()
    GroupResult("mine", [several[1], done], app=durable).save()
    until(lambda: waiting.state == "STARTED" and several.ready() and failed.ready())

    with python(READER, done.id, failed.id, waiting.id, str(several.id)) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "3 (1, 2)\n"
        assert reader.stdout.readline() == "FAILURE no rice\n"
        assert reader.stdout.readline() == "[2, 4] [4, 3]\n"
        assert reader.stdout.readline() == "STARTED None\n"
        gate(name).set()
        assert reader.stdout.readline() == "at last\n"
    assert reader.returncode == 0


def test_what_a_process_hands_in_that_executes_nothing_runs_where_its_tasks_are_known(durable: Millstream) -> None:
    assert add.delay(1, 1).get(timeout=SECONDS) == 2  # so that it is started, and looks for work

    with python(SUBMITTER) as submitter:
        said, _ = submitter.communicate(timeout=SECONDS)

    assert (said, submitter.returncode) == ("13\n", 0)
    assert [record.flow for record in asyncio.run(durable.jobs())] == [add.name, add.name]


async def test_a_canvas_is_a_job_for_coroutines() -> None:
    async with Millstream(settings=Settings(durability="off")) as app:
        job = await app.submit(group(add.s(1, 1), add_soon.s(2, 2)) | total.s())

        assert await job.result() == 6
        assert job.flow == add.name
        assert (await job.record()).inputs.keys() == {"canvas", "digest"}
        assert await (await app.submit(group(add.s(1, 1), add.s(2, 2)))).result() == [2, 4]
        alone = await app.submit(add.s(2), 1)
        assert (await alone.record()).inputs == {"x": 1, "y": 2}
        assert await alone.result() == 3
        with pytest.raises(BlockingCallError, match=r"await app\.submit"):
            app.hand_in(add.s(1, 2))
        with pytest.raises(BlockingCallError):
            AsyncResult(job.id, app=app).get(timeout=1)


async def test_a_canvas_with_a_key_is_submitted_once() -> None:
    async with Millstream(settings=Settings(durability="full")) as app:
        first = await app.submit(add.s(1, 2) | add.s(3), idempotency_key="k")
        again = await app.submit(add.s(1, 2) | add.s(3), idempotency_key="k")

        assert again.id == first.id
        with pytest.raises(IdempotencyConflictError):
            await app.submit(add.s(1, 2) | add.s(4), idempotency_key="k")
        assert await first.result() == 6


def test_what_is_handed_in_within_a_transaction_is_there_when_that_is_committed(durable: Millstream) -> None:
    from sqlalchemy import create_engine  # noqa: PLC0415  the test of an application that has a database

    assert add.delay(1, 1).get(timeout=SECONDS) == 2
    engine = create_engine(durable.settings.effective_database_url)
    with engine.connect() as connection:
        dropped = durable.hand_in(add.s(1, 2), connection=connection)
        connection.rollback()
        kept = durable.hand_in(add.s(1, 3), connection=connection)
        connection.commit()
    engine.dispose()

    assert isinstance(dropped, AsyncResult)
    assert kept.get(timeout=SECONDS) == 4
    assert dropped.state is None


@pytest.mark.parametrize("module", ["async_result", "group_result", "making"])
@pytest.mark.usefixtures("durable")
def test_the_examples_of_results_run(module: str) -> None:
    tried = doctest.testmod(importlib.import_module(f"millstream.authoring.results.{module}"))

    assert tried.attempted
    assert not tried.failed
