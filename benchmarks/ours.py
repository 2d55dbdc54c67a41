"""millstream, in memory and durable: each shape is a flow that was drawn once."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import Any, ClassVar

from benchmarks.places import HOME, new_directory
from benchmarks.shapes import Shape
from benchmarks.system import Once
from millstream import Flow, Millstream, NodeState, task
from millstream.settings import Settings


@task
async def noop(*_: int) -> int:
    return 1


@task(effect="pure")
async def pure(*_: int) -> int:
    return 1


@task
def plain(*_: int) -> int:
    return 1


@task
async def wait(seconds: float) -> int:
    await asyncio.sleep(seconds)
    return 1


class Ours:
    """In memory."""

    title = "millstream"
    notes: ClassVar[dict[str, str]] = {}
    node: Any = noop

    async def open(self, shape: Shape) -> Once:
        self._stack = ExitStack()
        # An app of its own per round, so that the jobs that it remembers weigh on no other round.
        self.app = app = await Millstream(settings=self._stack.enter_context(self.settings())).__aenter__()
        self.drawn = drawn = draw(shape, self.node)
        job = await app.submit(drawn)
        expected = await job.result()
        assert expected == (1 if len(shape.leaves) == 1 else dict.fromkeys(expected, 1))
        assert [node.state for node in await job.nodes()] == [NodeState.SUCCEEDED] * len(shape.before)

        async def once() -> None:
            if shape.jobs == 1:
                assert await (await app.submit(drawn)).result() == expected
            else:
                results = await asyncio.gather(*(result(app, drawn) for _ in range(shape.jobs)))
                assert results == [expected] * shape.jobs

        return once

    async def close(self) -> None:
        await self.app.aclose()
        self._stack.close()

    async def submit_seconds(self, count: int, at_once: int) -> list[float]:
        """Return how long each of so many submits takes, with so many submitters that wait for their job's result."""
        taken: list[float] = []

        async def submitter() -> None:
            while len(taken) < count:
                began = time.perf_counter()
                job = await self.app.submit(self.drawn)
                taken.append(time.perf_counter() - began)
                await job.result()

        await asyncio.gather(*(submitter() for _ in range(at_once)))
        return taken

    @contextmanager
    def settings(self) -> Iterator[Settings]:
        """Give the settings of an app, and remove afterwards what it wrote."""
        yield Settings(durability="off")


class OnSqlite(Ours):
    """On SQLite; a successor starts after its predecessors' results are on disk."""

    title = "millstream, SQLite"

    @contextmanager
    def settings(self) -> Iterator[Settings]:
        directory = new_directory()
        try:
            yield Settings(durability="full", database_url=f"sqlite:///{directory / 'ledger.db'}")
        finally:
            shutil.rmtree(directory)


class PureOnSqlite(OnSqlite):
    """On SQLite, with tasks that may be computed again: successors do not wait."""

    title = "millstream, SQLite, pure"
    node = pure


class OnPostgres(Ours):
    """On a PostgreSQL server of its own, which syncs its files."""

    title = "millstream, PostgreSQL"

    @contextmanager
    def settings(self) -> Iterator[Settings]:
        with postgres().database() as url:
            yield Settings(durability="full", database_url=url)


class PureOnPostgres(OnPostgres):
    """On PostgreSQL, with tasks that may be computed again."""

    title = "millstream, PostgreSQL, pure"
    node = pure


@cache
def postgres() -> Any:
    """Return the server of this process, started on first use; it ends with the process."""
    from tests.services import PostgresServer  # noqa: PLC0415  only who measures on PostgreSQL needs psycopg

    HOME.mkdir(parents=True, exist_ok=True)
    server = PostgresServer({"fsync": "on", "full_page_writes": "on", "shared_buffers": "256MB"}, HOME)
    server.start()
    atexit.register(server.close)
    return server


async def result(app: Millstream, drawn: Flow) -> object:
    return await (await app.submit(drawn)).result()


def draw(shape: Shape, node: Any = noop) -> Flow:
    with Flow(shape.name) as drawn:
        place(shape, node)
    return drawn


def place(shape: Shape, node: Any = noop) -> list[Any]:
    nodes: list[Any] = []
    work = plain if shape.is_plain else node
    for sources in shape.before:
        nodes.append(wait(shape.wait_seconds) if shape.wait_seconds else work(*[nodes[source] for source in sources]))
    return nodes
