"""Where jobs and their segments stand inside a transaction, and how they move; what moved has to be written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from millstream.ledger.base import Pause
from millstream.model.job import FINAL_STATES, JobState, check_transition


class Part:
    """Where a segment stands.

    Attributes:
        state: `queued`, `waiting`, `running` or `ended`.
        attempt: How often it was claimed.
        holder: Who holds it.
        ready_at: From when on it may be claimed, where it has been moved to wait for a time.
        is_moved: Whether it has to be written.
    """

    __slots__ = ("attempt", "holder", "is_moved", "ready_at", "state")

    def __init__(self, state: str, attempt: int, holder: str | None) -> None:
        """Stand where the row says."""
        self.state, self.attempt, self.holder = state, attempt, holder
        self.ready_at: float | None = None
        self.is_moved = False

    def move(self, state: str, ready_at: float | None = None) -> None:
        """Be held by nobody any more."""
        self.state, self.holder, self.ready_at, self.is_moved = state, None, ready_at, True


class Standing:
    """Where a job stands.

    Args:
        row: What the query `standing` gives for it.

    Attributes:
        state: Its state.
        reason: Its reason.
        cancel: Whether somebody asked to stop it.
        next_seq: The number that its next event gets.
        was: What that number was before this transaction.
        ended_at: When it ended, if that was in this transaction.
        values: Its result and error, written down, likewise.
        segments: Its segments.
        is_moved: Whether more of it has to be written than `next_seq`.
    """

    __slots__ = ("cancel", "ended_at", "is_moved", "next_seq", "reason", "segments", "state", "values", "was")

    def __init__(self, row: Sequence[Any]) -> None:
        """Stand where the row says."""
        _, self.state, self.reason, cancel, self.next_seq = row[:5]
        self.cancel = bool(cancel)
        self.was = self.next_seq
        self.is_moved = False
        self.ended_at: float | None = None
        self.values: tuple[bytes | None, bytes | None] = (None, None)
        self.segments: dict[int, Part] = {}

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL_STATES

    @property
    def is_held(self) -> bool:
        """Whether somebody holds a segment of it."""
        return any(part.holder is not None for part in self.segments.values())

    def move(self, state: JobState, reason: str | None) -> None:
        """Move to another state.

        Raises:
            StateTransitionError: The state machine does not have it.
        """
        check_transition(JobState(self.state), state)
        self.state, self.reason, self.is_moved = state.value, reason, True

    def settle(self, state: JobState, reason: str | None, now: float) -> None:
        """End."""
        self.move(state, reason)
        self.ended_at = now
        for part in self.segments.values():
            part.move("ended")

    def pause(self, part: Part, pause: Pause, *, has_news: bool) -> None:
        """Lay a segment down; it may be claimed at once where there is news that its holder did not know."""
        if has_news or self.cancel or pause.reason == "shutdown":
            self.move(JobState.QUEUED, pause.reason)
            part.move("queued")
        else:
            self.move(JobState.WAITING, pause.reason)
            part.move("waiting", pause.until)

    def wake(self) -> None:
        """Let segments that wait be claimed."""
        for part in self.segments.values():
            if part.state == "waiting":
                part.move("queued")
                self.move(JobState.QUEUED, None)
