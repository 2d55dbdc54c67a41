"""What workers tell those who look after them, in their logs and by `inspect`, and which limits hold for what."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from millstream import Millstream
from millstream.settings import Settings
from tests.celery_workers import Worker, environment, workers
from tests.integration import celery_shop
from tests.integration.test_celery_publisher import until, waiting
from tests.lifeline import stop_between_writes
from tests.rabbitmq import RabbitMQServer
from tests.valkey import ValkeyServer

SHOP = "tests.integration.celery_shop"
BESIDE = "tests.integration.celery_shop_beside"
SECONDS = 120.0


class Stage:
    """A worker, and who hands in for it.

    Args:
        worker: The worker.
        settings: Its settings by name.
    """

    def __init__(self, worker: Worker, settings: dict[str, str]) -> None:
        self.worker = worker
        self.settings = settings
        self.celery = Celery("tests", broker=settings["broker_url"], set_as_current=False)

    def active(self) -> list[dict[str, Any]]:
        """Return what `inspect active` tells."""
        (active,) = (self.celery.control.inspect(timeout=5, limit=1).active() or {"": []}).values()
        return list(active)


@contextmanager
def stage(server: ValkeyServer, path: Path, module: str, **options: Any) -> Iterator[Stage]:
    with server.database() as url:
        settings = {
            "celery_enabled": "true",
            "broker_url": url,
            "database_url": f"sqlite:///{path}/ledger.db",
            "drain_grace": "1",
        }
        with workers(path / "log", settings) as some:
            one = Stage(some.start(module, **options), settings)
            yield one
            one.celery.close()


@pytest.fixture(scope="module")
def prefork(shared_valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """Celery's own program, with a time limit that is shorter than what jobs take."""
    options = ["-P", "prefork", "--time-limit=1"]
    path = tmp_path_factory.mktemp("prefork")
    with stage(shared_valkey, path, BESIDE, program="celery", concurrency=1, options=options) as one:
        yield one


