"""Wake-ups by PostgreSQL: heard by the others, found again after the server was away, and never waited for."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from millstream.ledger.bell import Topic
from millstream.ledger.notify import NotifyBell
from tests.services import PostgresServer


class Ear:
    """Takes what is heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def __call__(self, topic: Topic, job_id: str) -> None:
        self.heard.append((topic, job_id))


async def rung_until(ring: Callable[[], None], ear: Ear) -> None:
    """Ring until it is heard: a bell that does not listen yet, or not at the moment, hears nothing."""
    async with asyncio.timeout(120):
        while not ear.heard:
            ring()
            await asyncio.sleep(0.02)


@pytest.fixture
async def two(postgres_url: str) -> AsyncIterator[tuple[NotifyBell, Ear, NotifyBell, Ear]]:
    one, other, ears = NotifyBell(postgres_url), NotifyBell(postgres_url), (Ear(), Ear())
    await one.listen(ears[0])
    await other.listen(ears[1])
    yield one, ears[0], other, ears[1]
    await one.close()
    await other.close()


async def test_the_others_hear_it_and_oneself_does_not(two: tuple[NotifyBell, Ear, NotifyBell, Ear]) -> None:
    one, my_ear, other, ear = two
    await rung_until(lambda: one.ring("changed", "a"), ear)
    assert set(ear.heard) == {("changed", "a")}
    await rung_until(lambda: other.ring("queued", "b"), my_ear)
    assert set(my_ear.heard) == {("queued", "b")}


async def test_many_are_told_in_few_notifications(two: tuple[NotifyBell, Ear, NotifyBell, Ear]) -> None:
    one, _, _, ear = two
    await rung_until(lambda: one.ring("queued", "first"), ear)
    for i in range(1000):
        one.ring("ended", str(i))
    async with asyncio.timeout(120):
        while ("ended", "999") not in ear.heard:  # noqa: ASYNC110  another thread hears it
            await asyncio.sleep(0.005)
    assert sum(topic == "ended" for topic, _ in ear.heard) == 1000


async def test_it_is_heard_again_when_the_server_is_back(postgres_server: PostgresServer) -> None:
    await asyncio.to_thread(postgres_server.start)
    one, other, ear = NotifyBell(postgres_server.url), NotifyBell(postgres_server.url), Ear()
    await one.listen(lambda *_: None)
    await other.listen(ear)
    await rung_until(lambda: one.ring("queued", "before"), ear)
    await asyncio.to_thread(postgres_server.kill)
    one.ring("queued", "while it is away")
    await asyncio.to_thread(postgres_server.start)
    ear.heard.clear()
    await rung_until(lambda: one.ring("queued", "after"), ear)
    await one.close()
    await other.close()


async def test_a_close_ends_the_thread_whether_or_not_there_is_a_server() -> None:
    bell = NotifyBell("postgresql://127.0.0.1:1/nowhere")
    await bell.close()
    await bell.listen(lambda *_: None)
    bell.ring("queued", "a")
    await bell.close()
    await bell.close()
    bell.ring("queued", "b")
    assert not [thread for thread in threading.enumerate() if thread.name == "millstream-bell"]
