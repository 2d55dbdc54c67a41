"""The process in which one system is measured: takes requests as lines of JSON, and answers each with one line.

`python -m benchmarks.worker SYSTEM`; needs nothing but the standard library and the system itself.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import sys
import time
import traceback
from typing import Any

from benchmarks.shapes import BY_NAME
from benchmarks.system import NotComparableError, Once, Staged, System

SYSTEMS = {
    "millstream": "benchmarks.ours:Ours",
    "millstream-sqlite": "benchmarks.ours:OnSqlite",
    "millstream-sqlite-pure": "benchmarks.ours:PureOnSqlite",
    "millstream-postgres": "benchmarks.ours:OnPostgres",
    "millstream-postgres-pure": "benchmarks.ours:PureOnPostgres",
    "sqlite-commits": "benchmarks.commits:SqliteCommits",
    "floor": "benchmarks.floor:Floor",
    "in-place": "benchmarks.floor:InPlace",
    "langgraph": "benchmarks.peers.langgraph:LangGraph",
    "langgraph-sqlite": "benchmarks.peers.langgraph_sqlite:LangGraphSqlite",
    "hamilton": "benchmarks.peers.hamilton:Hamilton",
    "dbos": "benchmarks.peers.dbos:Dbos",
    "celery": "benchmarks.peers.celery:Celery",
    "workers-sqlite": "benchmarks.on_workers:OnWorkers",
    "workers-prefork": "benchmarks.on_workers:OnPrefork",
    "workers-pair": "benchmarks.on_workers:OnPair",
    "workers-postgres": "benchmarks.on_workers:OnWorkersPostgres",
    "millstream-canvas": "benchmarks.called:Called",
    "millstream-canvas-sqlite": "benchmarks.called:CalledOnSqlite",
}


async def answer(system: Any, request: dict[str, Any]) -> dict[str, Any]:  # noqa: PLR0911  one for each request
    match request:
        case {"do": "title"}:
            return {"title": system.title}
        case {"do": "shape", "name": name, "times": times}:
            try:
                once = await system.open(BY_NAME[name])
            except NotComparableError as why:
                return {"unsupported": str(why)}
            try:
                return {"seconds": await timed(once, times), "note": system.notes.get(name)}
            finally:
                await system.close()
        case {"do": "own", "name": name, "times": times}:
            return {"seconds": await own(name, times)}
        case {"do": "submits", "count": count, "at_once": at_once}:
            return {"seconds": await submits(system, count, at_once)}
        case {"do": "begin", "broker": broker, "results": results}:
            system.kit = system.begin(broker, results)
            return {}
        case {"do": "scene", "name": name}:
            from benchmarks.scenes import SCENE_BY_NAME  # noqa: PLC0415  no other part needs them

            return {"figures": SCENE_BY_NAME[name].take(system.kit)}
    raise ValueError(f"no such request: {request}")


async def timed(once: Once, times: int) -> float:
    """Return the seconds that one run takes, as the mean of so many after one that does not count."""
    await once()
    gc.collect()
    started = time.perf_counter()
    for _ in range(times):
        await once()
    return (time.perf_counter() - started) / times


async def own(name: str, times: int) -> float:
    from benchmarks.own import OWN  # noqa: PLC0415  only millstream's process has millstream
    from millstream import Millstream  # noqa: PLC0415
    from millstream.settings import Settings  # noqa: PLC0415

    (figure,) = (figure for figure in OWN if figure.name == name)
    async with Millstream(settings=Settings(durability="off")) as app:
        return await timed(await figure.open(app), times)


async def submits(system: Any, count: int, at_once: int) -> list[float]:
    """Return how long each of so many submits of one node took, with so many submitters at once."""
    await system.open(BY_NAME["one"])
    try:
        return await system.submit_seconds(count, at_once)
    finally:
        await system.close()


def main() -> None:
    # Whatever a system prints must not get between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    module, _, name = SYSTEMS[sys.argv[1]].partition(":")
    system: System | Staged = getattr(importlib.import_module(module), name)()
    with asyncio.Runner() as runner:
        for line in sys.stdin:
            try:
                reply = runner.run(answer(system, json.loads(line)))
            except Exception:  # noqa: BLE001  whatever it is goes into the report
                reply = {"failed": traceback.format_exc()}
            print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
