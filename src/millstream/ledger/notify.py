"""The bell of processes on one PostgreSQL database: LISTEN and NOTIFY, on one connection in one thread."""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
from collections import deque
from contextlib import suppress

import anyio
import psycopg

from millstream.ledger.bell import CHANNEL, Heard, Topic, read, write
from millstream.ledger.fork import call_in_child
from millstream.log import get_logger

_log = get_logger("millstream.ledger")

_LINES = 100
"""Wake-ups in one notification, which has at most 8,000 bytes."""

_BOUNDS = {"connect_timeout": 5, "tcp_user_timeout": 5000, "keepalives_idle": 10, "keepalives_interval": 5}
_FIRST_WAIT, _LAST_WAIT = 0.2, 10.0
_JOIN_SECONDS = 1.0
_LOOK_SECONDS = 0.002


class NotifyBell:
    """Rings by NOTIFY; see `Bell` for what its methods promise. A connection that breaks is made anew.

    Args:
        conninfo: Where the database is, as libpq takes it: a URL, or `key=value` pairs.
    """

    def __init__(self, conninfo: str) -> None:
        """Open nothing yet."""
        self._conninfo = conninfo
        self._loop: asyncio.AbstractEventLoop
        self._heard: Heard
        self._me = 0
        self._rung: deque[tuple[Topic, str]] = deque(maxlen=10_000)
        self._thread: threading.Thread | None = None
        self._is_closing = threading.Event()
        call_in_child(self._drop)

    async def listen(self, heard: Heard) -> None:
        """Begin to hear; see `Bell.listen`."""
        self._loop, self._heard = asyncio.get_running_loop(), heard
        self._woken, self._wake = socket.socketpair()
        self._woken.settimeout(0)
        self._wake.settimeout(0)
        self._thread = threading.Thread(target=self._serve, daemon=True, name="millstream-bell")
        self._thread.start()

    def ring(self, topic: Topic, job_id: str, queue: str | None = None) -> None:  # noqa: ARG002  all are woken
        """Wake the others; see `Bell.ring`."""
        if self._thread is not None:
            self._rung.append((topic, job_id))
            self._nudge()

    async def close(self) -> None:
        """Stop; see `Bell.close`."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._is_closing.set()
        self._nudge()
        with anyio.move_on_after(_JOIN_SECONDS):
            # Not joined in a thread: when the interpreter ends there are no new ones.
            while thread.is_alive():  # noqa: ASYNC110  a thread sets no event
                await anyio.sleep(_LOOK_SECONDS)
        if not thread.is_alive():
            self._woken.close()
        self._wake.close()

    def _nudge(self) -> None:
        with suppress(OSError):  # full: it is awake already
            self._wake.send(b".")

    def _drop(self) -> None:
        if self._thread is not None:
            self._thread = None
            self._woken.close()
            self._wake.close()

    # ------------------------------------------------------------------------------------------- in its thread
    def _serve(self) -> None:
        wait = _FIRST_WAIT
        while not self._is_closing.is_set():
            try:
                with psycopg.connect(self._conninfo, autocommit=True, **_BOUNDS) as connection:  # type: ignore[arg-type]
                    self._me = connection.info.backend_pid
                    connection.add_notify_handler(lambda told: self._pass_on(told.payload.encode(), told.pid))
                    connection.execute(f"LISTEN {CHANNEL}")
                    wait = _FIRST_WAIT
                    with selectors.DefaultSelector() as selector:
                        self._exchange(connection, selector)
            except psycopg.Error as error:
                _log.debug("the bell is silent for now", error=type(error).__name__)
                self._is_closing.wait(wait)
                wait = min(2 * wait, _LAST_WAIT)

    def _exchange(self, connection: psycopg.Connection, selector: selectors.BaseSelector) -> None:
        """Send what is rung and take what comes, until the bell is closed or the connection breaks."""
        link = connection.pgconn
        selector.register(link.socket, selectors.EVENT_READ)
        selector.register(self._woken, selectors.EVENT_READ)
        while True:
            is_closing = self._is_closing.is_set()
            rung = [self._rung.popleft() for _ in range(min(_LINES, len(self._rung)))]
            if rung:
                connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, write(rung).decode()))
            elif is_closing:
                return
            else:
                selector.select()
            with suppress(BlockingIOError):
                self._woken.recv(4096)
            link.consume_input()
            while (told := link.notifies()) is not None:
                self._pass_on(told.extra, told.be_pid)

    def _pass_on(self, data: bytes, sender: int) -> None:
        if sender == self._me:
            return
        with suppress(RuntimeError):  # the loop is closed
            for topic, job_id in read(data):
                self._loop.call_soon_threadsafe(self._heard, topic, job_id)
