"""A process that hands in for workers: whatever the broker does, its loop goes on, and all goes out in the end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kombu.connection import Connection

from millstream import Millstream
from millstream.backends.celery.queues import task_queue
from millstream.errors import WorkflowServiceUnavailableError
from millstream.model.job import JobState
from millstream.settings import Settings
from tests.integration import celery_shop
from tests.lifeline import free_port
from tests.valkey import ValkeyServer

LONGEST_TURN = 1.5  # seconds; one answer of the broker is waited for two, and a busy machine takes a few tenths itself
JOBS = 20
NO_WORKER = 2  # messages that are sent where no worker is there yet


class Turns:
    """Measures the longest turn of the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def measure(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, (now := time.perf_counter()) - last)
            last = now


@asynccontextmanager
async def measured() -> AsyncIterator[Turns]:
    turns = Turns()
    measuring = asyncio.create_task(turns.measure())
    yield turns
    measuring.cancel()


def waiting(url: str, queue: str = "celery") -> int:
    """Return how many messages a broker has, or -1 where it does not tell."""
    try:
        with connected(url) as connection:
            declared = task_queue(queue, is_amqp=url.startswith("amqp"))(connection.default_channel)
            return int(declared.queue_declare()[1])
    except Exception:  # noqa: BLE001  each client library has errors of its own
        return -1


def connected(url: str) -> Any:
    return Connection(url, connect_timeout=2, transport_options=bounds(url))  # type: ignore[no-untyped-call]


def bounds(url: str) -> dict[str, Any]:
    return {"read_timeout": 2} if url.startswith("amqp") else {"socket_timeout": 2}


async def until(holds: Callable[[], Any], seconds: float = 120.0) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not await asyncio.to_thread(holds):
        assert time.monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.02)


def app(url: str, **settings: Any) -> Millstream:
    return Millstream(settings=Settings(celery_enabled=True, broker_url=url, config_dir=Path.cwd(), **settings))


async def suffers(server: Any, hurt: Callable[[], None], heal: Callable[[], None]) -> None:
    """Hand in while the broker is hurt, and hold what is promised of that."""
    async with app(server.url) as program, measured() as turns:
        await program.submit(celery_shop.total)
        await until(lambda: waiting(server.url) == 1)
        await asyncio.to_thread(hurt)
        jobs = [await program.submit(celery_shop.total) for _ in range(JOBS)]
        await asyncio.sleep(2.5)  # longer than an answer of the broker is waited for
        assert {(await program.record(job.id)).state for job in jobs} == {JobState.QUEUED}
        await asyncio.to_thread(heal)
        # RabbitMQ, once its alarm is over, takes what it was sent meanwhile as well: one message with each new try.
        await until(lambda: NO_WORKER <= waiting(server.url) < JOBS)
    assert turns.longest < LONGEST_TURN


@pytest.mark.parametrize("fault", ["kill", "pause", "fill"])
async def test_a_valkey_that_is_gone_hangs_or_is_full_holds_up_nobody(fault: str, valkey_server: ValkeyServer) -> None:
    healing = {"kill": valkey_server.start, "pause": valkey_server.resume, "fill": valkey_server.empty}
    await suffers(valkey_server, getattr(valkey_server, fault), healing[fault])


@pytest.mark.matrix
@pytest.mark.parametrize("fault", ["pause", "raise_alarm"])
async def test_a_rabbitmq_that_hangs_or_is_full_holds_up_nobody(fault: str, rabbitmq_server: Any) -> None:
    healing = {"pause": rabbitmq_server.resume, "raise_alarm": rabbitmq_server.end_alarm}
    await suffers(rabbitmq_server, getattr(rabbitmq_server, fault), healing[fault])


async def test_messages_that_the_broker_forgot_are_sent_again(valkey_server: ValkeyServer) -> None:
    async with app(valkey_server.url) as program:
        for _ in range(3):
            await program.submit(celery_shop.total)
        await until(lambda: waiting(valkey_server.url) == NO_WORKER)
        valkey_server.flush()
        await until(lambda: waiting(valkey_server.url) == NO_WORKER)


async def test_of_several_brokers_the_next_is_tried(valkey_url: str) -> None:
    async with app(f"redis://127.0.0.1:{free_port()}/0;{valkey_url}") as program:
        await program.submit(celery_shop.total)
        await until(lambda: waiting(valkey_url) == 1)


async def test_a_segment_on_a_queue_of_its_own_is_told_there(valkey_url: str) -> None:
    async with app(valkey_url) as program:
        await program.submit(celery_shop.add.s(1, 2).set(queue="heavy"))
        await until(lambda: waiting(valkey_url, "heavy") == 1)
        assert waiting(valkey_url) == 0


async def test_over_the_outbox_limit_submits_are_refused_until_the_broker_is_back(valkey_server: ValkeyServer) -> None:
    async with app(valkey_server.url, outbox_limit=5) as program:
        valkey_server.kill()
        for _ in range(5):
            await program.submit(celery_shop.total)
        with refused() as refusals:
            await until_async(lambda: submits(program, refusals))
        valkey_server.start()
        await until(lambda: waiting(valkey_server.url) > 0)
        await until_async(lambda: accepts(program))


@contextmanager
def refused() -> Iterator[list[str]]:
    refusals: list[str] = []
    yield refusals
    assert "outbox_limit" in refusals[0]


async def submits(program: Millstream, refusals: list[str]) -> bool:
    """Return whether a submit was refused."""
    try:
        await program.submit(celery_shop.total)
    except WorkflowServiceUnavailableError as error:
        refusals.append(str(error))
    return bool(refusals)


async def accepts(program: Millstream) -> bool:
    try:
        await program.submit(celery_shop.total)
    except WorkflowServiceUnavailableError:
        return False
    return True


async def until_async(holds: Callable[[], Awaitable[bool]], seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not await holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        await asyncio.sleep(0.1)


async def test_a_process_with_celery_executes_nothing_itself(valkey_url: str) -> None:
    async with app(valkey_url) as program:
        job = await program.submit(celery_shop.total)
        await until(lambda: waiting(valkey_url) == 1)
        assert (await program.record(job.id)).state is JobState.QUEUED
