"""The async pool, as its worker comes and goes: shutdowns, replacement, and the loss of the broker."""

from __future__ import annotations

import re
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

import pytest
from celery import Celery

from tests.celery_workers import workers
from tests.integration.pool_worker import SECONDS, Side, let_go, pool_worker, wait_for
from tests.lifeline import is_gone
from tests.rabbitmq import RabbitMQServer
from tests.valkey import ValkeyServer

Start = Callable[..., AbstractContextManager[Side]]


@pytest.fixture
def start(shared_valkey: ValkeyServer, tmp_path: Path) -> Iterator[Start]:
    """Start a worker on databases of the test's own."""
    with ExitStack() as stack:
        broker, store = (stack.enter_context(shared_valkey.database()) for _ in range(2))
        yield partial(pool_worker, tmp_path / "worker.log", broker, store)


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def test_a_warm_shutdown_waits_for_what_runs_and_gives_the_rest_back(start: Start, name: str) -> None:
    with start("-c", "2") as side:
        running = [side.send("until", name) for _ in range(2)]
        side.noted(f"{name}:began", 2)
        waiting = side.send("double", 4)
        late = side.send("double", 5, countdown=1)
        side.worker.send(signal.SIGTERM)
        side.worker.wait_for("Warm shutdown")
        side.go(name, 2)
        assert side.worker.wait() == 0
        assert [result.get(timeout=SECONDS) for result in running] == ["went", "went"]
        assert (waiting.state, late.state) == ("PENDING", "PENDING")
        with start():
            assert (waiting.get(timeout=SECONDS), late.get(timeout=SECONDS)) == (8, 10)


def test_a_late_acknowledgement_of_what_ends_during_the_shutdown_is_sent(start: Start, name: str) -> None:
    with start() as side:
        result = side.send("lately", name)
        side.noted(name)
        side.worker.send(signal.SIGTERM)
        assert side.worker.wait() == 0
        assert result.get(timeout=SECONDS) is None
        with start():
            assert side.run("double", 1) == 2
        assert side.noted(name) == ["began"]


def test_a_cold_shutdown_cancels_what_runs(start: Start, name: str) -> None:
    with start() as side:
        running = side.send("waits", name)
        in_process = side.send("killable", f"{name}:pid")
        (pid,) = side.noted(f"{name}:pid")
        side.noted(name)
        side.worker.send(signal.SIGQUIT)
        side.worker.wait()
        assert side.noted(name, 2)[1].startswith("cancelled")
        wait_for(lambda: is_gone(int(pid)))
        assert (
            running.state == in_process.state == "RETRY"
        )  # so does Celery's own pool leave what it acknowledged early


@pytest.mark.matrix  # each of the two is tested without it
def test_a_cold_shutdown_ends_a_warm_one(start: Start, name: str) -> None:
    with start() as side:
        side.send("waits", name)
        side.noted(name)
        side.worker.send(signal.SIGTERM)
        side.worker.wait_for("Warm shutdown")
        side.worker.send(signal.SIGQUIT)
        side.worker.wait()
        assert side.noted(name, 2)[1].startswith("cancelled")


def test_a_process_that_has_run_enough_tasks_is_replaced_and_nothing_is_lost(start: Start, name: str) -> None:
    with start("-c", "10", "--max-tasks-per-child", "20") as side:
        results = [side.send("counted", name) for _ in range(50)]
        assert {result.get(timeout=SECONDS) for result in results} == {side.worker.pid}  # it executes itself again
        assert side.notes.llen(name) == 50
        wait_for(lambda: side.worker.said.count("worker_max_tasks_per_child") == 2)
        wait_for(lambda: len(re.findall(r"\bready\b", side.worker.said)) == 3)


def test_a_process_that_has_grown_too_big_is_replaced(start: Start) -> None:
    with start("--max-memory-per-child", "200000") as side:
        assert side.run("grows", 1) == side.worker.pid
        assert "worker_max_memory_per_child" not in side.worker.said
        assert side.run("grows", 200) == side.worker.pid
        side.worker.wait_for("worker_max_memory_per_child")
        assert side.run("double", 1) == 2
        wait_for(lambda: len(re.findall(r"\bready\b", side.worker.said)) == 2)


