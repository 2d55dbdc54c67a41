"""Threads that read a ledger, so that no event loop ever waits for a disk or a network."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from millstream.ledger.base import LedgerUnavailableError
from millstream.ledger.database import Connection, Database
from millstream.ledger.fork import between_forks
from millstream.ledger.relief import Relief

T = TypeVar("T")

_THREADS = 2

_Asked = tuple[Callable[[Connection], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Reader:
    """Reads with connections of its own, each in a thread that starts when there is something to read.

    Args:
        database: What to read.
        prepare: Called with each new connection.
    """

    def __init__(self, database: Database, prepare: Callable[[Connection], None]) -> None:
        """Start nothing yet."""
        self._database = database
        self._prepare = prepare
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._reliefs: WeakKeyDictionary[asyncio.AbstractEventLoop, Relief] = WeakKeyDictionary()
        self._open = 0

    async def read(self, question: Callable[[Connection], T]) -> T:
        """Return what a function gives that is called with a connection; it may be called again on another one.

        Raises:
            LedgerUnavailableError: The ledger cannot be reached.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        relief = self._reliefs.get(loop)
        if relief is None:
            relief = self._reliefs[loop] = Relief()
        relief.begin(1)
        self._open += 1
        if self._open > len(self._threads) < _THREADS:
            thread = threading.Thread(target=self._run, name="millstream-ledger-reader", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._asked.put((question, loop, answer))
        try:
            return await answer
        finally:
            self._open -= 1
            relief.end(1)

    def stop(self) -> None:
        """Answer what was asked, and end the threads; blocks until they have ended."""
        for _ in self._threads:
            self._asked.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _run(self) -> None:
        connection: Connection | None = None
        while (asked := self._asked.get()) is not None:
            question, loop, answer = asked
            with between_forks():
                outcome, connection = self._answer(question, connection)
            try:
                loop.call_soon_threadsafe(_tell, answer, outcome)
            except RuntimeError:  # the loop is closed: nobody waits any more
                continue
        if connection is not None:
            connection.close()

    def _answer(self, question: Callable[[Connection], Any], connection: Connection | None) -> tuple[Any, Any]:
        """Return (answer or error, connection); a connection that broke while nobody used it is replaced once."""
        is_new = connection is None
        try:
            if connection is None:
                connection = self._database.connect(reads=True)
                self._prepare(connection)
            return (question(connection), None), connection
        except Exception as error:  # noqa: BLE001  it is the caller's
            meaning = self._database.explain(error) or error
            if not isinstance(meaning, LedgerUnavailableError):
                return (None, meaning), connection
            if connection is not None:
                connection.close()
            return ((None, meaning), None) if is_new else self._answer(question, None)


def _tell(answer: asyncio.Future[Any], outcome: tuple[Any, Exception | None]) -> None:
    value, error = outcome
    if answer.done():
        return
    if error is None:
        answer.set_result(value)
    else:
        answer.set_exception(error)
