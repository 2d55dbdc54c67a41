"""The pool as Celery sees it.

Whatever Celery is told (that a task began, its end, that a limit is over) is told in one thread, the one that Celery's
consumer runs in, as its own pools do; other threads `post` what is to be done there.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from celery import signals
from celery._state import _task_stack
from celery.concurrency.base import BasePool
from celery.concurrency.prefork import _run_ready_callbacks
from celery.platforms import EX_OK
from celery.utils.log import get_logger
from celery.worker import state

from millstream.backends.celery.pool.adapt import adapt, is_adapted, is_async, keep_by_job
from millstream.backends.celery.pool.job import Calls, Job, Place
from millstream.backends.celery.pool.recycling import Recycling
from millstream.backends.celery.pool.signals import loop_closing, loop_draining, loop_started
from millstream.backends.celery.pool.work import Work
from millstream.backends.celery.pool.worker_steps import LateTasks, build, choose_defaults

_logger = get_logger(__name__)

_MAX_THREADS = 40
_PUMP_SECONDS = 0.5
_GOODBYE_SECONDS = 2.0

choose_defaults()


class _Lane:
    """The jobs of one place.

    Args:
        most: How many the place can run at once, whatever the worker's concurrency.
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.running: set[Job] = set()
        self.waiting: deque[Job] = deque()

    def limit(self, concurrency: int) -> int:
        return concurrency if self.most is None else min(self.most, concurrency)


