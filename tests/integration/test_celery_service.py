"""`CeleryBackend`: what workers can run is a job, users' own Celery tasks are sent, and no server holds the loop up."""

import asyncio
import functools
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from millstream import Settings
from millstream.errors import (
    DefinitionError,
    InvalidInputError,
    JobNotFoundError,
    NotSerializableError,
    WorkflowServiceUnavailableError,
)
from millstream.service import CeleryBackend, TaskService
from tests.celery_workers import environment
from tests.lifeline import die_with_parent
from tests.valkey import ValkeyServer

PROMISED_SECONDS = 2.0
AT_ONCE = 0.7
"""For how long the event loop may be held up at most: one answer of a server is waited for longer."""


@pytest.fixture
async def service(tmp_path: Path, valkey_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TaskService]:
    monkeypatch.setattr("celery._state._tls.current_app", None)  # whatever app another test's module has made
    settings = Settings(celery_enabled=True, redis_url=valkey_url, database_url=f"sqlite:///{tmp_path}/ledger.db")
    async with TaskService(settings) as service:
        yield service


def of_a_module(x: int) -> int:
    return x


class Bound:
    def method(self) -> None: ...


def closure() -> object:
    def inner() -> None: ...

    return inner


@pytest.mark.parametrize(
    "fn",
    [lambda: None, closure(), Bound().method, functools.partial(of_a_module, 1), Bound],
    ids=["lambda", "closure", "method", "partial", "class"],
)
async def test_what_no_worker_could_find_is_refused_with_what_to_do(service: TaskService, fn: object) -> None:
    with pytest.raises(DefinitionError, match=r"cannot be sent to a worker.*at the top level of a module"):
        await service.launch_task(fn)


async def test_a_function_of_a_module_is_a_job_that_waits_for_a_worker(service: TaskService) -> None:
    task_id, task = await service.launch_task(of_a_module, 5)
    assert (await task.refresh()).status == "PENDING"
    assert await service.revoke_task(task_id) is True
    assert task.status == "REVOKED"
    assert isinstance(service.get_backend(), CeleryBackend)
    with pytest.raises(NotSerializableError, match="give an id, a path or plain data"):
        await service.launch_task(of_a_module, threading.Lock())
    with pytest.raises(InvalidInputError):
        await service.launch_task(of_a_module, nothing="of the kind")


async def test_a_task_that_nobody_knows_is_not_found_and_not_revoked(service: TaskService) -> None:
    with pytest.raises(JobNotFoundError, match="no such task"):
        await service.get_task("no such task")
    assert await service.revoke_task("no such task") is False


TASKS = """
import os, time
from celery import Celery

app = Celery("peer", broker=os.environ["PEER"], backend=os.environ["PEER"])

@app.task(name="peer.cube")
def cube(x):
    return x ** 3

@app.task(name="peer.fail")
def fail():
    raise LookupError("nothing there")

@app.task(name="peer.stuck")
def stuck():
    time.sleep(60)
"""


def peer(url: str, backend: str | None = None) -> Any:
    app = Celery("peer", broker=url, backend=backend or url, set_as_current=False)
    return app.task(name="peer.cube", shared=False)(named)


def named(x: int) -> int:
    return x


@pytest.fixture
def worker(tmp_path: Path, valkey_url: str) -> Iterator[str]:
    """A Celery worker of somebody else's tasks."""
    (tmp_path / "peer.py").write_text(TASKS, encoding="utf-8")
    with (tmp_path / "peer.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "peer", "worker", "--concurrency=1", "--without-mingle"],
            cwd=tmp_path,
            env=environment({}) | {"PEER": valkey_url},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509  the tests' threads hold no lock that it takes
        )
    yield valkey_url
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


