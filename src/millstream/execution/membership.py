"""This process's place among those of one ledger: the id under which it claims, as long as the ledger grants it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from millstream.clock import new_id
from millstream.ledger.base import LedgerUnavailableError, SharedLedger, StorageFullError
from millstream.log import get_logger

_log = get_logger("millstream.execution")


class Membership:
    """One process's membership of a ledger: a new id each time it joins, for a dead member stays dead.

    `start` and `stop` may be called twice, and `stop` before `start`.

    Args:
        drop: Stops whatever runs of this ledger's jobs; called when the ledger says that this process is dead, since
            others may go on with those jobs from then on.
        job_queue: The event log that this process uses.
        executes: Whether it claims queued segments.

    Attributes:
        job_queue: As given.
        id: Under which id this process claims. There is one before the first `start` too.
        is_member: Whether the ledger takes claims under it.
    """

    def __init__(self, drop: Callable[[], None], job_queue: str, *, executes: bool = True) -> None:
        """Take an id; join nothing yet."""
        self.job_queue, self._executes = job_queue, executes
        self.id = _new_member()
        self.is_member = False
        self._drop = drop
        self._ledger: SharedLedger | None = None
        self._died = asyncio.Event()

    def current(self) -> str:
        """Return the id under which this process claims now."""
        return self.id

    async def start(self, ledger: SharedLedger) -> None:
        """Join a ledger.

        Raises:
            LedgerUnavailableError: It does not answer.
            SettingsError: A member that is alive uses another event log.
        """
        if self._ledger is None:
            await self._join(ledger)
            self._ledger, self.is_member = ledger, True

    async def stop(self) -> None:
        """Leave; what is still held can be claimed by others at once."""
        ledger, self._ledger = self._ledger, None
        self.is_member = False
        if ledger is not None:  # also while it joins again: that may be committed though nobody heard of it
            try:
                await ledger.leave(self.id)
            except (LedgerUnavailableError, StorageFullError) as error:
                _log.warning("left without a word to the ledger; the lease will run out", why=str(error))
        self.id = _new_member()

    async def revive(self) -> None:
        """Wait until this process is told that it is dead, and join again under a new id.

        Raises:
            LedgerUnavailableError: The ledger does not answer; call it again.
            SettingsError: Others use another event log by now; call it again.
        """
        await self._died.wait()
        if self._ledger is not None:
            await self._join(self._ledger)
            self.is_member = True
        self._died.clear()

    async def _join(self, ledger: SharedLedger) -> None:
        await ledger.join(self.id, self._on_dead, executes=self._executes, job_queue=self.job_queue)

    def _on_dead(self) -> None:
        if self._ledger is None:
            return
        _log.warning("the ledger took this process for dead; it goes on under a new id", was=self.id)
        self.id, self.is_member = _new_member(), False
        self._drop()
        self._died.set()


def _new_member() -> str:
    return f"{os.getpid()}-{new_id()}"
