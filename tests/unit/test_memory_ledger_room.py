"""The ledger in memory does not grow for ever."""

import pytest

from millstream import Millstream, Settings, flow, task
from millstream.ledger import memory


@task
async def one(x: int) -> int:
    return x


@flow
def many(count: int) -> object:
    return one.map(list(range(count)))


async def test_jobs_with_many_events_leave_room_for_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "KEPT_EVENTS", 1_000)
    async with Millstream(settings=Settings(durability="off")) as app:
        for _ in range(300):
            await (await app.submit(many, 20)).result()
        assert 100 <= len(await app.jobs(limit=1_000)) < 300


async def test_the_last_jobs_are_kept_however_many_events_they_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "KEPT_EVENTS", 1)
    async with Millstream(settings=Settings(durability="off")) as app:
        jobs = [await app.submit(many, 3) for _ in range(250)]
        assert [await job.result() for job in jobs[-50:]] == [[0, 1, 2]] * 50
