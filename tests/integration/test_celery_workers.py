"""Workers as users start them: what they execute, what they refuse, and what is left of a job when they end."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from millstream import Millstream
from tests.celery_workers import Workers
from tests.integration import celery_shop
from tests.integration.test_celery_publisher import until
from tests.lifeline import descriptors

SHOP = "tests.integration.celery_shop"
SECONDS = 120.0


@pytest.fixture
def settings(valkey_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "celery_enabled": "true",
        "broker_url": valkey_url,
        "database_url": f"sqlite:///{tmp_path / 'ledger.db'}",
        "drain_grace": "1",
        "lease_seconds": "5",
    }


async def result(job: Any) -> Any:
    return await asyncio.wait_for(job.result(), SECONDS)


@pytest.mark.parametrize("pool", ["prefork", pytest.param("async", marks=pytest.mark.matrix)])
async def test_a_worker_executes_what_others_hand_in_and_hands_on_what_runs_when_it_ends(
    pool: str, some: Workers, program: Millstream
) -> None:
    early = await program.submit(celery_shop.total)
    worker = some.start(SHOP, pool=pool, concurrency=2)
    assert await result(early) == 10
    assert [await result(job) for job in [await program.submit(celery_shop.total) for _ in range(20)]] == [10] * 20

    long = await program.submit(celery_shop.rest, 4.0)
    await until(lambda: held(some.settings))
    worker.send(signal.SIGTERM)
    assert worker.wait() == 0
    other = some.start(SHOP, pool=pool, concurrency=1)
    pid = await result(long)
    assert pid == other.pid or pid in other.children()


@pytest.mark.parametrize("pool", ["async", pytest.param("prefork", marks=pytest.mark.matrix)])
async def test_one_ctrl_c_ends_a_worker_as_sigterm_does(pool: str, some: Workers, program: Millstream) -> None:
    worker = some.start(SHOP, pool=pool, concurrency=1)
    await program.submit(celery_shop.rest, 60.0)
    await until(lambda: held(some.settings))
    worker.send(signal.SIGINT)
    assert await asyncio.to_thread(worker.wait) == 0
    assert worker.said.count("stopping: ") == 1


@pytest.mark.parametrize(
    ("pool", "how", "code"),
    [
        ("async", signal.SIGINT, 130),
        pytest.param("async", signal.SIGTERM, 143, marks=pytest.mark.matrix),
        pytest.param("prefork", signal.SIGINT, 130, marks=pytest.mark.matrix),
    ],
)
async def test_a_second_signal_kills_a_worker(
    pool: str, how: signal.Signals, code: int, some: Workers, program: Millstream
) -> None:
    some.settings["drain_grace"] = "300"
    worker = some.start(SHOP, pool=pool, concurrency=1)
    await program.submit(celery_shop.block, 30.0)
    await until(lambda: held(some.settings))
    worker.send(how)
    await asyncio.to_thread(worker.wait_for, "stopping: ")
    worker.send(how)
    assert await asyncio.to_thread(worker.wait) == code
    assert worker.said.count("stopping: ") == 1


def held(settings: dict[str, str]) -> bool:
    """Return whether a node runs: its job is held by somebody."""
    with sqlite3.connect(settings["database_url"].removeprefix("sqlite:///")) as ledger:
        return bool(ledger.execute("select 1 from millstream_segment where state = 'running'").fetchall())


async def test_the_parent_of_a_prefork_pool_opens_nothing_of_ours(some: Workers) -> None:
    worker = some.start(SHOP, pool="prefork", concurrency=1)
    assert len(threads(worker.pid)) == 1
    ledger = Path(some.settings["database_url"].removeprefix("sqlite:///"))
    assert not [path for path in opened(worker.pid) if path.startswith(str(ledger))]
    (child,) = worker.children()
    await until(lambda: str(ledger) in opened(child))


def threads(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def opened(pid: int) -> list[str]:
    return [link for _, link in descriptors(pid)]


@pytest.mark.parametrize("whom", ["child", pytest.param("all", marks=pytest.mark.matrix)])
async def test_a_job_whose_worker_is_killed_goes_on(whom: str, some: Workers, program: Millstream) -> None:
    worker = some.start(SHOP, pool="prefork", concurrency=1)
    job = await program.submit(celery_shop.rest, 1.5)
    await until(lambda: held(some.settings))
    if whom == "child":
        (child,) = worker.children()
        os.kill(child, signal.SIGKILL)
    else:
        worker.kill()
        some.start(SHOP, pool="prefork", concurrency=1)
    assert await result(job) > 0


async def test_a_pool_process_that_cannot_start_says_why_and_starts_when_it_can(
    some: Workers, program: Millstream
) -> None:
    worker = some.start(SHOP, pool="prefork", concurrency=1)
    assert await result(await program.submit(celery_shop.total)) == 10
    revision = mark(some.settings, "9999")
    (child,) = worker.children()
    os.kill(child, signal.SIGKILL)
    await asyncio.to_thread(worker.wait_for, "cannot start yet.*newer version of millstream")
    job = await program.submit(celery_shop.total)
    mark(some.settings, revision)
    assert await result(job) == 10


def mark(settings: dict[str, str], revision: str) -> str:
    """Have the ledger's tables be of a revision; return of which they were."""
    with sqlite3.connect(settings["database_url"].removeprefix("sqlite:///")) as ledger:
        ((was,),) = ledger.execute("select version_num from millstream_revision").fetchall()
        ledger.execute("update millstream_revision set version_num = ?", (revision,))
        return str(was)


