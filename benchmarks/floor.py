"""The floor: graphs run by a few lines over asyncio, without names, records, events, cancel, retries or checks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

from benchmarks.shapes import Shape
from benchmarks.system import NotComparableError, Once


async def noop(*_: int) -> int:
    return 1


def plain(*_: int) -> int:
    return 1


def waiter(seconds: float) -> Callable[..., Awaitable[int]]:
    async def wait(*_: int) -> int:
        await asyncio.sleep(seconds)
        return 1

    return wait


class Floor:
    """A ready set with one asyncio task per node; plain functions in a thread pool, one hand-over each."""

    title = "bare asyncio, a task per node"
    notes: ClassVar = {"plain": "a thread's hand-over per node"}

    async def open(self, shape: Shape) -> Once:
        self._threads = ThreadPoolExecutor(40)
        call: Callable[..., Awaitable[int]] = waiter(shape.wait_seconds) if shape.wait_seconds else noop
        if shape.is_plain:
            loop = asyncio.get_running_loop()
            call = lambda *args: loop.run_in_executor(self._threads, plain, *args)  # noqa: E731
        before, after = shape.before, shape.after

        async def once() -> None:
            if shape.jobs == 1:
                assert await _run(before, after, call) == len(before)
            else:
                done = await asyncio.gather(*(_run(before, after, call) for _ in range(shape.jobs)))
                assert sum(done) == shape.nodes

        return once

    async def close(self) -> None:
        self._threads.shutdown()


async def _run(before: Any, after: Any, call: Callable[..., Awaitable[int]]) -> int:
    values = [0] * len(before)
    left = [len(sources) for sources in before]
    todo = len(before)
    loop = asyncio.get_running_loop()
    finished = loop.create_future()
    tasks: set[asyncio.Task[None]] = set()

    def start(node: int) -> None:
        task = loop.create_task(run(node))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def run(node: int) -> None:
        nonlocal todo
        values[node] = await call(*[values[source] for source in before[node]])
        for successor in after[node]:
            left[successor] -= 1
            if not left[successor]:
                start(successor)
        todo -= 1
        if not todo:
            finished.set_result(None)

    for node, sources in enumerate(before):
        if not sources:
            start(node)
    await finished
    return sum(values)


class InPlace:
    """A ready set whose nodes are awaited, or called, one after the other where they are: nothing is concurrent."""

    title = "bare asyncio, in place"
    notes: ClassVar = {"plain": "calls them, without a thread"}

    async def open(self, shape: Shape) -> Once:
        if shape.wait_seconds:
            total = shape.wait_seconds * shape.nodes
            raise NotComparableError(f"one wait after the other would take {total:g} s")
        before, after = shape.before, shape.after

        async def once() -> None:
            for _ in range(shape.jobs):
                assert await _run_in_place(before, after, is_plain=shape.is_plain) == len(before)

        return once

    async def close(self) -> None:
        pass


async def _run_in_place(before: Any, after: Any, *, is_plain: bool) -> int:
    values = [0] * len(before)
    left = [len(sources) for sources in before]
    ready = deque(node for node, sources in enumerate(before) if not sources)
    while ready:
        node = ready.popleft()
        arguments = [values[source] for source in before[node]]
        values[node] = plain(*arguments) if is_plain else await noop(*arguments)
        for successor in after[node]:
            left[successor] -= 1
            if not left[successor]:
                ready.append(successor)
    return sum(values)
