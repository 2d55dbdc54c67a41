"""A job that is submitted once more takes over what went well, and is a job of its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millstream import Flow, Job, Millstream, approval, flow, task
from millstream.errors import AlreadyRetriedError, JobNotFoundError, StateTransitionError
from millstream.ledger.base import IdempotencyConflictError
from millstream.model.job import JobState
from millstream.settings import Settings

done: list[str] = []
broken: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    done.clear()
    broken.clear()


@pytest.fixture(params=["full", "off"])
async def app(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Millstream]:
    async with Millstream(settings=Settings(config_dir=tmp_path, durability=request.param)) as app:
        yield app


@task
async def act(name: str, *_: object) -> str:
    done.append(name)
    if name in broken:
        raise ValueError(name)
    return name


@task
async def large(size: int) -> str:
    done.append("large")
    return "x" * size


@task
async def length(text: str) -> int:
    done.append("length")
    if "length" in broken:
        raise ValueError("length")
    return len(text)


@flow
def two() -> object:
    return act("second", act("first"))


@flow
def nested() -> object:
    return act("last", two())


@flow
def mapped() -> object:
    return act.map(["a", "b", "c"])


@flow
def measured(size: int) -> object:
    return length(large(size))


@flow
async def careful() -> object:
    try:
        await act("tried")
    except ValueError:
        await act("otherwise")
    return await act("at last")


@flow
def asked() -> object:
    return act("asked", approval("may it?"))


async def failed(app: Millstream, work: Flow, *names: str, **inputs: Any) -> str:
    """Run a flow in which these acts fail, and return its job's id."""
    broken.update(names)
    job: Job = await app.submit(work, **inputs)
    assert await job.wait() is JobState.FAILED
    return job.id


@pytest.mark.parametrize(
    ("work", "culprit", "again"),
    [
        (two, "second", ["second"]),
        (two, "first", ["first", "second"]),
        (nested, "second", ["second", "last"]),
        (mapped, "b", ["b"]),
    ],
)
async def test_only_what_did_not_succeed_is_done_again(
    app: Millstream, work: Flow, culprit: str, again: list[str]
) -> None:
    old = await failed(app, work, culprit)
    done.clear()
    broken.clear()
    job = await app.retry(old)
    await job.result()
    assert done == again
    assert job.id != old
    assert (await app.record(old)).state is JobState.FAILED


async def test_from_the_start_everything_is_done_again(app: Millstream) -> None:
    old = await failed(app, two, "second")
    broken.clear()
    job = await app.retry(old, from_start=True)
    assert await job.result() == "second"
    assert done == ["first", "second"] * 2


async def test_a_conducting_body_takes_the_way_that_it_took(app: Millstream) -> None:
    old = await failed(app, careful, "tried", "at last")
    broken.clear()
    job = await app.retry(old)
    assert await job.result() == "at last"
    assert done == ["tried", "otherwise", "at last", "at last"]


async def test_values_of_any_size_are_taken_over(app: Millstream) -> None:
    old = await failed(app, measured, "length", size=100_000)
    broken.clear()
    job = await app.retry(old)
    assert await job.result() == 100_000
    assert done == ["large", "length", "length"]
    assert await app.purge([old]) == [old]
    assert [node.value for node in await job.nodes() if node.path == "length"] == [100_000]


async def test_answers_are_taken_over(app: Millstream) -> None:
    broken.add("asked")
    old = await app.submit(asked)
    async for event in old.events():
        if event.type == "waiting":
            assert await old.approve("approval")
    assert await old.wait() is JobState.FAILED
    broken.clear()
    assert await (await app.retry(old.id)).result() == "asked"


async def test_a_job_that_succeeded_gives_its_result_again(app: Millstream) -> None:
    old = await app.submit(two)
    await old.result()
    assert await (await app.retry(old.id)).result() == "second"
    assert done == ["first", "second"]


async def test_a_job_says_which_one_it_repeats(app: Millstream) -> None:
    old = await failed(app, two, "second")
    job = await app.retry(old)
    (planned,) = await app.recorded(job.id, limit=1)
    assert planned.data == {"nodes": 2, "repeats": old}


async def test_a_job_that_is_retried_keeps_its_owner(app: Millstream) -> None:
    old = await app.submit(two, owner="ada")
    others = await app.submit(two)
    for job in (old, others):
        await job.wait()
    again = await app.retry(old.id, from_start=True)
    await again.wait()
    assert [job.id for job in await app.jobs(owner="ada")] == [again.id, old.id]
    assert [job.id for job in await app.jobs(owner="ada", oldest_first=True, after=old.id)] == [again.id]
    assert (await app.record(others.id)).owner is None


async def test_a_job_is_retried_once_on_request(app: Millstream) -> None:
    old = await failed(app, two, "second")
    first = await app.retry(old)
    with pytest.raises(AlreadyRetriedError) as refused:
        await app.retry(old, once=True)
    assert refused.value.by == first.id
    assert (await app.retry(old)).id != first.id
    await first.wait()
    await app.purge([first.id])
    assert (await app.retry(old, once=True)).id != old


async def test_a_job_that_has_not_ended_is_refused(app: Millstream) -> None:
    job = await app.submit(asked)
    with pytest.raises(StateTransitionError, match="it can be submitted again when it has ended"):
        await app.retry(job.id)
    with pytest.raises(JobNotFoundError):
        await app.retry("no such job")


async def test_retries_with_one_key_are_one_and_count_as_a_retry(app: Millstream) -> None:
    old, other = await failed(app, two, "second"), await failed(app, two, "second")
    many = await asyncio.gather(*(app.retry(old, idempotency_key="again") for _ in range(5)))
    assert len({job.id for job in many}) == 1
    with pytest.raises(AlreadyRetriedError):
        await app.retry(old, once=True)
    assert (await app.retry(old, idempotency_key="and again")).id != many[0].id
    with pytest.raises(IdempotencyConflictError, match="no retry of"):
        await app.retry(other, idempotency_key="again")
