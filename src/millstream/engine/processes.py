"""The process pool for CPU-bound functions: started when needed, kept while idle, killed when their work is cancelled.

Unlike `anyio.to_process`, a process here keeps its standard output, sends the events of `ctx` while it runs, and takes
several calls in one order (see docs/decisions/0004-own-process-pool.md).
"""

from __future__ import annotations

import asyncio
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.lowlevel

from millstream.clock import Clock, Timer
from millstream.engine.wire import HEAD, Order, Raised, Returned, Said, Setup, pack, unpack
from millstream.errors import NotSerializableError, ProcessDiedError

_OUR_ROOT = str(Path(__file__).resolve().parents[2])
_EXIT_SECONDS = 5.0
_POLL_SECONDS = 0.001


class PoolProcess:
    """One process of the pool, and the socket to it."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        """Take the started process; `connect` follows."""
        self.popen = popen
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    @classmethod
    async def start(cls) -> PoolProcess:
        """Start a process and tell it where code is found."""
        ours, theirs = socket.socketpair()
        # Without -P a file in the working directory, say `random.py`, would stand in for Python's own of that name.
        command = (
            f"import sys; sys.path.append({_OUR_ROOT!r}); "
            f"from millstream.engine.child import main; main({theirs.fileno()})"
        )
        with theirs:
            popen = subprocess.Popen(  # noqa: ASYNC220, S603  our own program; starting takes about a millisecond
                [sys.executable, "-P", "-c", command], stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(),)
            )
        process = cls(popen)
        with anyio.CancelScope(shield=True):  # a process that nobody knows of would be left behind
            process._reader, process._writer = await asyncio.open_connection(sock=ours)
        process._writer.write(pack(Setup(list(sys.path), getattr(sys.modules["__main__"], "__file__", None))))
        return process

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self.popen.poll() is None

    async def run(self, order: bytes, heard: Callable[[Said], None]) -> Returned | Raised:
        """Let it run an order; `heard` gets what it says meanwhile.

        Raises:
            ProcessDiedError: It ended before it answered.
        """
        try:
            self._writer.write(order)
            await self._writer.drain()
            while True:
                (size,) = HEAD.unpack(await self._reader.readexactly(HEAD.size))
                frame = unpack(await self._reader.readexactly(size))
                if isinstance(frame, Returned | Raised):
                    return frame
                heard(frame)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise ProcessDiedError(f"the process that ran it ended {await self._how_it_ended()}") from None

    async def stop(self) -> None:
        """Kill it, and wait until it is gone."""
        self._writer.close()
        if self.is_alive:
            self.popen.kill()
        with anyio.CancelScope(shield=True), suppress(OSError):
            await self._writer.wait_closed()
            await self._gone()

    async def _gone(self) -> None:
        while self.popen.poll() is None:  # noqa: ASYNC110  nothing tells of it without a child watcher
            await asyncio.sleep(_POLL_SECONDS)

    async def _how_it_ended(self) -> str:
        with anyio.move_on_after(_EXIT_SECONDS):
            await self._gone()
        code = self.popen.returncode
        if code is None:
            return "its connection"
        return f"by signal {-code}" if code < 0 else f"with exit code {code}"


class ProcessPool:
    """Processes of one event loop; at most `limit` run at once.

    Args:
        limit: How many processes there may be, 1 or more.
        clock: Is held while orders run.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        """Start no process yet."""
        self._limit = limit
        self._clock = clock
        self._free: anyio.CapacityLimiter | None = None
        self._idle: list[PoolProcess] = []

    @property
    def waiting(self) -> int:
        """How many orders wait for a process."""
        return 0 if self._free is None else self._free.statistics().tasks_waiting

    async def run(
        self, order: Order, heard: Callable[[Said], None], begun: Callable[[], Timer | None]
    ) -> Returned | Raised:
        """Run an order in a process of the pool. When the caller is cancelled the process is killed.

        Args:
            order: What to run.
            heard: Gets what the task says meanwhile.
            begun: Called when a process is free for it, before it starts; the timer that it returns is cancelled at
                the end.

        Raises:
            NotSerializableError: An argument cannot be pickled.
            ProcessDiedError: The process ended before it answered.
        """
        frame = _pack(order)
        hold = self._clock.hold()
        try:
            return await self._run(frame, heard, begun)
        finally:
            hold.cancel()

    async def _run(
        self, frame: bytes, heard: Callable[[Said], None], begun: Callable[[], Timer | None]
    ) -> Returned | Raised:
        if self._free is None:
            self._free = anyio.CapacityLimiter(self._limit)
        async with self._free:
            process = await self._take()
            try:  # who cancelled in the instant in which there was a process for it must not have it run all the same
                await anyio.lowlevel.checkpoint_if_cancelled()
            except BaseException:
                self._idle.append(process)
                raise
            timer = begun()
            try:
                answer = await process.run(frame, heard)
            except BaseException:
                await process.stop()
                raise
            finally:
                if timer is not None:
                    timer.cancel()
            self._idle.append(process)
            return answer

    async def close(self) -> None:
        """End all processes; those that run something are killed by whoever waits for them."""
        while self._idle:
            await self._idle.pop().stop()

    async def _take(self) -> PoolProcess:
        while self._idle:
            process = self._idle.pop()
            if process.is_alive:
                return process
            await process.stop()
        return await PoolProcess.start()


def _pack(order: Order) -> bytes:
    try:
        return pack(order._replace(calls=pickle.dumps(order.calls, protocol=pickle.HIGHEST_PROTOCOL)))
    except Exception as error:
        message = f"an argument of {order.qualname} cannot be pickled, which run_in='process' needs: {error}"
        raise NotSerializableError(message) from error
