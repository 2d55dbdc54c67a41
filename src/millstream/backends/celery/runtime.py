"""How an app of ours lives in a Celery worker: on one event loop, made there, and handed on when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Protocol

from millstream.backends.role import Role
from millstream.ledger.base import LedgerUnavailableError
from millstream.ledger.identity import Identity
from millstream.log import get_logger
from millstream.portal import end

_log = get_logger("millstream.backends.celery")

_FIRST_WAIT, _LAST_WAIT = 0.5, 5.0


class Program(Protocol):
    """What a worker needs of an app."""

    def identify(self) -> Identity:
        """Return what tells the app's ledger from others; opens nothing that stays open. Blocks.

        Raises:
            LedgerUnavailableError: It cannot be reached.
        """

    def flows(self) -> Collection[str]:
        """Return the names of the flows and tasks whose jobs can be executed here."""

    def employ(self, role: Role) -> None:
        """Have the app live by a role from its next start on."""

    async def begin(self) -> None:
        """Start on this loop; may be called again where it failed.

        Raises:
            LedgerUnavailableError: The ledger cannot be opened.
        """

    async def serve(self) -> None:
        """Execute what can be claimed, since a message told of something; return when Celery may have its turn."""

    async def close(self, grace: float) -> None:
        """Take nothing more, let what runs end for so many seconds, hand on the rest, and release everything."""


class WorkerRuntime:
    """An app in one process of a worker.

    All methods run on one loop. `stop` may be called twice, and before `start`.

    Args:
        make: Makes the app; called by `start`.

    Example:
        >>> class Echo:
        ...     async def begin(self): print("begins")
        ...     async def serve(self): print("serves")
        ...     async def close(self, grace): print("ends")
        >>> async def main():
        ...     runtime = WorkerRuntime(Echo)
        ...     await runtime.start()
        ...     await runtime.serve()
        ...     await runtime.stop(5.0)
        >>> import asyncio
        >>> asyncio.run(main())
        begins
        serves
        ends
    """

    def __init__(self, make: Callable[[], Program]) -> None:
        """Make nothing yet."""
        self._make = make
        self._program: Program | None = None
        self._begun = asyncio.Event()
        self._beginning: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the app; where that fails, it is tried again in the background."""
        self._program = self._make()
        if not await self._begins(self._program):
            self._beginning = asyncio.create_task(self._begin_later(self._program), name="millstream worker start")

    async def serve(self) -> None:
        """Execute what can be claimed, since a message told of something; return when Celery may have its turn."""
        await self._begun.wait()
        if self._stopping is None and self._program is not None:
            await self._program.serve()
        if self._stopping is not None:
            await asyncio.shield(self._stopping)

    async def stop(self, grace: float) -> None:
        """Take nothing more, let what runs end for so many seconds, and hand on the rest.

        Args:
            grace: Seconds, 0 or more.
        """
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(grace), name="millstream worker stop")
        await asyncio.shield(self._stopping)

    async def _stop(self, grace: float) -> None:
        beginning, self._beginning = self._beginning, None
        await end(beginning)
        self._begun.set()
        if self._program is not None:
            await self._program.close(grace)

    async def _begins(self, program: Program) -> bool:
        try:
            await program.begin()
        except LedgerUnavailableError as error:
            _log.warning("the ledger is not available; this worker waits for it", why=str(error))
            return False
        except Exception as error:  # noqa: BLE001  whatever it is: what was not begun would keep its messages for ever
            _log.error("this worker cannot start yet, and tries again", why=f"{type(error).__name__}: {error}")
            return False
        self._begun.set()
        return True

    async def _begin_later(self, program: Program) -> None:
        wait = _FIRST_WAIT
        while True:
            await asyncio.sleep(wait)
            if await self._begins(program):
                return
            wait = min(2 * wait, _LAST_WAIT)
