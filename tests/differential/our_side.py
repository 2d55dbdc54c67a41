"""millstream, playing the same cases in this process."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any, Self

import millstream
from millstream.authoring import current
from millstream.settings import Settings
from tests.differential.canvases import Case, build
from tests.differential.outcomes import Played, outcome_of
from tests.differential.tasks import define


class OurSide:
    """An app in memory, and the tasks of the comparison."""

    def __init__(self) -> None:
        self._notes: list[list[Any]] = []
        self._tasks = define(millstream.task, millstream.group, self._notes.append)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._app = millstream.Millstream(settings=Settings(durability="off"))
        for task in self._tasks.values():
            self._app.registry.add(task)  # as if a module had been imported: what went through JSON is found by name
        self._stack.enter_context(current.use(self._app))
        self._stack.callback(lambda: asyncio.run(self._app.aclose()))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play(self, case: Case) -> Played:
        """Return what millstream makes of a case, once its job has ended."""
        self._notes.clear()
        try:
            canvas = build(case["canvas"], millstream, self._tasks)
            result = canvas.apply_async(tuple(case.get("args", ())), case.get("kwargs", {}))
        except Exception as error:  # noqa: BLE001  whatever it is, it is what millstream does
            return {"outcome": {"raises": type(error).__name__}, "notes": []}
        if result is not None and result.id is not None:
            job_id = result.id.partition(".")[0]
            self._app.block_on(lambda: self._app.ended(job_id))
        return {"outcome": outcome_of(result), "notes": list(self._notes)}
