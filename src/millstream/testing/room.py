"""Where a test and the tasks it runs meet, whatever thread or process those are in: a directory."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

_POLL_SECONDS = 0.002
_MOST_SECONDS = 30.0


class Room:
    """A directory with notes that tasks leave, and gates at which they wait until the test opens them.

    Args:
        path: The directory; a task is given it as text.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = str(path)
        self._notes = Path(self.path) / "notes"

    # ------------------------------------------------------------------------------------------ what tasks do
    def note(self, text: str) -> None:
        """Leave a note; notes from everywhere are in one order."""
        self._append("notes", f"{text}\n")

    async def wait(self, gate: str) -> None:
        """Wait in a coroutine until the gate is open; a note says that one waits."""
        self.note(f"at {gate}")
        while not self._is_open(gate):  # noqa: ASYNC110  whoever opens it may be in another process
            await asyncio.sleep(_POLL_SECONDS)

    def block(self, gate: str) -> None:
        """Wait in a thread or process until the gate is open; a note says that one waits."""
        self.note(f"at {gate}")
        end = time.monotonic() + _MOST_SECONDS
        while not self._is_open(gate) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)

    async def meet(self, place: str, count: int) -> None:
        """Wait in a coroutine until `count` have come to a place."""
        self._append(place, ".")
        while self._arrived(place) < count:  # noqa: ASYNC110  as for `wait`
            await asyncio.sleep(_POLL_SECONDS * min(count, 10))

    def meet_blocking(self, place: str, count: int) -> None:
        """Wait in a thread or process until `count` have come to a place."""
        self._append(place, ".")
        end = time.monotonic() + _MOST_SECONDS
        while self._arrived(place) < count and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)

    # ---------------------------------------------------------------------------------------- what the test does
    def open(self, gate: str) -> None:
        """Let everyone pass who waits at a gate, or comes to it later."""
        (Path(self.path) / f"{gate}.open").touch()

    def notes(self) -> list[str]:
        """Return the notes so far."""
        return self._notes.read_text(encoding="utf-8").splitlines() if self._notes.exists() else []

    async def noted(self, text: str, times: int = 1) -> None:
        """Wait until a note has been left so many times."""
        async with asyncio.timeout(_MOST_SECONDS):
            while self.notes().count(text) < times:  # noqa: ASYNC110  as for `wait`
                await asyncio.sleep(_POLL_SECONDS)

    # ------------------------------------------------------------------------------------------------ inside
    def _append(self, name: str, text: str) -> None:
        descriptor = os.open(f"{self.path}/{name}", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    def _is_open(self, gate: str) -> bool:
        return os.path.exists(f"{self.path}/{gate}.open")  # noqa: PTH110  many ask, and often

    def _arrived(self, place: str) -> int:
        return os.stat(f"{self.path}/{place}").st_size  # noqa: PTH116  as for `_is_open`