class TaskPool(BasePool):  # type: ignore[misc]
    """A Celery worker pool that runs coroutines on a loop, plain functions in threads and in processes.

    Celery makes it; see the package for how to choose it.

    Attributes:
        loop: The asyncio loop; runs between `start` and `stop`.
        loop_thread: The identity of its thread.
        hostname: The worker's name.
    """

    signal_safe = False  # stopping it waits
    body_can_be_buffer = True

    def __init__(self, limit: int | None = None, **options: Any) -> None:
        """Take Celery's options; nothing runs yet."""
        super().__init__(limit, **options)
        conf = self.app.conf
        threads = conf.get("millstream_max_threads") or _MAX_THREADS
        processes = conf.get("millstream_max_processes") or os.cpu_count() or 1
        self.hostname = self.options.get("initargs", (None, ""))[1]
        self.loop_thread = 0
        self.work = Work(self, threads, processes)
        self._lanes = {Place.LOOP: _Lane(None), Place.THREAD: _Lane(threads), Place.PROCESS: _Lane(processes)}
        self._recycling = Recycling(self.options.get("maxtasksperchild"), self.options.get("max_memory_per_child"))
        self._lock = threading.RLock()  # where Celery's consumer has no event loop, every thread tells it itself
        self._hub: Any = None
        self._inbox: deque[Callable[[], object]] = deque()
        self._news = threading.Event()
        self._draining = False
        self._running = False
        self.app.steps["consumer"].add(LateTasks)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The asyncio loop that coroutines run on."""
        return self.work.loop

    @property
    def num_processes(self) -> int:
        """How many tasks run at once; what Celery multiplies to get the number of messages it takes."""
        return int(self.limit)

    def on_start(self) -> None:
        """Start the loop.

        Raises:
            Exception: Whatever those who live on the loop raise as it starts; the worker ends with it.
        """
        keep_by_job(_task_stack)
        for task in self.app.tasks.values():
            adapt(task)
        self.loop_thread = self.work.start()
        self._running = True
        signals.worker_process_init.send(sender=None)
        for _, answer in loop_started.send(sender=self, loop=self.loop):
            if isinstance(answer, Exception):  # Celery has logged it, and would go on
                raise answer

    def register_with_event_loop(self, hub: Any) -> None:
        """Let the event loop of Celery's consumer do what is posted; called for every connection to the broker."""
        self._hub = hub
        if self._inbox:
            hub.call_soon(self._do_posted)

    def on_apply(  # noqa: PLR0913  Celery's own signature
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,  # noqa: ARG002  Celery gives none
        *,
        callback: Callable[..., Any],
        error_callback: Callable[..., Any],
        accept_callback: Callable[..., Any],
        timeout_callback: Callable[..., Any],
        soft_timeout: float | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> Job:
        """Take a task whose message has come."""
        task = self.app.tasks[args[0]]
        if not is_adapted(task):
            build(task, self.app, self.hostname)
        calls = Calls(accept_callback, callback, error_callback, timeout_callback)
        limits = (soft_timeout or self.options.get("soft_timeout"), timeout or self.options.get("timeout"))
        job = Job(self, task, target, args, calls, limits, _place(task, limits[1]))
        with self._lock:
            lane = self._lanes[job.place]
            lane.waiting.append(job)
            self._fill(lane)
            job.has_waited = job not in lane.running
        return job

    def terminate_job(self, pid: Any, signal: Any = None) -> None:
        """Do nothing: Celery also terminates the job itself."""

    def terminated(self, job: Job) -> None:
        """Free the slot of a job, whatever it still does."""
        with self._lock:
            lane = self._lanes[job.place]
            if job in lane.running:
                self._drop(job, lane)
            elif job in lane.waiting and job.request is not None and job.request.revoked():
                lane.waiting.remove(job)

    def timed_out(self, job: Job, *, is_soft: bool) -> None:
        """A limit of a job is over."""
        lane = self._lanes[job.place]
        if job not in lane.running:
            return
        if not is_soft:
            self._drop(job, lane)
        job.calls.timed_out(is_soft, job.limits[0 if is_soft else 1])

    def ended(self, job: Job, tell: Callable[..., Any], answer: Any) -> None:
        """Take what a job's tracer returned or raised; from any thread."""
        self.post(partial(self._end, job, tell, answer))

    def post(self, act: Callable[[], object]) -> None:
        """Have something done in the thread of Celery's consumer; from any thread."""
        self._inbox.append(act)
        hub = self._hub
        if hub is None:
            self._do_posted()
        else:
            hub.call_soon(self._do_posted)
        self._news.set()

    @staticmethod
    def failed(error: BaseException) -> None:
        """Log what is nobody's outcome."""
        _logger.error("The pool failed at something beside a task: %r", error, exc_info=error)

    def grow(self, n: int = 1) -> None:
        """Run `n` tasks more at once."""
        with self._lock:
            self.limit += n
            for lane in self._lanes.values():
                self._fill(lane)

    def shrink(self, n: int = 1) -> None:
        """Run `n` tasks fewer at once; those that run go on.

        Raises:
            ValueError: None would be left.
        """
        with self._lock:
            if self.limit - n < 1:
                raise ValueError(f"the pool runs {self.limit} tasks at once, so {n} fewer would leave none")
            self.limit -= n

    def flush(self) -> None:
        """Forget what waits, when the connection to the broker is lost: it will be delivered again."""
        with self._lock:
            for lane in self._lanes.values():
                lane.waiting.clear()

    def on_close(self) -> None:
        """Begin nothing more; what waits goes back to the broker with the connection."""
        if not self._draining:
            self._draining = True
            self.flush()
            if self._running:
                loop_draining.send(sender=self, loop=self.loop)

    def on_stop(self) -> None:
        """Wait for what runs, and end the loop."""
        self.on_close()
        while any(lane.running for lane in self._lanes.values()):
            self._pump(_PUMP_SECONDS)
        self._end_loop()

    def on_terminate(self) -> None:
        """Drop what runs, and end the loop."""
        self.on_close()
        with self._lock:
            for lane in self._lanes.values():
                for job in list(lane.running):
                    self._drop(job, lane)
        self._end_loop()

    def _get_info(self) -> dict[str, Any]:
        """Return what `inspect stats` tells of the pool."""
        lanes = {place.value: lane for place, lane in self._lanes.items()}
        return {
            **super()._get_info(),
            "max-concurrency": self.limit,
            "processes": [os.getpid()],
            "max-tasks-per-child": self.options.get("maxtasksperchild") or "N/A",
            "timeouts": (self.options.get("soft_timeout") or 0, self.options.get("timeout") or 0),
            "limits": {name: lane.limit(self.limit) for name, lane in lanes.items()},
            "running": {name: len(lane.running) for name, lane in lanes.items()},
            "waiting": {name: len(lane.waiting) for name, lane in lanes.items()},
        }

    def _fill(self, lane: _Lane) -> None:
        while lane.waiting and len(lane.running) < lane.limit(self.limit) and not self._draining:
            self._begin(lane.waiting.popleft(), lane)

    def _begin(self, job: Job, lane: _Lane) -> None:
        if job.has_waited and job.request is not None and job.request.revoked():
            return
        lane.running.add(job)
        try:
            job.calls.accepted(os.getpid(), time.monotonic())
        except Exception as error:  # noqa: BLE001  it begins all the same: what was lost is an acknowledgement or an event
            self.failed(error)
        if job.is_dropped:  # it was to be terminated as soon as it began
            return
        self.work.begin(job)
        self._retire(self._recycling.begun())

    def _end(self, job: Job, tell: Callable[..., Any], answer: Any) -> None:
        lane = self._lanes[job.place]
        if job not in lane.running:
            return
        lane.running.discard(job)
        try:
            tell(answer)
        finally:
            self._retire(self._recycling.ended())
            self._fill(lane)

    def _drop(self, job: Job, lane: _Lane) -> None:
        job.is_dropped = True
        lane.running.discard(job)
        self.work.drop(job)
        self._fill(lane)

    def _retire(self, why: str | None) -> None:
        """Begin nothing more, and have the process replaced when what runs has ended."""
        if why is not None and not self._draining:
            self._recycling.arm(why)
            self.on_close()
            state.should_stop = EX_OK  # as Celery's own handler of SIGTERM

    def _do_posted(self) -> None:
        with self._lock:
            while self._inbox:
                act = self._inbox.popleft()
                try:
                    act()
                except Exception as error:  # noqa: BLE001  the next ones are other tasks'
                    self.failed(error)

    def _pump(self, seconds: float) -> None:
        """Do in place of Celery's event loop, which has ended, what is posted; acknowledge, and keep the connection."""
        self._news.clear()
        self._do_posted()
        if self._hub is not None:
            _run_ready_callbacks(self._hub)
            self._hub.fire_timers()
        if not self._inbox and any(lane.running for lane in self._lanes.values()):
            self._news.wait(seconds)

    def _end_loop(self) -> None:
        if not self._running:
            return
        self._running = False
        loop_closing.send(sender=self, loop=self.loop)
        self.work.close()
        self._pump(0)


def _place(task: Any, hard: float | None) -> Place:
    run_in = getattr(task, "run_in", "auto")
    if run_in == "process":
        return Place.PROCESS
    if is_async(task):
        return Place.LOOP
    if hard is None or run_in == "thread" or task.name.startswith("celery."):
        return Place.THREAD
    return Place.PROCESS
