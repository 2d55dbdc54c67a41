"""What every backend promises. The contract suite in `testing/` holds each adapter to it."""

from __future__ import annotations

from typing import Protocol

from millstream.execution.ports import Canceller, Dispatcher


class TaskBackend(Dispatcher, Canceller, Protocol):
    """Where segments execute.

    `start` and `stop` may be called twice, and `stop` before `start`.
    """

    @property
    def name(self) -> str:
        """The backend's public name, such as `anyio`."""

    async def start(self) -> None:
        """Begin to execute; returns when segments are taken."""

    async def stop(self) -> None:
        """Cancel what runs, and return when all of it has ended.

        Where the ledger ends with the process, so do the jobs that are queued.
        """
