"""A worker whose connection to RabbitMQ nobody answers on any more, though nobody closed it: a firewall forgot it."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest

from millstream import Millstream
from millstream.settings import Settings
from tests.celery_workers import workers
from tests.integration import celery_shop
from tests.integration.test_celery_publisher import until
from tests.rabbitmq import RabbitMQServer

SHOP = "tests.integration.celery_shop"
NOTICED_SECONDS = 30.0  # about 10 on an idle machine


class Relay:
    """Passes connections on, and forgets those that there are, without a word: new ones work."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self._server = port
        self._age = 0
        self._links: list[asyncio.Task[None] | None] = []
        self._listens, self._ends = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def forget(self) -> None:
        self._age += 1

    def __enter__(self) -> Self:
        self._thread.start()  # not on the test's loop, which waits for workers to start
        self._listens.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ends.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        listener = await asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        self._listens.set()
        await self._ends.wait()
        listener.close()

    async def _pass_on(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        self._links.append(asyncio.current_task())  # nobody else holds on to it
        server, to_server = await asyncio.open_connection("127.0.0.1", self._server)
        age = self._age

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                if age == self._age:
                    writer.write(data)
                    await writer.drain()
            if age == self._age:
                writer.close()

        with suppress(asyncio.CancelledError):  # at the end, which asyncio's server would log
            await asyncio.gather(pass_on(client, to_server), pass_on(server, to_client), return_exceptions=True)
        to_server.close()
        to_client.close()


@pytest.mark.matrix  # RabbitMQ takes its time to start
@pytest.mark.parametrize("pool", ["prefork", "async"])
async def test_a_worker_notices_that_nobody_answers_and_an_idle_one_is_left_alone(
    pool: str, tmp_path: Path, rabbitmq_server: RabbitMQServer
) -> None:
    settings = {"celery_enabled": "true", "database_url": f"sqlite:///{tmp_path}/ledger.db"}
    with Relay(rabbitmq_server.port) as relay:
        broker = rabbitmq_server.url.replace(f":{rabbitmq_server.port}", f":{relay.port}")
        with workers(tmp_path / "log", {**settings, "broker_url": broker}) as some:
            worker = some.start(SHOP, pool=pool, concurrency=1)
            await asyncio.sleep(12.0)  # longer than nobody may be heard of
            assert "Connection to broker lost" not in worker.said
            relay.forget()
            await until(lambda: "Connection to broker lost" in worker.said, NOTICED_SECONDS)
            client = Settings(broker_url=rabbitmq_server.url, **settings)  # type: ignore[arg-type]
            async with Millstream(settings=client) as program:
                assert await asyncio.wait_for((await program.submit(celery_shop.total)).result(), 60) == 10
