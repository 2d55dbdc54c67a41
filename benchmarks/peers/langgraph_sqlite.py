"""LangGraph with its SQLite saver: every step's checkpoint is written before the next step begins."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import ClassVar
from uuid import uuid4

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.peers.langgraph import compiled
from benchmarks.places import new_directory
from benchmarks.shapes import Shape
from benchmarks.system import Once


class LangGraphSqlite:
    title = f"LangGraph {version('langgraph')}, SQLite"
    notes: ClassVar[dict[str, str]] = {}

    async def open(self, shape: Shape) -> Once:
        self._stack = AsyncExitStack()
        directory = new_directory()
        self._stack.callback(shutil.rmtree, directory)
        saver = await self._stack.enter_async_context(AsyncSqliteSaver.from_conn_string(f"{directory / 'saver.db'}"))
        graph = compiled(shape, saver)
        nodes = len(shape.before)

        async def run() -> None:
            config = {"recursion_limit": nodes + 10, "configurable": {"thread_id": uuid4().hex}}
            assert await graph.ainvoke({"done": 0}, config, durability="sync") == {"done": nodes}

        async def once() -> None:
            await asyncio.gather(*(run() for _ in range(shape.jobs)))

        return once

    async def close(self) -> None:
        await self._stack.aclose()
