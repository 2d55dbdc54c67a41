"""What runs beside Celery's own thread: the loop, and the threads and processes that hang on it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.exceptions import SoftTimeLimitExceeded

from millstream.backends.celery.pool.child import AppPath, perform
from millstream.backends.celery.pool.job import Dropped, Job, Place, current
from millstream.backends.celery.pool.tracers import Tracers
from millstream.clock import SystemClock
from millstream.engine.processes import ProcessPool
from millstream.engine.request import Request
from millstream.engine.threads import ThreadCall, ThreadPool
from millstream.engine.wire import Order, Raised
from millstream.errors import ProcessDiedError

if TYPE_CHECKING:
    from millstream.backends.celery.pool.task_pool import TaskPool

_GOODBYE_SECONDS = 2.0


class Work:
    """The loop of a pool in its thread, and what hangs on it.

    Args:
        pool: Is told how jobs end.
        threads: How many plain functions may run in threads at once.
        processes: How many processes there may be.
    """

    def __init__(self, pool: TaskPool, threads: int, processes: int) -> None:
        """Start nothing yet."""
        self._pool = pool
        self._threads = ThreadPool(threads, SystemClock())
        self._processes = ProcessPool(processes, SystemClock())
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread: threading.Thread | None = None
        self._app_path: AppPath | None = None
        self.loop: asyncio.AbstractEventLoop
        self.tracers: Tracers

    def start(self) -> int:
        """Start the loop's thread and the tracers' threads; return the identity of the loop's."""
        self.loop = asyncio.new_event_loop()
        self.tracers = Tracers(self._pool.failed)
        self._thread = threading.Thread(target=self.loop.run_forever, name="millstream-loop", daemon=True)
        self._thread.start()
        return self._thread.ident or 0

    def begin(self, job: Job) -> None:
        """Let a job run; from the pool's own thread."""
        match job.place:
            case Place.LOOP:
                self.tracers.trace(job, partial(_trace, job))
            case Place.THREAD:
                self.loop.call_soon_threadsafe(self._begin_in_thread, job)
            case Place.PROCESS:
                self.loop.call_soon_threadsafe(self._begin_in_process, job)

    def drop(self, job: Job) -> None:
        """Cancel, kill or leave alone what a job still does; from the pool's own thread."""
        if job.place is Place.THREAD:
            job.interrupt(Dropped)
        self.loop.call_soon_threadsafe(self._stop, job)

    def watch(self, job: Job) -> None:
        """Set the timers of a job's limits; on the loop."""
        soft, hard = job.limits
        if soft is not None:
            job.timers.append(self.loop.call_later(soft, self._soft, job))
        if hard is not None:
            job.timers.append(self.loop.call_later(hard, self._hard, job))

    @staticmethod
    def unwatch(job: Job) -> None:
        """Take the timers of a job back; on the loop."""
        for timer in job.timers:
            timer.cancel()
        job.timers.clear()

    def close(self) -> None:
        """End the processes, what was dropped and is still there, and the threads."""
        if self._thread is None:
            return
        closing = asyncio.run_coroutine_threadsafe(self._close(), self.loop)
        try:
            closing.result(2 * _GOODBYE_SECONDS)
        finally:
            self.tracers.close(_GOODBYE_SECONDS)
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(_GOODBYE_SECONDS)
            self._thread = None

    async def _close(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_GOODBYE_SECONDS)
        self._threads.close()
        await self._processes.close()
        await self.loop.shutdown_asyncgens()

    def _begin_in_thread(self, job: Job) -> None:
        if job.is_dropped:
            return
        call = _Call(job, self)
        job.stop = partial(self._threads.abandon, call)
        self.watch(job)
        self._threads.submit(call)

    def _begin_in_process(self, job: Job) -> None:
        if job.is_dropped:
            return
        task = self.loop.create_task(self._run_in_process(job), name=job.task.name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        job.stop = task.cancel

    async def _run_in_process(self, job: Job) -> None:
        """Run Celery's tracer in a process of the pool, as a child of Celery's own pool does."""
        try:
            answer = await self._processes.run(self._order(job), lambda _said: None, partial(self._began, job))
        except ProcessDiedError as error:
            self._pool.ended(job, job.calls.failed, _as_info(WorkerLostError(str(error))))
        except Exception as error:  # noqa: BLE001  the job ends with it
            self._pool.ended(job, job.calls.failed, _as_info(error))
        else:
            if isinstance(answer, Raised):
                refused = RuntimeError(f"{job.task.name} cannot run in a process: {answer.failure.message}")
                self._pool.ended(job, job.calls.failed, _as_info(refused))
            else:
                self._pool.ended(job, job.calls.succeeded, answer.value)
        finally:
            self.unwatch(job)

    def _order(self, job: Job) -> Order:
        if self._app_path is None:
            self._app_path = AppPath.of(self._pool.app)
        given = (self._app_path, job.task.__module__, self._pool.hostname, job.limits[0], *job.args)
        name = perform.__qualname__
        return Order(perform.__module__, name, [(given, {})], False, False, Request(task=job.task.name), None, None)  # noqa: FBT003

    def _began(self, job: Job) -> None:
        self.watch(job)

    def _stop(self, job: Job) -> None:
        self.unwatch(job)
        if job.body is not None:
            job.body.cancel()
        if job.stop is not None:
            job.stop()

    def _soft(self, job: Job) -> None:
        if job.body is not None:
            job.body.interrupt()
        elif job.place is Place.THREAD:
            job.interrupt(SoftTimeLimitExceeded)
        self._pool.post(partial(self._pool.timed_out, job, is_soft=True))

    def _hard(self, job: Job) -> None:
        self._pool.post(partial(self._pool.timed_out, job, is_soft=False))


class _Call(ThreadCall):
    """A plain task's tracer in a thread."""

    __slots__ = ("_job", "_work")

    def __init__(self, job: Job, work: Work) -> None:
        super().__init__(_trace_in_thread, (job,))
        self._job = job
        self._work = work

    def done(self, error: BaseException | None, value: Any) -> None:
        """Take the timers back; the pool was told by the thread."""
        del error, value
        self._work.unwatch(self._job)


def _trace_in_thread(job: Job) -> None:
    current.set(job)  # in a copy of the context, which is the call's own
    _trace(job)


def _trace(job: Job) -> None:
    """Run Celery's tracer here, and tell the pool how it ended."""
    tell: Callable[..., Any]
    try:
        answer = job.target(*job.args)
        tell = job.calls.succeeded
    except Dropped:
        return
    except BaseException:  # noqa: BLE001  as Celery's own pools: whatever the tracer does not take is a failure
        answer, tell = ExceptionInfo(), job.calls.failed
    job.pool.ended(job, tell, answer)


def _as_info(error: BaseException) -> Any:
    try:
        raise error
    except type(error):
        return ExceptionInfo()
