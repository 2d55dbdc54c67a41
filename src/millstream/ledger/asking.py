"""Asking the threads of a ledger in a database, and waiting for what they answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from millstream.ledger.base import Claim, LedgerUnavailableError
from millstream.ledger.database import Connection
from millstream.ledger.items import Ask, Task
from millstream.ledger.parts import Parts

T = TypeVar("T")


class Asking:
    """Asks; each method may be used from any event loop.

    Args:
        parts: Returns the ledger's threads: those of this process, which are others after a fork.
    """

    def __init__(self, parts: Callable[[], Parts]) -> None:
        """Ask nothing yet."""
        self._parts = parts

    async def read(self, question: Callable[[Connection], T]) -> T:
        """Return what a function gives that is called with a connection that reads.

        Raises:
            LedgerUnavailableError: The ledger cannot be reached, or does not answer in time.
        """
        parts = self._parts()
        return await _bounded(parts.reader.read(question), parts.patience_seconds)

    async def write(self, work: Callable[[Connection], T], release: Callable[[Claim], None] | None = None) -> T:
        """Return what a function gives that is called with the connection that writes; it makes its own transaction.

        Args:
            work: The function; called again where its transaction met another one.
            release: Gets the claims that it returned to nobody.

        Raises:
            LedgerUnavailableError: The ledger cannot be reached, or does not answer in time.
            StorageFullError: There is no room.
        """
        done: T = await self.ask(Task(work, release))
        return done

    async def ask(self, item: Ask) -> Any:
        """Hand an item to the thread that writes, and return its outcome; raises as `write`."""
        parts = self._parts()
        parts.writer.put(item)
        return await _bounded(item.future, parts.patience_seconds)


async def _bounded(answer: Awaitable[T], seconds: float) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except TimeoutError:
        raise LedgerUnavailableError(f"the ledger did not answer within {seconds:g} s") from None