async def test_a_celery_task_is_sent_awaited_and_revoked(service: TaskService, worker: str) -> None:
    cube = peer(worker)
    task_id, task = await service.launch_task(cube, 4)
    assert await task == 64
    assert (task.status, task.result, service.get_task(task_id)) == ("SUCCESS", 64, task)
    _, failed = await service.launch_task(cube.app.task(name="peer.fail", shared=False)(unnamed))
    with pytest.raises(LookupError, match="nothing there"):
        await failed
    assert (failed.status, "in fail" in failed.traceback) == ("FAILURE", True)
    stuck = cube.app.task(name="peer.stuck", shared=False)(unnamed)
    task_id, running = await service.launch_task(stuck)
    inspect = cube.app.control.inspect(timeout=0.2)
    async with asyncio.timeout(120):
        while not any((await asyncio.to_thread(inspect.active) or {}).values()):
            pass
    assert await service.revoke_task(task_id) is True
    assert running.status == "REVOKED"
    assert await service.revoke_task(task_id) is False


async def test_a_celery_task_whose_app_keeps_no_results_is_revoked_all_the_same(
    service: TaskService, worker: str
) -> None:
    stuck = peer(worker, "disabled://").app.task(name="peer.stuck", shared=False)(unnamed)
    task_id, _ = await service.launch_task(stuck)
    inspect = stuck.app.control.inspect(timeout=0.2)

    async def running() -> bool:
        return any((await asyncio.to_thread(inspect.active) or {}).values())

    async with asyncio.timeout(120):
        while not await running():
            pass
        assert await service.revoke_task(task_id) is False  # for nobody can tell
        while await running():
            pass
    with pytest.raises(DefinitionError, match="set result_backend"):
        await service.get_task(task_id)


def unnamed() -> None: ...


async def test_arguments_of_a_celery_task_are_checked_where_it_is_sent(service: TaskService, valkey_url: str) -> None:
    with pytest.raises(InvalidInputError, match="positional"):
        await service.launch_task(peer(valkey_url), 1, 2)
    with pytest.raises(NotSerializableError, match=r"peer\.cube cannot be written down"):
        await service.launch_task(peer(valkey_url), object())


async def test_a_task_without_a_result_backend_says_what_is_missing(service: TaskService, valkey_url: str) -> None:
    _, task = await service.launch_task(peer(valkey_url, "disabled://"), 1)
    with pytest.raises(DefinitionError, match="set result_backend"):
        await task.refresh()


@contextmanager
def silent() -> Iterator[int]:
    """A server that takes connections, and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


async def unavailable(act: Any) -> None:
    """Hold that something raises in the time that is promised, while the event loop goes on."""
    begun = time.monotonic()
    longest = 0.0
    ended = False

    async def beat() -> None:
        nonlocal longest
        while not ended:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    beating = asyncio.create_task(beat())
    with pytest.raises(WorkflowServiceUnavailableError, match="cannot be reached"):
        await act
    took = time.monotonic() - begun
    ended = True
    await beating
    assert took < 5 * PROMISED_SECONDS
    assert longest < AT_ONCE


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
async def test_a_broker_that_refuses_or_hangs_is_told_of_within_two_seconds(service: TaskService, scheme: str) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        await unavailable(
            service.launch_task(peer(f"{scheme}://127.0.0.1:{nobody.getsockname()[1]}//", "cache+memory://"), 1)
        )
    with silent() as port:
        await unavailable(service.launch_task(peer(f"{scheme}://127.0.0.1:{port}//", "cache+memory://"), 1))


async def test_a_result_backend_that_hangs_is_told_of_and_what_was_given_up_is_never_sent(
    service: TaskService, valkey_server: ValkeyServer, valkey_url: str
) -> None:
    cube = peer(valkey_url, valkey_server.url)
    _, task = await service.launch_task(cube, 1)
    valkey_server.pause()
    await unavailable(task.refresh())
    await unavailable(service.launch_task(peer(valkey_url, valkey_server.url), 2))
    valkey_server.resume()
    _, later = await service.launch_task(cube, 3)
    assert (await later.refresh()).status == "PENDING"
    with cube.app.connection_for_read() as connection:
        assert connection.default_channel.client.llen("celery") == 2