def test_a_worker_that_is_told_to_stop_while_it_waits_to_be_replaced_stops(start: Start, name: str) -> None:
    with start("--max-tasks-per-child", "1") as side:
        result = side.send("until", name)
        side.worker.wait_for("worker_max_tasks_per_child")
        side.worker.send(signal.SIGTERM)
        side.worker.wait_for("Warm shutdown")
        side.go(name)
        assert side.worker.wait() == 0
        assert result.get(timeout=SECONDS) == "went"


def test_running_tasks_outlive_the_broker(
    valkey_server: ValkeyServer, shared_valkey: ValkeyServer, tmp_path: Path, name: str
) -> None:
    with (
        shared_valkey.database() as store,
        pool_worker(tmp_path / "worker.log", valkey_server.url, store) as side,
    ):
        running = side.send("until", name)
        (terminated, slow) = (side.send("waits", f"{name}:1"), side.send("nap", 0.5))
        side.noted(f"{name}:began")
        side.noted(f"{name}:1")
        valkey_server.kill()
        side.worker.wait_for("Connection to broker lost|Cannot connect")
        assert slow.get(timeout=SECONDS) == "millstream-loop"
        side.go(name)
        assert running.get(timeout=SECONDS) == "went"
        valkey_server.start()
        assert side.run("double", 3) == 6
        terminated.revoke(terminate=True)
        wait_for(lambda: terminated.state == "REVOKED")
        wait_for(side.idle)


def test_the_loop_does_not_wait_for_the_result_backend(
    shared_valkey: ValkeyServer, valkey_server: ValkeyServer, tmp_path: Path
) -> None:
    ticks = tmp_path / "ticks"
    with (
        shared_valkey.database() as broker,
        pool_worker(tmp_path / "worker.log", broker, valkey_server.url) as side,
    ):
        side.send("ticks_until", str(ticks), str(tmp_path / "stop"))
        wait_for(ticks.exists)
        valkey_server.pause()
        for number in range(10):
            side.send("ends", str(tmp_path / f"ended-{number}"))  # what it returns cannot be stored now
        wait_for(lambda: len(list(tmp_path.glob("ended-*"))) >= 4)
        seen = ticks.stat().st_size
        wait_for(lambda: ticks.stat().st_size >= seen + 50)
        valkey_server.resume()
        wait_for(lambda: len(list(tmp_path.glob("ended-*"))) == 10)
        (tmp_path / "stop").touch()
        wait_for(side.idle)


def test_a_worker_of_millstream_serves_a_module_of_nothing_but_celery_tasks(
    tmp_path: Path, shared_valkey: ValkeyServer
) -> None:
    with shared_valkey.database() as broker, shared_valkey.database() as results:
        settings = {
            "celery_enabled": "true",
            "broker_url": broker,
            "result_backend": results,
            "database_url": f"sqlite:///{tmp_path}/ledger.db",
        }
        with workers(tmp_path / "workers.log", settings) as started:
            module = "tests.integration.only_celery_tasks"
            pid = started.start(module).pid
            with Celery("tests", broker=broker, backend=results, set_as_current=False) as side:
                on_loop, in_process = (side.send_task(f"{module}.{task}") for task in ("light", "heavy"))
                assert on_loop.get(timeout=SECONDS) == pid
                assert in_process.get(timeout=SECONDS) != pid
                let_go(side)


def test_it_runs_on_rabbitmq(
    shared_rabbitmq: RabbitMQServer, shared_valkey: ValkeyServer, tmp_path: Path, name: str
) -> None:
    with (
        shared_rabbitmq.vhost() as broker,
        shared_valkey.database() as store,
        pool_worker(tmp_path / "worker.log", broker, store, "-c", "50") as side,
    ):
        results = [side.send("double", number) for number in range(200)]
        assert [result.get(timeout=SECONDS) for result in results] == [2 * number for number in range(200)]
        assert side.run("retries_itself", 2)[0] == 2
        assert side.run("where_process")[1] != side.worker.pid
        terminated = side.send("waits", name)
        side.noted(name)
        terminated.revoke(terminate=True)
        wait_for(lambda: terminated.state == "REVOKED")
        late = side.send("lately", f"{name}:late")
        side.noted(f"{name}:late")
        side.worker.send(signal.SIGTERM)
        assert side.worker.wait() == 0
        assert late.state == "SUCCESS"
