"""Threads that run Celery's tracer for coroutines.

The tracer is a plain function: it stores that a task has started, calls it, stores its result and publishes what
follows. It may wait for servers, so it must not run on the loop; and it must not hold a thread while its task waits. So
it runs in a greenlet of a thread: at the task's own call the greenlet is left, the coroutine runs on the loop, and when
it has ended the greenlet goes on, in the same thread, with the outcome.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import threading
from asyncio import CancelledError
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any

from greenlet import getcurrent, greenlet

from millstream.backends.celery.pool.job import Dropped, Job, current
from millstream.backends.celery.pool.loop import Body, Outcome

_THREADS = 4


class Tracer:
    """One thread, and the greenlets that it has in it.

    Args:
        name: The thread's name.
        failed: Gets what an act raised.
    """

    def __init__(self, name: str, failed: Callable[[BaseException], None]) -> None:
        """Start the thread."""
        self._acts: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._failed = failed
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def do(self, act: Callable[[], object]) -> None:
        """Let the thread do something, after what it was given before."""
        self._acts.put(act)

    def trace(self, job: Job, trace: Callable[[], None]) -> None:
        """Run a job's tracer in a greenlet of the thread."""
        job.tracer = self
        self.do(partial(_begin, job, trace))

    def close(self, seconds: float) -> None:
        """End the thread after what it was given; wait for it, but no longer than this."""
        self._acts.put(None)
        self._thread.join(seconds)

    def _work(self) -> None:
        while (act := self._acts.get()) is not None:
            try:
                act()
            except BaseException as error:  # noqa: BLE001  a thread that ends would leave all its jobs behind
                self._failed(error)
            del act


class Tracers:
    """The threads of a pool, which take jobs in turn.

    Args:
        failed: Gets what an act raised.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        """Start the threads."""
        self._all = [Tracer(f"millstream-tracer-{number}", failed) for number in range(_THREADS)]
        self._next = itertools.cycle(self._all)

    def trace(self, job: Job, trace: Callable[[], None]) -> None:
        """Run a job's tracer in a greenlet of one of the threads."""
        next(self._next).trace(job, trace)

    def close(self, seconds: float) -> None:
        """End the threads after what they were given; wait for each, but no longer than this."""
        for tracer in self._all:
            tracer.close(seconds)


def _begin(job: Job, trace: Callable[[], None]) -> None:
    def run() -> None:
        current.set(job)
        trace()

    here = greenlet(run)
    here.gr_context = Context()
    here.switch()


def await_on_loop(job: Job, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Leave the job's tracer until the coroutine has ended on the loop, and return what it returned.

    Must be called in the job's greenlet.

    Raises:
        BaseException: What the coroutine raised; a `CancelledError` of its own as an ordinary exception of that name.
        Dropped: The job was dropped meanwhile.
    """
    here = getcurrent()
    tracer = job.tracer
    if tracer is None or here.parent is None:
        raise RuntimeError(f"{job.task.name} is not in a greenlet of the pool's tracers")

    def ended(outcome: Outcome) -> None:
        tracer.do(partial(here.switch, outcome))

    body = Body(job, coroutine, ended)
    job.pool.loop.call_soon_threadsafe(body.start, copy_context())
    outcome: Outcome = here.parent.switch()
    job.body = None
    if job.is_dropped:
        raise Dropped
    if outcome.error is None:
        return outcome.value
    if isinstance(outcome.error, CancelledError):  # not an `Exception`, which is all that the tracer takes
        raise concurrent.futures.CancelledError(*outcome.error.args) from outcome.error
    raise outcome.error
