"""The thread pool for plain functions: owned threads that drain one queue.

A hand-over to a thread and back costs more than a trivial function. So a thread that is awake keeps taking from the
queue, results come back in bulk with one wake of the loop, and a further thread is woken only when the queue stalls:
a tick of a millisecond doubles the awake threads while nothing was finished since the last. A fan of trivial functions
then runs on one thread, and functions that block run in parallel as in any pool. Where no thread is to be woken the
ticks become rare: each takes the interpreter from the functions that compute.
"""

from __future__ import annotations

import asyncio
import contextvars
import ctypes
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from millstream.clock import Clock, Timer
from millstream.errors import SoftTimeLimitExceeded

_TICK_SECONDS = 0.001
_RARE_SECONDS = 0.016
_GIVE_WAY_SECONDS = 0.00005
_MOST_PASSED = 64
"""Calls that are looked at for one that is wanted."""

_BUSY_LOOP = 0.5
"""Share of the time that, computed by the loop, keeps the threads from the interpreter's lock."""

_BUSY = 0.4
"""Share of the time that, computed by the process, leaves no room for another thread. Not more, for a process computes
less than it could where others want the same processors."""

_LOOKS = 3
"""Looks in a row at which the threads have to be found blocked, not computing: a thread too many does not go again."""


_SPENT = contextvars.Context()
"""Stands in a call for the context that it has run in."""


class ThreadCall(ABC):
    """A plain function's call in a thread, under a copy of the caller's context variables.

    Attributes:
        fn: What to call.
        args: Its arguments.
        is_abandoned: Whether nobody waits for it any more.
    """

    __slots__ = ("_context", "_lock", "_thread", "args", "fn", "is_abandoned")

    def __init__(self, fn: Callable[..., Any], args: Sequence[Any]) -> None:
        """Take the call, and the context of whoever hands it in."""
        self.fn = fn
        self.args = args
        self.is_abandoned = False
        self._context = contextvars.copy_context()
        self._thread: int | None = None
        self._lock: threading.Lock | None = None

    @abstractmethod
    def done(self, error: BaseException | None, value: Any) -> None:
        """Take what the function raised or returned; called on the loop, unless the call was abandoned."""

    def begin(self) -> None:  # noqa: B027  most calls have nothing to do then
        """Take notice that a thread now takes the call; called in that thread."""

    def allow_interrupt(self) -> None:
        """Prepare for `interrupt`; must be called before the call is handed in."""
        self._lock = threading.Lock()

    def interrupt(self) -> None:
        """Raise `SoftTimeLimitExceeded` inside the function, at its next bytecode; nothing if it is not running."""
        if self._lock is None:
            return
        with self._lock:
            if self._thread is not None:
                kind = ctypes.py_object(SoftTimeLimitExceeded)
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread), kind)

    def execute(self) -> tuple[BaseException | None, Any]:
        """Run the function in the calling thread, and return what it raised and what it returned."""
        self.begin()
        context, self._context = self._context, _SPENT  # which holds the attempt, which holds this call
        try:
            if self._lock is not None:
                return None, self._execute_interruptibly(context, self._lock)
            return None, context.run(self.fn, *self.args)
        except BaseException as error:  # noqa: BLE001  whatever a task raises is its outcome, also SystemExit
            return error, None

    def _execute_interruptibly(self, context: contextvars.Context, lock: threading.Lock) -> Any:
        self._thread = threading.get_ident()
        try:
            return context.run(self.fn, *self.args)
        finally:
            with lock:
                self._thread = None


