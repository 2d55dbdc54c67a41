"""millstream's canvases, called as Celery's are: by `apply_async` and `get`, which block."""

from __future__ import annotations

from contextlib import ExitStack
from typing import ClassVar

import millstream
from benchmarks import canvases
from benchmarks.ours import OnSqlite, Ours
from benchmarks.shapes import Shape
from benchmarks.system import Once
from millstream.authoring import current

step = millstream.task(canvases.step)
total = millstream.task(canvases.total)


class Called:
    """In memory."""

    title = "millstream, in memory"
    notes: ClassVar[dict[str, str]] = {}
    where: Ours = Ours()

    async def open(self, shape: Shape) -> Once:
        self._stack = ExitStack()
        self._app = millstream.Millstream(settings=self._stack.enter_context(self.where.settings()))

        async def once() -> None:
            with current.use(self._app):
                canvases.run(shape, millstream, step, total)

        return once

    async def close(self) -> None:
        await self._app.aclose()
        self._stack.close()


class CalledOnSqlite(Called):
    """On SQLite; a successor starts after its predecessors' results are on disk."""

    title = "millstream, SQLite"
    where = OnSqlite()
