"""The sync doors: event loops in which blocking callers run coroutines, in a thread of its own or in the caller's."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from millstream.errors import ClosedError

T = TypeVar("T")

_STOP_SECONDS = 5.0
_LOOK_SECONDS = 1.0


class Portal:
    """An event loop in a daemon thread; works wherever blocking code runs, notebooks included.

    AnyIO's `start_blocking_portal` does the same on a thread that the interpreter joins before it calls any exit hook;
    a script that forgot to close it would hang. This one ends by itself.
    """

    def __init__(self) -> None:
        """Start the thread, and return when its loop runs."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="millstream-portal")
        self._on_stop: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._thread.start()
        atexit.register(self.stop)

    @property
    def is_running(self) -> bool:
        """Whether coroutines can be run."""
        return self._thread.is_alive()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the portal's loop and return its result; an interrupt of the caller cancels it.

        Raises:
            ClosedError: The loop has ended.
        """
        future: Future[T] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            while not wait([future], timeout=_LOOK_SECONDS).done:
                self._check()
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _check(self) -> None:
        if not self._thread.is_alive():
            raise ClosedError("the event loop behind run() has ended")

    def on_stop(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a coroutine function in the loop before it ends."""
        self._on_stop.append(close)

    def stop(self) -> None:
        """End the loop and its thread; may be called twice."""
        atexit.unregister(self.stop)
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_SECONDS)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        for close in self._on_stop:
            self._loop.run_until_complete(close())
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


async def run_on(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine on a loop: this one, or another that runs in another thread."""
    if loop is asyncio.get_running_loop():
        return await coroutine
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))


def run_here(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end on a fresh loop in this thread, whether or not a loop runs here; blocks that one."""
    # Its own factory: else the runner would make its loop the thread's, and leave none at the end.
    with loop_set_aside(), asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(make())


@contextmanager
def loop_set_aside() -> Iterator[None]:
    """Let code within the block see a thread without an event loop, though one runs that called it.

    For code that must run in this very thread, yet asks whether a loop runs and would refuse: plain functions that
    run a loop of their own, Django's ORM. What it takes to leave a loop and its task for a while, and to come back,
    is in asyncio for those who write loops and tasks of their own (`_set_running_loop`, `_leave_task`, `_enter_task`).
    AnyIO finds its state by the current task and loop, so a loop that runs within the block has its own.
    """
    loop = running_loop()
    if loop is None:
        yield
        return
    task = asyncio.current_task(loop)
    if task is not None:
        asyncio.tasks._leave_task(loop, task)  # noqa: SLF001  see above
    asyncio._set_running_loop(None)  # noqa: SLF001  see above
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)  # noqa: SLF001  see above
        if task is not None:
            asyncio.tasks._enter_task(loop, task)  # noqa: SLF001  see above


async def end(task: asyncio.Task[None] | None) -> None:
    """Cancel a task, and return when it has ended; one of a loop that is closed has ended with it."""
    if task is not None and not task.get_loop().is_closed():
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
