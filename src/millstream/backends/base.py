"""What every backend promises. The contract suite in `testing/` holds each adapter to it."""

from __future__ import annotations

from typing import Protocol

from millstream.execution.ports import Executor


class SegmentBackend(Executor, Protocol):
    """Where segments execute.

    `start` and `stop` may be called twice, and `stop` before `start`.
    """

    @property
    def name(self) -> str:
        """The backend's public name, such as `anyio`."""

    async def start(self) -> None:
        """Begin to execute; returns when segments are taken."""

    async def drain(self, seconds: float) -> None:
        """Take nothing more, and return when all that runs has ended, or after so many seconds."""

    async def stop(self) -> None:
        """Cancel what runs, and return when all of it has ended or been laid down."""
