"""Does a ledger stay quick when it is full? The same acts with ten thousand ended jobs and with a million."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import report
from benchmarks.places import new_directory

FEW, MANY = 10_000, 1_000_000
RETIRED = 1000
KEPT_DAYS = 30
TIMES = 200
_TIMES_OF = {"millstream_job": ("created_at", "started_at", "ended_at"), "millstream_event": ("at",)}
_KEY_OF = {"millstream_job": "id", "millstream_segment": "job", "millstream_claim": "job", "millstream_event": "job"}

Act = Callable[[], Awaitable[object]]


def measure() -> dict[str, Any]:
    few, many = (asyncio.run(acts(count)) for count in (FEW, MANY))
    print(f"\n{'A ledger with ended jobs':<{report.WIDTH + 2}}{f'{FEW:,}':>14}{f'{MANY:,}':>14}{'ratio':>9}")
    for name, seconds in few.items():
        ratio = many[name] / seconds
        print(f"  {name:<{report.WIDTH}}{report.ms(seconds):>14}{report.ms(many[name]):>14}{ratio:>9.2f}")
    return {"few": few, "many": many}


async def acts(count: int) -> dict[str, float]:
    directory = new_directory()
    try:
        path = directory / "ledger.db"
        job_id = await _run_one(path)
        fill(path, job_id, count)
        return await _acts(path)
    finally:
        shutil.rmtree(directory)


async def _run_one(path: Path) -> str:
    """Run a job of one node, and return its id: the pattern of all others."""
    from benchmarks.ours import draw  # noqa: PLC0415  the reports do without millstream
    from benchmarks.shapes import ONE  # noqa: PLC0415
    from millstream import Millstream  # noqa: PLC0415
    from millstream.settings import Settings  # noqa: PLC0415

    async with Millstream(settings=Settings(database_url=f"sqlite:///{path}")) as app:
        job = await app.submit(draw(ONE))
        await job.result()
        return job.id


def fill(path: Path, pattern: str, count: int) -> None:
    """Copy a job so many times, over half the time that ended jobs are kept; the first ones are older than that."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("PRAGMA cache_size = -400000")
    age = f"({count} - n) * {KEPT_DAYS * 43_200 / count} + (n <= {RETIRED}) * {KEPT_DAYS * 86_400}"
    begun = f"({time.time() - 3600} - ({age}))"
    milliseconds = f"CAST({begun} * 1000 AS INTEGER)"
    job_id = f"printf('%08x-%04x-7000-8000-%012x', {milliseconds} >> 16, {milliseconds} & 65535, n)"
    for table, key in _KEY_OF.items():
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        replaced = {key: job_id} | dict.fromkeys(_TIMES_OF.get(table, ()), begun)
        database.execute(
            f"WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {count}) "  # noqa: S608  of our own
            f"INSERT INTO {table} ({', '.join(columns)}) "
            f"SELECT {', '.join(replaced.get(column, column) for column in columns)} "
            f"FROM number CROSS JOIN (SELECT * FROM {table} WHERE {key} = ?)",
            [pattern],
        )
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


async def _acts(path: Path) -> dict[str, float]:
    from millstream.clock import SystemClock, new_id  # noqa: PLC0415  as above
    from millstream.ledger.base import JobGraph  # noqa: PLC0415
    from millstream.ledger.filter import Filter  # noqa: PLC0415
    from millstream.ledger.sql import SqlLedger  # noqa: PLC0415
    from millstream.model.graph import Graph, Node, digest  # noqa: PLC0415
    from millstream.model.job import JobRecord, JobState  # noqa: PLC0415

    ledger = SqlLedger(f"sqlite:///{path}", SystemClock(), retention=timedelta(days=KEPT_DAYS))
    graph = Graph(nodes=(Node(id="a", task="a"),))

    async def submit() -> None:
        job = JobRecord(
            id=new_id(), flow="a", version="", graph=digest(graph), state=JobState.QUEUED, created_at=time.time()
        )
        await ledger.submit(job, JobGraph(graph), [(True, "planned", time.time(), None, {"nodes": 1})], None)

    async def claim() -> None:
        assert len(await ledger.claim("bench", 1)) == 1

    async def find(**which: Any) -> None:
        await ledger.find(Filter(limit=50, **which))

    async def retire() -> None:
        forgotten = 0
        while forgotten < RETIRED:
            forgotten += len(await ledger.trim())

    await ledger.join("bench", lambda: None)
    try:
        return {
            "list the newest 50": await _median(find),
            "list 50 of a flow": await _median(lambda: find(flow="one")),
            "list failed ones (there is none)": await _median(lambda: find(states=(JobState.FAILED,))),
            "submit": await _median(submit),
            "claim": await _median(claim),
            f"retire {RETIRED:,}": await _median(retire, times=1),
        }
    finally:
        await ledger.leave("bench")
        await ledger.close()


async def _median(act: Act, times: int = TIMES) -> float:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        await act()
        taken.append(time.perf_counter() - began)
    return median(taken)
