"""DBOS on SQLite: a workflow that awaits a step for each node, and whatever is ready together in one `gather`."""

from __future__ import annotations

import asyncio
import logging
import shutil
from importlib.metadata import version
from typing import ClassVar

from dbos import DBOS

from benchmarks.places import new_directory
from benchmarks.shapes import BY_NAME, Shape
from benchmarks.system import Once

logging.getLogger("dbos").setLevel(logging.ERROR)


@DBOS.step()
async def noop(_taken: list[int]) -> int:
    return 1


@DBOS.workflow()
async def run(name: str) -> int:
    before = BY_NAME[name].before
    values: dict[int, int] = {}
    while len(values) < len(before):
        ready = [node for node in range(len(before)) if node not in values and values.keys() >= {*before[node]}]
        taken = ([values[source] for source in before[node]] for node in ready)
        values |= zip(ready, await asyncio.gather(*map(noop, taken)), strict=True)
    return sum(values.values())


class Dbos:
    title = f"DBOS {version('dbos')}, SQLite"
    notes: ClassVar[dict[str, str]] = {}

    async def open(self, shape: Shape) -> Once:
        self._directory = new_directory()
        DBOS(
            config={
                "name": "bench",
                "system_database_url": f"sqlite:///{self._directory / 'dbos.sqlite'}",
                "run_admin_server": False,
                "log_level": "ERROR",
            }
        )
        DBOS.launch()

        async def once() -> None:
            handles = await asyncio.gather(*(DBOS.start_workflow_async(run, shape.name) for _ in range(shape.jobs)))
            results = await asyncio.gather(*(handle.get_result() for handle in handles))
            assert results == [len(shape.before)] * shape.jobs

        return once

    async def close(self) -> None:
        DBOS.destroy()
        shutil.rmtree(self._directory)