@pytest.mark.matrix
async def test_pool_processes_hand_on_when_their_parent_is_gone(some: Workers, program: Millstream) -> None:
    worker = some.start(SHOP, pool="prefork", concurrency=1)
    job = await program.submit(celery_shop.rest, 5.0)
    await until(lambda: held(some.settings))
    (child,) = worker.children()
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    await until(lambda: not Path(f"/proc/{child}").exists() or "Z" in Path(f"/proc/{child}/stat").read_text().split())
    some.start(SHOP, pool="prefork", concurrency=1)
    assert await result(job) != child


async def test_recycled_pool_processes_lose_nothing(some: Workers, program: Millstream) -> None:
    some.settings["worker_max_tasks_per_child"] = "1"
    some.start(SHOP, pool="prefork", concurrency=1)
    jobs = []
    for _ in range(6):
        jobs.append(await program.submit(celery_shop.total))
        await asyncio.sleep(0.2)
    assert [await result(job) for job in jobs] == [10] * 6


@pytest.mark.matrix
async def test_a_worker_serves_its_queues_only(some: Workers, program: Millstream) -> None:
    some.start(SHOP, pool="prefork", concurrency=1, queues=["heavy"])
    light = await program.submit(celery_shop.add.s(1, 2))
    heavy = await program.submit(celery_shop.add.s(3, 4).set(queue="heavy"))
    assert await result(heavy) == 7
    assert not (await program.record(light.id)).state.is_final


@pytest.mark.matrix
async def test_celerys_own_program_runs_users_tasks_beside_ours(
    some: Workers, program: Millstream, tmp_path: Path, valkey_url: str
) -> None:
    (tmp_path / "own_tasks.py").write_text(
        "from millstream.worker import celery_app\n"
        f"from {SHOP} import total\n"
        "@celery_app.task\n"
        "def double(x):\n"
        "    return 2 * x\n"
    )
    some.settings |= {"result_backend": valkey_url}
    worker = some.start(
        "own_tasks",
        program="celery",
        concurrency=1,
        options=["-P", "prefork"],
        changes=["import sys; sys.path.insert(0, '.')"],
    )
    worker.wait_for(r"INFO/.*this worker knows its code flows_and_tasks=[1-9]\d* celery_tasks=1\b")
    assert await result(await program.submit(celery_shop.total)) == 10
    from celery import Celery  # noqa: PLC0415  for this alone

    client = Celery(broker=valkey_url, backend=valkey_url)
    sent = client.send_task("own_tasks.double", [21])
    assert await asyncio.to_thread(sent.get, timeout=SECONDS) == 42


@pytest.mark.matrix
async def test_other_pools_are_refused_in_one_line(some: Workers) -> None:
    with pytest.raises(AssertionError, match="cannot execute jobs; start `millstream worker`"):
        some.start(SHOP, program="celery", options=["-P", "threads"])
