"""How many messages are sent for what is queued, and to which queues: no queue, flow or process is in another's way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import kombu
import pytest
import redis
from structlog.testing import capture_logs

from millstream import Millstream, flow
from tests.celery_workers import Workers, workers
from tests.integration import celery_shop
from tests.integration.test_celery_publisher import NO_WORKER, app, until, waiting
from tests.rabbitmq import RabbitMQServer

MANY = 1010
SHOP = "tests.integration.celery_shop"


@flow
def unknown() -> object:
    """One that no worker knows."""
    return celery_shop.add(1, 2)


@pytest.fixture
def some(valkey_url: str, tmp_path: Path) -> Iterator[Workers]:
    settings = {"celery_enabled": "true", "broker_url": valkey_url, "database_url": f"sqlite:///{tmp_path}/ledger.db"}
    with workers(tmp_path / "log", settings) as started:
        yield started


async def test_a_thousand_queued_jobs_make_a_few_messages_and_are_in_no_other_queues_way(valkey_url: str) -> None:
    async with app(valkey_url) as program:
        for _ in range(MANY):
            await program.submit(celery_shop.add.s(1, 2).set(queue="nobody"))
        await program.submit(celery_shop.total)
        await until(lambda: waiting(valkey_url) == 1)
        async with app(valkey_url):  # a further process has nothing to say about them
            await asyncio.sleep(2.5)
        assert waiting(valkey_url, "nobody") <= NO_WORKER + 2
        assert waiting(valkey_url) <= NO_WORKER


async def test_a_worker_of_two_processes_is_kept_busy_with_a_few_messages(some: Workers, valkey_url: str) -> None:
    some.start(SHOP, pool="prefork", concurrency=2)
    async with app(valkey_url, database_url=some.settings["database_url"]) as program:
        before = sent(valkey_url)
        jobs = [await program.submit(celery_shop.total) for _ in range(150)]
        for job in jobs:
            assert await asyncio.wait_for(job.result(), 120) == 10
        assert sent(valkey_url) - before < len(jobs)


def sent(url: str) -> int:
    """Return how many messages the broker was ever given."""
    with redis.Redis.from_url(url) as client:
        told: Any = client.info("commandstats")
    return int(told.get("cmdstat_lpush", {}).get("calls", 0))


async def test_jobs_that_no_worker_knows_are_told_ever_more_seldom_and_delay_no_others(
    some: Workers, valkey_url: str
) -> None:
    some.start(SHOP, pool="prefork", concurrency=1)
    async with app(valkey_url, database_url=some.settings["database_url"]) as program:
        for _ in range(3):
            await program.submit(unknown)
        await asyncio.sleep(1.0)
        before, begun = sent(valkey_url), time.monotonic()
        job = await program.submit(celery_shop.total)
        assert await asyncio.wait_for(job.result(), 120) == 10
        await asyncio.sleep(max(0.0, begun + 3.0 - time.monotonic()))
        assert sent(valkey_url) - before < 15


async def test_where_the_queue_is_full_of_others_messages_one_of_ours_is_among_them(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        client.lpush("celery", *["of users' own tasks"] * 20)
        async with app(valkey_url) as program:
            await program.submit(celery_shop.total)
            await until(lambda: client.llen("celery") == 21)


async def goes_on_beside(program: Millstream, url: str) -> str:
    """Hand in for a queue that the broker refuses, and for another; return what is said of the first."""
    with capture_logs() as said:
        await program.submit(celery_shop.add.s(1, 2).set(queue="reports"))
        await until(lambda: refused(said))
        await program.submit(celery_shop.total)
        await until(lambda: waiting(url) >= 1)
        (why,) = refused(said)
        assert not any("takes no messages" in line["event"] for line in said)
    return why


def refused(said: Sequence[Any]) -> list[str]:
    return [line["why"] for line in said if line["log_level"] == "error" and "'reports'" in line["why"]]


async def test_a_redis_key_that_is_no_queue_is_in_no_other_queues_way(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("millstream.backends.celery.publisher._ASIDE_SECONDS", 0.5)
    with redis.Redis.from_url(valkey_url) as client:
        client.set("reports", "a text")
        async with app(valkey_url) as program:
            why = await goes_on_beside(program, valkey_url)
            assert "a key 'reports' that is no queue: delete it (DEL reports)" in why
            client.delete("reports")
            await until(lambda: waiting(valkey_url, "reports") >= 1)


def classic(url: str, *names: str) -> None:
    """Make queues as Celery does where nothing else is said."""
    made: Any = kombu
    with made.Connection(url) as connection:
        for name in names:
            made.Queue(name, routing_key=name)(connection.channel()).declare()


@pytest.mark.matrix  # RabbitMQ takes its time to start
async def test_a_classic_queue_of_rabbitmq_is_in_no_other_queues_way(rabbitmq_server: RabbitMQServer) -> None:
    classic(rabbitmq_server.url, "reports", "millstream.dead")
    async with app(rabbitmq_server.url) as program:
        assert "delete it when its messages are worked off" in await goes_on_beside(program, rabbitmq_server.url)


async def test_a_worker_ends_with_one_line_where_its_queue_is_none(some: Workers, valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        client.set("celery", "a text")
        with pytest.raises(AssertionError, match=r"'celery' that is no queue: delete it \(DEL celery\)") as told:
            some.start(SHOP, pool="prefork", concurrency=1)
    assert "Traceback" not in str(told.value)


@pytest.mark.matrix  # RabbitMQ takes its time to start
async def test_a_worker_ends_with_one_line_where_its_queue_is_a_classic_one(
    some: Workers, rabbitmq_server: RabbitMQServer
) -> None:
    classic(rabbitmq_server.url, "celery")
    some.settings["broker_url"] = rabbitmq_server.url
    for program in ("millstream", "celery"):
        with pytest.raises(AssertionError, match=r"a queue 'celery' of another kind .* delete it") as told:
            some.start(SHOP, pool="prefork", concurrency=1, program=program)
        assert "Traceback" not in str(told.value)
