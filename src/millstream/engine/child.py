"""What runs in a pool process: take an order, run the function, answer.

The main thread runs functions, so that the soft time-out can interrupt them by a signal. A second thread reads; when
the engine is gone it ends the process at once, so none outlives its parent. A function that never gives the interpreter
up (`sum(range(10**12))`) would keep that thread from running, so on Linux the kernel is asked to see to it as well.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib
import inspect
import io
import os
import pickle
import queue
import runpy
import signal
import socket
import sys
import time
import types
from collections.abc import Callable, Coroutine
from threading import Lock, Thread
from typing import Any, NoReturn, cast

from msgspec.structs import replace

from millstream.engine.context import SystemChance, loading_main, running
from millstream.engine.wire import HEAD, Order, Raised, Returned, Said, Setup, pack, unpack
from millstream.errors import SoftTimeLimitExceeded
from millstream.model.failure import record_failure
from millstream.model.value import encode

_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


class _RunningHere(SystemChance):
    """The attempt that runs in this process."""

    __slots__ = ("_say", "attempt", "deadline", "job_id", "node", "request")

    is_cancelled = False  # a cancelled job kills its processes

    def __init__(self, order: Order, say: Callable[[Any], None]) -> None:
        self.request = order.request
        self.job_id = order.request.job_id or ""
        self.node = order.request.node or ""
        self.attempt = order.request.retries + 1
        self.deadline = order.deadline
        self._say = say

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def emit(self, kind: str, data: Any) -> None:
        """Send an event to the engine at once."""
        self._say(Said(kind, data))

    def record(self, kind: str, data: dict[str, Any]) -> None:
        """Send a durable event to the engine at once."""
        encode(data, kind)  # so that what cannot be written down is refused here, where it is said
        self._say(Said(kind, data, is_durable=True))


def main(descriptor: int) -> None:
    """Serve orders over an inherited socket until the engine is gone.

    Args:
        descriptor: The socket's file descriptor.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole terminal; the engine decides what it means
    _die_with_parent()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a killed process must not take what was printed with it
    connection = socket.socket(fileno=descriptor)
    connection.settimeout(None)  # a default time-out that somebody set in the engine's process would hold here as well
    setup: Setup = _read(connection)
    sys.path[:] = setup.path
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    Thread(target=_take_orders, args=(connection, orders), daemon=True).start()

    speaking = Lock()  # a task may have threads of its own that say something

    def say(frame: Any) -> None:
        packed = pack(frame)
        with speaking:
            connection.sendall(packed)

    while True:
        order = orders.get()
        answer = _answer(order, setup, say)
        try:
            say(answer)
        except Exception as error:  # noqa: BLE001  whatever a value's pickling raises
            what = TypeError(f"its result ({type(getattr(answer, 'value', None)).__name__}) cannot be pickled: {error}")
            say(Raised(record_failure(what, order.request.node)))


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _take_orders(connection: socket.socket, orders: queue.SimpleQueue[Order]) -> NoReturn:
    try:
        while True:
            orders.put(_read(connection))
    except (EOFError, OSError):
        os._exit(0)


def _read(connection: socket.socket) -> Any:
    (size,) = HEAD.unpack(_read_exactly(connection, HEAD.size))
    return unpack(_read_exactly(connection, size))


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(min(size - len(parts), 1 << 20))
        if not part:
            raise EOFError
        parts += part
    return bytes(parts)


def _answer(order: Order, setup: Setup, say: Callable[[Any], None]) -> Returned | Raised:
    try:
        calls = _Arguments(order.calls, setup.main).load()
        function = _find(order, setup.main)
        here = _RunningHere(order, say)
        if not order.is_chunk:
            ((args, kwargs),) = calls
            here.request = replace(order.request, args=args, kwargs=kwargs)
        token = running.set(here)
        try:
            values = _run(function, calls, order.soft_timeout)
        finally:
            running.reset(token)
    except BaseException as error:  # noqa: BLE001  whatever a task raises is its outcome, also SystemExit
        return Raised(record_failure(error, order.request.node), isinstance(error, _CancelsItselfError))
    return Returned(values if order.is_chunk else values[0])


def _run(function: Callable[..., Any], calls: Any, soft_timeout: float | None) -> list[Any]:
    if soft_timeout is not None:
        signal.signal(signal.SIGALRM, _interrupt)
        signal.setitimer(signal.ITIMER_REAL, soft_timeout)
    try:
        return [_call(function, args, kwargs) for args, kwargs in calls]
    finally:
        if soft_timeout is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)


def _call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    value = function(*args, **kwargs)
    if inspect.iscoroutine(value):
        return asyncio.run(_awaited(value))
    return value


class _CancelsItselfError(asyncio.CancelledError):
    """Raised when a coroutine cancelled what it runs in, which is more than to raise `CancelledError`."""


async def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise _CancelsItselfError from error
        raise


def _interrupt(_signal: int, _frame: types.FrameType | None) -> NoReturn:
    raise SoftTimeLimitExceeded("the soft time limit is over")


def _find(order: Order, main_file: str | None) -> Callable[..., Any]:
    """Return the function that is ordered; where a task was put in its place, the task's own.

    A bound task runs more than the function itself, so the task must be found: under the function's name, or beside it.

    Raises:
        ImportError: A bound task is not to be found.
    """
    module = _main_module(main_file) if order.module == "__main__" else importlib.import_module(order.module)
    found: Any = module
    for part in order.qualname.split("."):
        found = getattr(found, part)
    function: Callable[..., Any] = getattr(found, "fn", found)
    if function is not found or not order.is_bound:
        return function
    for value in vars(module).values():
        if getattr(value, "is_bound", False) and value.name == order.request.task:
            return cast("Callable[..., Any]", value.fn)
    raise ImportError(f"{order.request.task} is bound, so a process has to find it at the top level of {order.module}")


class _Arguments(pickle.Unpickler):
    """Reads arguments; the main file is loaded when a class of it is among them."""

    def __init__(self, body: Any, main_file: str | None) -> None:
        super().__init__(io.BytesIO(body))
        self._main_file = main_file

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for."""
        if module == "__main__":
            _main_module(self._main_file)
        return super().find_class(module, name)


def _main_module(file: str | None) -> types.ModuleType:
    """Load the engine's main file, so that its `if __name__ == "__main__"` does not hold.

    What it defines is called `__main__` all the same: results and failures go back to where it is.
    """
    name = "__mp_main__"
    if name not in sys.modules:
        if file is None:
            raise ImportError("a function defined at an interactive prompt cannot run in a process; put it in a file")
        module = types.ModuleType(name)
        token = loading_main.set(True)
        try:
            module.__dict__.update(runpy.run_path(file, run_name=name))
        finally:
            loading_main.reset(token)
        _rename(module, name)
        module.__name__ = "__main__"
        sys.modules[name] = sys.modules["__main__"] = module
    return sys.modules[name]


def _rename(holder: Any, former: str) -> None:
    """Let the classes and functions of the main file say that they are of `__main__`, those inside of classes too."""
    for value in vars(holder).values():
        if isinstance(value, type | types.FunctionType) and value.__module__ == former:
            value.__module__ = "__main__"
            if isinstance(value, type):
                _rename(value, former)
