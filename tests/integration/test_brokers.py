"""The tests' own brokers: they can be killed, paused and filled up, and leave nothing behind."""

from __future__ import annotations

from typing import Any
from urllib.error import HTTPError

import kombu
import pytest
import redis

from tests.rabbitmq import RabbitMQServer
from tests.valkey import ValkeyServer


def test_a_test_has_a_valkey_database_of_its_own(shared_valkey: ValkeyServer, valkey_url: str) -> None:
    with shared_valkey.database() as other, redis.Redis.from_url(valkey_url) as mine:
        mine.set("key", "value")
        with redis.Redis.from_url(other) as theirs:
            assert theirs.get("key") is None


def test_a_valkey_that_was_killed_is_empty_and_a_full_one_refuses() -> None:
    with ValkeyServer() as server, server.client() as client:
        client.set("key", "value")
        server.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.start()
        assert client.get("key") is None
        server.fill()
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            client.set("key", "value")
        server.empty()
        client.set("key", "value")
        server.pause()
    assert server._home is None


def test_a_rabbitmq_keeps_durable_messages_when_it_is_killed_and_blocks_while_it_is_full() -> None:
    with RabbitMQServer() as server:
        with server.vhost() as url:
            with connect(url) as connection:
                connection.SimpleQueue("things").put("one")
            server.kill()
            with pytest.raises(ConnectionRefusedError):
                connect(url)
            server.start()
            with connect(url) as again:
                assert again.SimpleQueue("things").get(timeout=120).payload == "one"
            server.raise_alarm()
            with pytest.raises(HTTPError, match="503"):
                server.call("GET", "health/checks/alarms")
            server.end_alarm()
            assert server.call("GET", "health/checks/alarms") == {"status": "ok"}
        server.pause()
    assert server._home is None


def connect(url: str) -> Any:
    made: Any = kombu
    connection = made.Connection(url, transport_options={"confirm_publish": True})  # else a kill loses it
    connection.connect()
    return connection
