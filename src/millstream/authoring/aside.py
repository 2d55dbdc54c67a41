"""Runs the drawing of a flow in a thread that the program does not wait for at its end, or where all runs in one."""

from __future__ import annotations

import asyncio
import contextvars
import queue
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from threading import Thread
from typing import Any, NamedTuple, TypeVar

from anyio.lowlevel import RunVar

from millstream.portal import loop_set_aside

T = TypeVar("T")
_IDLE_SECONDS = 5.0
_AT_ONCE = 32

in_this_thread: ContextVar[bool] = ContextVar("millstream_in_this_thread", default=False)
"""Whether flows are drawn in the thread of the loop: where jobs run eagerly, all that is a user's runs there."""


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Return what a function returns that runs in a thread; when the caller is cancelled it is given up.

    The threads of `anyio.to_thread` are no daemons, so Python's exit would wait for a function that never returns.

    Args:
        work: What to call; it sees the caller's context variables.

    Raises:
        BaseException: Whatever it raises.
    """
    if in_this_thread.get():
        with loop_set_aside():
            return work()
    loop = asyncio.get_running_loop()
    idle = _idle.get(None)
    if idle is None:
        idle = []
        _idle.set(idle)
    answer: asyncio.Future[T] = loop.create_future()
    worker = idle.pop() if idle else _Worker(loop, idle)
    worker.orders.put(_Order(partial(contextvars.copy_context().run, work), answer))
    return await answer


def places() -> asyncio.Semaphore:
    """Return what bounds the drawings that go on at once on this loop; a thousand submits need no thousand threads."""
    bound = _places.get(None)
    if bound is None:
        bound = asyncio.Semaphore(_AT_ONCE)
        _places.set(bound)
    return bound


class _Order(NamedTuple):
    work: Callable[[], Any]
    answer: asyncio.Future[Any]


class _Worker:
    """A thread of one event loop; while it is idle it lies in the loop's list, and leaves it after a while."""

    def __init__(self, loop: asyncio.AbstractEventLoop, idle: list[_Worker]) -> None:
        self.orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._loop = loop
        self._idle = idle
        Thread(target=self._work, daemon=True, name="millstream-drawing").start()

    def _work(self) -> None:
        with suppress(RuntimeError):  # the loop is closed
            while True:
                try:
                    order = self.orders.get(timeout=_IDLE_SECONDS)
                except queue.Empty:
                    self._loop.call_soon_threadsafe(self._retire)
                    order = self.orders.get()
                if order is None:
                    return
                value, raised = None, None
                try:
                    value = order.work()
                except BaseException as error:  # noqa: BLE001  it is raised again where the answer is awaited
                    raised = error
                self._loop.call_soon_threadsafe(self._settle, order.answer, value, raised)
                del order, value, raised

    def _settle(self, answer: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        self._idle.append(self)
        if answer.done():
            return
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)

    def _retire(self) -> None:
        if self in self._idle:
            self._idle.remove(self)
            self.orders.put(None)


_idle: RunVar[list[_Worker] | None] = RunVar("millstream_idle_drawing_threads")
_places: RunVar[asyncio.Semaphore | None] = RunVar("millstream_drawing_places")