class ThreadPool:
    """Threads of one event loop; at most `limit` at once, started when needed, daemons.

    Args:
        limit: How many threads there may be, 1 or more. A thread whose call was abandoned does not count until it
            comes back.
        clock: Is held while calls are open.
        spares: Whether to start no further thread while this process computes all the time: what waits is then for
            other processes, which get more done than another thread that has to wait for the interpreter.

    Attributes:
        left: Abandoned calls that a thread is still in.
    """

    def __init__(self, limit: int, clock: Clock, *, spares: bool = False) -> None:
        """Start no thread yet."""
        self._spares = spares
        self._cpu = self._at = 0.0
        self._blocked = 0
        self.left: set[ThreadCall] = set()
        self._limit = limit
        self._clock = clock
        self._hold: Timer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: deque[ThreadCall] = deque()
        self._results: deque[tuple[ThreadCall | None, BaseException | None, Any]] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Semaphore(0)
        self._threads = 0
        self._idle = 0
        self._finished = 0
        self._open = 0
        self._told = False
        self._closed = False
        self._tick: asyncio.TimerHandle | None = None
        self._seen = 0
        self._step = 1
        self._pause = _TICK_SECONDS
        self._loop_cpu = self._loop_at = 0.0

    def submit(self, call: ThreadCall) -> None:
        """Hand in a call; must be called on the loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self._queue.append(call)
        self._open += 1
        if self._hold is None:
            self._hold = self._clock.hold()
        if self._tick is None:
            self._seen, self._step = self._finished, 1
            if self._spares:
                self._cpu, self._at, self._blocked = time.process_time(), time.monotonic(), 0
            self._look_in(_TICK_SECONDS)
        elif self._pause > _TICK_SECONDS:
            self._tick.cancel()
            self._look_in(_TICK_SECONDS)
        with self._lock:
            all_idle = self._idle == self._threads
        if all_idle:
            self._more()

    def abandon(self, call: ThreadCall) -> None:
        """Drop a call's result; a thread that is in it is replaced until it comes back."""
        call.is_abandoned = True
        try:
            self._queue.remove(call)
        except ValueError:
            self.left.add(call)
            with self._lock:
                self._limit += 1
        self._open -= 1
        self._let_go()

    @property
    def waiting(self) -> int:
        """How many calls wait for a thread."""
        return len(self._queue)

    def last(self) -> ThreadCall | None:
        """Return the call that would be the last to find a thread, if any waits for one."""
        try:
            return self._queue[-1]
        except IndexError:
            return None

    def take_last(self, wanted: Callable[[ThreadCall], bool]) -> ThreadCall | None:
        """Take back a call that no thread has taken yet, the last of those that are wanted."""
        passed: list[ThreadCall] = []
        found = None
        while found is None and len(passed) < _MOST_PASSED:
            try:
                call = self._queue.pop()
            except IndexError:
                break
            if wanted(call):
                found = call
            else:
                passed.append(call)
        self._queue.extend(reversed(passed))
        if found is not None:
            self._open -= 1
            self._let_go()
        return found

    def say(self, act: Callable[[], None]) -> None:
        """Have something done on the loop, before the result of the call that says it; from any thread."""
        self._results.append((None, None, act))
        with self._lock:
            tell = not self._told
            self._told = True
        if tell:
            self._tell()

    def close(self) -> None:
        """Let the threads end after what they are in; what waits in the queue is dropped."""
        self._closed = True
        self._queue.clear()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        for _ in range(self._threads):
            self._wake.release()
        self._open = 0
        self._let_go()

    def _let_go(self) -> None:
        """Let go of the clock where no call is open."""
        if not self._open and self._hold is not None:
            self._hold.cancel()
            self._hold = None

    def _more(self) -> bool:
        """Wake an idle thread, or start one; return whether there was one to be had."""
        with self._lock:
            if self._idle:
                self._idle -= 1
                self._wake.release()
                return True
            if self._threads >= self._limit or self._closed:
                return False
            self._threads += 1
            number = self._threads
        threading.Thread(target=self._work, daemon=True, name=f"millstream-{number}").start()
        return True

    def _look_in(self, seconds: float) -> None:
        """Have the next tick then."""
        if self._loop is not None:
            self._pause = seconds
            self._loop_cpu, self._loop_at = time.thread_time(), time.monotonic()
            self._tick = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Once a tick: where nothing was finished since the last one, every awake thread is blocked or starved.

        A loop that never blocks wins the interpreter lock back each time, so it gives it away here on purpose.
        """
        self._tick = None
        if not self._open:
            return
        is_busy = time.thread_time() - self._loop_cpu > _BUSY_LOOP * (time.monotonic() - self._loop_at)
        pause = self._pause
        if self._finished == self._seen:
            if is_busy:
                time.sleep(_GIVE_WAY_SECONDS)
            pause = _TICK_SECONDS if self._wake_more() else min(2 * pause, _RARE_SECONDS)
        else:
            self._step = 1
        self._seen = self._finished
        self._look_in(_TICK_SECONDS if is_busy else pause)

    def _wake_more(self) -> bool:
        """Wake threads for what waits, twice as many as the last time; return whether more may be wanted soon."""
        if not self._queue or self._is_computing():
            return False
        woken = [self._more() for _ in range(min(self._step, len(self._queue)))]
        self._step = min(self._step * 2, self._limit)
        return all(woken)

    def _is_computing(self) -> bool:
        """Whether the threads that there are have computed most of the time since this was asked last, or lately."""
        if not self._spares:
            return False
        cpu, at = time.process_time(), time.monotonic()
        share = (cpu - self._cpu) / max(at - self._at, _TICK_SECONDS)
        self._cpu, self._at = cpu, at
        self._blocked = self._blocked + 1 if share < _BUSY else 0
        return self._blocked < _LOOKS

    def _work(self) -> None:
        while True:
            try:
                call = self._queue.popleft()
            except IndexError:
                if not self._rest():
                    return
                continue
            error, value = call.execute()
            self._results.append((call, error, value))
            del call, error, value
            with self._lock:
                self._finished += 1
                tell = not self._told
                self._told = True
            if tell and not self._tell():
                return

    def _rest(self) -> bool:
        """Wait to be woken; return whether to go on."""
        with self._lock:
            if self._queue:
                return True
            self._idle += 1
        self._wake.acquire()
        return not self._closed

    def _tell(self) -> bool:
        """Wake the loop for the results; return whether it is still there."""
        if self._loop is None:
            return False
        try:
            self._loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            return False
        return True

    def _deliver(self) -> None:
        with self._lock:
            self._told = False
        results = self._results
        while results:
            call, error, value = results.popleft()
            if call is None:
                value()
            elif call.is_abandoned:
                self.left.discard(call)
                with self._lock:
                    self._limit -= 1
            else:
                self._open -= 1
                call.done(error, value)
        self._let_go()