@pytest.fixture(scope="module")
def coroutines(shared_valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """`millstream worker`, with the async pool."""
    path = tmp_path_factory.mktemp("coroutines")
    with stage(shared_valkey, path, BESIDE, options=["-l", "info", "-E"]) as one:
        yield one


@pytest.fixture
async def submitting() -> AsyncIterator[Callable[[Stage], Any]]:
    """Return what makes an app that hands in for a worker."""
    apps: list[Millstream] = []

    async def make(one: Stage) -> Millstream:
        apps.append(app := Millstream(settings=Settings(**one.settings)))  # type: ignore[arg-type]
        return app

    yield make
    for app in apps:
        await app.aclose()


async def result(job: Any) -> Any:
    return await asyncio.wait_for(job.result(), SECONDS)


@pytest.mark.parametrize("kind", ["coroutines", pytest.param("prefork", marks=pytest.mark.matrix)])
async def test_the_log_tells_how_jobs_end_and_nothing_of_messages(
    kind: str, request: pytest.FixtureRequest, submitting: Any
) -> None:
    one = request.getfixturevalue(kind)
    app = await submitting(one)
    good = await app.submit(celery_shop.total)
    bad = await app.submit(celery_shop.fails, "out of ink")
    assert await result(good) == 10
    with pytest.raises(ValueError, match="out of ink"):
        await result(bad)
    name = rf"{SHOP}.fails\[{bad.id}"
    one.worker.wait_for(rf"INFO/.*{SHOP}.total\[{good.id}\] succeeded in [0-9.e-]+ s\n")
    one.worker.wait_for(rf"INFO/.*{name}.fails\] retry in [0-9.]+ s: ValueError\('out of ink'\)\n")
    one.worker.wait_for(rf"(?s)ERROR/.*{name}\] raised unexpected: ValueError\('out of ink'\)\nTraceback.*in fails\n")
    assert f"{good.id}] received" not in one.worker.said
    assert "s: None" not in one.worker.said


async def test_inspect_tells_what_runs_in_the_async_pool(coroutines: Stage, submitting: Any) -> None:
    app = await submitting(coroutines)
    job = await app.submit(celery_shop.rest, 60.0)
    await until(coroutines.active)
    (active,) = coroutines.active()
    assert (active["id"], active["name"]) == (job.id, f"{SHOP}.rest")
    assert (active["worker_pid"], active["hostname"]) == (
        coroutines.worker.pid,
        f"celery-{coroutines.worker.pid}@{socket.gethostname()}",
    )
    await job.cancel()
    await until(lambda: not coroutines.active())
    coroutines.worker.wait_for(rf"{SHOP}.rest\[{job.id}\] cancelled in")


def test_users_celery_tasks_are_counted_logged_and_told_of_by_events(coroutines: Stage) -> None:
    assert "and 1 Celery tasks" in coroutines.worker.said
    succeeded: list[Any] = []
    with coroutines.celery.connection() as connection:
        receiver = coroutines.celery.events.Receiver(connection, handlers={"task-succeeded": succeeded.append})
        capture = receiver.itercapture(timeout=SECONDS, wakeup=False)
        next(capture)  # it listens
        sent = coroutines.celery.send_task(f"{BESIDE}.nap", [0.01])
        coroutines.worker.wait_for(rf"Task {BESIDE}.nap\[{sent.id}\] succeeded in [0-9.]+s: 0.01")
        while not succeeded:
            next(capture)
    assert succeeded[0]["uuid"] == sent.id


async def test_events_call_no_message_a_success_of_its_job(coroutines: Stage, submitting: Any) -> None:
    succeeded: list[Any] = []
    with coroutines.celery.connection() as connection:
        receiver = coroutines.celery.events.Receiver(connection, handlers={"task-succeeded": succeeded.append})
        capture = receiver.itercapture(timeout=SECONDS, wakeup=False)
        next(capture)  # it listens
        app = await submitting(coroutines)
        ledger = Path(coroutines.settings["database_url"].removeprefix("sqlite:///"))
        stop_between_writes(ledger, coroutines.worker.pid)  # else it may have the job before a message is sent at all
        try:
            job = await app.submit(celery_shop.fails, "out of ink")
            await until(lambda: waiting(coroutines.settings["broker_url"]) > 0)
        finally:
            os.kill(coroutines.worker.pid, signal.SIGCONT)
        while not succeeded:
            await asyncio.to_thread(next, capture)
    assert (succeeded[0]["uuid"], succeeded[0]["result"]) == (
        job.id,
        f"a worker was woken; see millstream jobs show {job.id}",
    )


async def test_time_limits_of_a_worker_are_for_users_celery_tasks_and_not_for_jobs(
    prefork: Stage, submitting: Any
) -> None:
    app = await submitting(prefork)
    (child,) = prefork.worker.children()
    prefork.worker.wait_for("WARNING/.*the worker's time limits are for Celery tasks")
    assert await result(await app.submit(celery_shop.rest, 2.0)) == child
    prefork.celery.send_task(f"{BESIDE}.nap", [60.0])
    prefork.worker.wait_for(rf"Hard time limit \(1.0s\) exceeded for {BESIDE}.nap")


async def test_a_worker_without_code_says_so_at_its_start_and_once_for_a_flow(
    shared_valkey: ValkeyServer, tmp_path: Path, submitting: Any
) -> None:
    options = ["-P", "prefork", "-n", "idle@%h"]
    with stage(shared_valkey, tmp_path, "errno", program="celery", concurrency=1, options=options) as one:
        one.worker.wait_for("WARNING/.*this worker knows no flow and no task")
        app = await submitting(one)
        for _ in range(3):
            await app.submit(celery_shop.total)
        one.worker.wait_for(rf"WARNING/.*a job waits for code that this worker does not know.*{SHOP}.total")
        await until(
            lambda: one.celery.control.inspect(timeout=5, limit=1).active() == {f"idle@{socket.gethostname()}": []}
        )
        assert one.worker.said.count("a job waits for code") == 1
        assert "received" not in one.worker.said


@pytest.mark.parametrize("module", ["millstream.worker", pytest.param(BESIDE, marks=pytest.mark.matrix)])
def test_celerys_own_program_says_in_one_line_that_there_is_no_broker(module: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "celery", "-A", module, "status"]
    said = subprocess.run(command, cwd=tmp_path, env=environment({}), capture_output=True, text=True, check=False)
    (line,) = said.stderr.splitlines()
    assert line.startswith("millstream: celery_enabled = true (argument): needs a broker; set broker_url or redis_url")
    assert said.returncode == 78


@pytest.mark.matrix
def test_two_workers_on_one_host_have_names_of_their_own(shared_rabbitmq: RabbitMQServer, tmp_path: Path) -> None:
    with shared_rabbitmq.vhost() as url:
        ledger = f"sqlite:///{tmp_path}/ledger.db"
        with workers(tmp_path / "log", {"celery_enabled": "true", "broker_url": url, "database_url": ledger}) as some:
            names = {f"celery-{some.start(SHOP).pid}@{socket.gethostname()}" for _ in range(2)}
            with Celery("tests", broker=url, set_as_current=False) as celery:
                assert set(celery.control.inspect(timeout=SECONDS, limit=2).ping()) == names


@pytest.mark.matrix
async def test_a_pool_process_that_has_grown_too_big_is_replaced_and_its_jobs_are_done(
    shared_valkey: ValkeyServer, tmp_path: Path, submitting: Any
) -> None:
    options = ["--max-memory-per-child", "200000"]
    with stage(
        shared_valkey, tmp_path, SHOP, program="celery", pool=None, concurrency=1, options=["-P", "prefork", *options]
    ) as one:
        app = await submitting(one)
        (child,) = one.worker.children()
        assert await result(await app.submit(celery_shop.grows, 1)) == child
        assert await result(await app.submit(celery_shop.grows, 250)) == child
        await until(lambda: one.worker.children() and one.worker.children() != [child])
        assert await result(await app.submit(celery_shop.total)) == 10
