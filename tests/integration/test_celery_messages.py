"""Messages that nobody of the ledger signed, on real workers: they are refused, and no worker ends by them."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from millstream import Millstream
from millstream.backends.celery.messages import DEAD_LETTERS, TASK, Signer
from millstream.backends.celery.queues import dead_letters
from millstream.ledger.identity import new_identity
from millstream.ledger.queued import Queued
from millstream.settings import Settings
from tests.celery_workers import Workers
from tests.integration import celery_shop
from tests.integration.test_celery_publisher import connected, until
from tests.rabbitmq import RabbitMQServer

SHOP = "tests.integration.celery_shop"
SECONDS = 120.0
KEY = "a common key of thirty-two bytes"
QUEUED = Queued("0198", 1, 0, None, f"{SHOP}.total")


@pytest.fixture
def settings(valkey_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "celery_enabled": "true",
        "broker_url": valkey_url,
        "database_url": f"sqlite:///{tmp_path / 'ledger.db'}",
        "drain_grace": "1",
    }


class Intruder:
    """Somebody who can write to the broker, and knows no key.

    Args:
        url: The broker.
    """

    def __init__(self, url: str) -> None:
        self.server = redis.Redis.from_url(url)

    def push(self, signer: Signer, **headers: Any) -> None:
        """Put a message into the workers' queue, with some of its headers changed."""
        envelope = signer.envelope(QUEUED)
        message = {
            "body": base64.b64encode(envelope.body.encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {**envelope.headers, **headers},
            "properties": {
                "correlation_id": envelope.id,
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": "celery"},
                "body_encoding": "base64",
                "delivery_tag": str(uuid.uuid4()),
            },
        }
        self.server.lpush("celery", json.dumps(message))

    def count(self, queue: str) -> int:
        return int(self.server.llen(queue))


@pytest.fixture
def intruder(valkey_url: str) -> Iterator[Intruder]:
    one = Intruder(valkey_url)
    yield one
    one.server.close()


async def result(job: Any) -> Any:
    return await asyncio.wait_for(job.result(), SECONDS)


async def test_a_worker_that_knows_its_ledger_outlives_whatever_is_put_into_its_queue(
    some: Workers, program: Millstream, intruder: Intruder
) -> None:
    worker = some.start(SHOP, pool="prefork", concurrency=1, options=["-l", "info"])
    assert await result(await program.submit(celery_shop.total)) == 10
    (child,) = worker.children()
    identity = await asyncio.to_thread(program.program.identify)
    foreign = Signer(new_identity())
    for _ in range(5):
        intruder.push(foreign)
    intruder.push(Signer(identity, b"some other key"))
    await until(lambda: intruder.count(DEAD_LETTERS) == 6)

    await asyncio.sleep(1.1)  # the turn of the child is over, and it is woken by messages alone
    job = await program.submit(celery_shop.rest, 2.0)
    for _ in range(5):  # one that was signed, put back with a header that would have the pool kill the child
        intruder.push(Signer(identity), timelimit=[0.5, 0.1])
    assert await result(job) == child
    await until(lambda: worker.said.count("a message was refused") == 2)

    garbage: list[bytes | str] = ["garbage", b"\xff\x00", "[" * 100_000, "7", "{}", '{"body": "é"}']
    for entry in garbage:
        intruder.server.lpush("celery", entry)
    intruder.push(Signer(identity), task=[])
    intruder.push(Signer(identity), task="shop.pay", id=None, root_id={})
    await until(lambda: intruder.count(DEAD_LETTERS) >= 6 + len(garbage) + 1)
    await until(lambda: worker.said.count("what is no message was set aside") == len(garbage))
    assert await result(await program.submit(celery_shop.total)) == 10
    assert worker.process.poll() is None


async def test_a_worker_that_gets_nothing_but_messages_of_another_ledger_ends_with_78(
    some: Workers, intruder: Intruder
) -> None:
    worker = some.start(SHOP, pool="prefork", concurrency=1)
    foreign = Signer(new_identity())
    intruder.push(foreign)
    intruder.push(foreign)
    await until(lambda: intruder.count(DEAD_LETTERS) == 2)
    assert worker.process.poll() is None
    intruder.push(foreign)
    assert await asyncio.to_thread(worker.wait) == 78
    assert worker.said.count("a message of another ledger; this worker stops: set database_url") == 1
    assert intruder.count("celery") == 1


@pytest.mark.matrix  # the rule is shown without a worker by tests/unit/test_celery_messages.py
async def test_with_a_common_key_only_a_signed_message_of_another_ledger_ends_a_worker(
    settings: dict[str, str], some: Workers, intruder: Intruder
) -> None:
    some.settings["message_key"] = KEY
    worker = some.start(SHOP, pool="prefork", concurrency=1)
    for _ in range(4):
        intruder.push(Signer(new_identity()))
    await until(lambda: intruder.count(DEAD_LETTERS) == 4)
    assert worker.process.poll() is None
    key = Settings(**settings, message_key=KEY).message_secret  # type: ignore[arg-type]
    intruder.push(Signer(new_identity(), key))
    assert await asyncio.to_thread(worker.wait) == 78
    assert intruder.count("celery") == 1


@pytest.mark.matrix
async def test_what_is_no_message_ends_no_worker_on_rabbitmq(
    settings: dict[str, str], some: Workers, shared_rabbitmq: RabbitMQServer
) -> None:
    with shared_rabbitmq.vhost() as url:
        some.settings["broker_url"] = settings["broker_url"] = url
        worker = some.start(SHOP, pool="async")
        garbage: list[dict[str, Any]] = [{"task": ["a"]}, {"task": "shop.pay"}, {"task": TASK}]
        with connected(url) as connection, connection.Producer() as producer:
            for headers in ({}, *garbage):  # Celery itself drops the first
                producer.publish("garbage", routing_key="celery", headers=headers, content_type="application/json")
            count = dead_letters(is_amqp=True)(connection.default_channel).queue_declare
            await until(lambda: count(passive=True)[1] == len(garbage))
        async with Millstream(settings=Settings(**settings)) as app:  # type: ignore[arg-type]
            assert await result(await app.submit(celery_shop.total)) == 10
        assert worker.process.poll() is None
