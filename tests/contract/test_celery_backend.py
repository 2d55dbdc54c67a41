"""Celery workers keep every backend's promises, over both brokers and with both pools."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import pytest

from millstream.testing import SegmentBackendContract
from millstream.testing.contract_backend.joins import JoinsContract
from millstream.testing.contract_backend.pausing import PausingContract
from millstream.testing.contract_backend.retries import RetriesContract
from tests.contract.workers import OverWorkers
from tests.rabbitmq import RabbitMQServer
from tests.valkey import ValkeyServer

QUEUES = ("celery", "mail", "heavy")
ASYNC: dict[str, Any] = {"pool": "async", "queues": QUEUES}


class OnPrefork(OverWorkers):
    executors = 5
    options: ClassVar[dict[str, Any]] = {"pool": "prefork", "concurrency": executors, "queues": QUEUES}


class OverRedis(OverWorkers):
    @pytest.fixture
    def broker(self, shared_valkey: ValkeyServer) -> Callable[[], AbstractContextManager[str]]:
        return shared_valkey.database


class OverRabbitMQ(OverWorkers):
    @pytest.fixture
    def broker(self, shared_rabbitmq: RabbitMQServer) -> Callable[[], AbstractContextManager[str]]:
        return shared_rabbitmq.vhost


class TestAsyncPoolOverRedisInShort(OverRedis, PausingContract, RetriesContract):
    options: ClassVar[dict[str, Any]] = ASYNC


class TestPreforkOverRedisInShort(OnPrefork, OverRedis, JoinsContract):
    pass


class TestAsyncPoolOverRabbitMQInShort(OverRabbitMQ, JoinsContract):
    options: ClassVar[dict[str, Any]] = ASYNC


@pytest.mark.matrix
class TestAsyncPoolOverRedis(OverRedis, SegmentBackendContract):
    options: ClassVar[dict[str, Any]] = ASYNC


@pytest.mark.matrix
class TestPreforkOverRedis(OnPrefork, OverRedis, SegmentBackendContract):
    pass


@pytest.mark.matrix
class TestAsyncPoolOverRabbitMQ(OverRabbitMQ, SegmentBackendContract):
    options: ClassVar[dict[str, Any]] = ASYNC


@pytest.mark.matrix
class TestPreforkOverRabbitMQ(OnPrefork, OverRabbitMQ, SegmentBackendContract):
    pass
