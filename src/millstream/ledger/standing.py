"""Where jobs and their segments stand inside a transaction, and how they move; what moved has to be written."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from millstream.ledger.base import MAIN, Pause
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
        has_moved_parts: Whether segments of it have to be written.
    """

    __slots__ = (
        "cancel",
        "ended_at",
        "has_moved_parts",
        "is_moved",
        "next_seq",
        "reason",
        "segments",
        "state",
        "values",
        "was",
    )

    def __init__(self, row: Sequence[Any]) -> None:
        """Stand where the row says."""
        _, self.state, self.reason, cancel, self.next_seq = row[:5]
        self.cancel = bool(cancel)
        self.was = self.next_seq
        self.is_moved = self.has_moved_parts = False
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

    @property
    def _is_held_back(self) -> bool:
        """Whether its main segment has to wait until no side segment is held, so that nothing begins after its end."""
        return self.cancel and any(part.holder is not None for part in self._sides())

    def _sides(self) -> Iterator[Part]:
        return (part for number, part in self.segments.items() if number != MAIN)

    # ------------------------------------------------------------------------------------------------------- moving
    def move(self, state: JobState, reason: str | None) -> None:
        """Move to another state.

        Raises:
            StateTransitionError: The state machine does not have it.
        """
        check_transition(JobState(self.state), state)
        self.state, self.reason, self.is_moved = state.value, reason, True

    def _move_part(self, part: Part, state: str, ready_at: float | None = None) -> None:
        """Let nobody hold a segment any more."""
        part.state, part.holder, part.ready_at = state, None, ready_at
        part.is_moved = self.has_moved_parts = True

    def settle(self, state: JobState, reason: str | None, now: float) -> None:
        """End, with all segments."""
        self.move(state, reason)
        self.ended_at = now
        for part in self.segments.values():
            if part.state != "ended":
                self._move_part(part, "ended")

    def free(self, holders: Collection[str]) -> list[int]:
        """Let the segments that these hold be claimed again; return their numbers."""
        freed = [number for number, part in self.segments.items() if part.holder in holders]
        for number in freed:
            self._move_part(self.segments[number], "queued")
        if MAIN in freed and self.state == JobState.RUNNING:
            self.move(JobState.QUEUED, None)
        if freed and self.cancel:
            self.hold_back()
        return freed

    # ------------------------------------------------------------------------------------------------ main segments
    def pause(self, part: Part, pause: Pause, *, has_news: bool) -> None:
        """Lay the main segment down; it may be claimed at once where there is news that its holder did not know."""
        is_stuck = pause.reason == "handed_out" and all(side.state == "ended" for side in self._sides())
        is_due = has_news or is_stuck or self.cancel or pause.reason == "shutdown"
        if pause.reason != "handed_out":
            self.move(JobState.QUEUED if is_due else JobState.WAITING, pause.reason)
        if is_due and not self._is_held_back:
            self._move_part(part, "queued")
        else:
            self._move_part(part, "waiting", None if is_due else pause.until)

    def _wake_main(self) -> None:
        main = self.segments[MAIN]
        if main.state == "waiting" and not self._is_held_back:
            self._move_part(main, "queued")
            if self.state == JobState.WAITING:
                self.move(JobState.QUEUED, None)

    def wake(self) -> None:
        """Let segments that wait be claimed."""
        self._wake_main()
        for side in self._sides():
            if side.state == "waiting":
                self._move_part(side, "queued")

    def ask_to_stop(self) -> None:
        """Take note that somebody asked to stop the job."""
        self.cancel = self.is_moved = True
        self.hold_back()

    def hold_back(self) -> None:
        """Begin nothing more, now that somebody asked to stop: but the main segment, when no side one is held."""
        for side in self._sides():
            if side.holder is None and side.state != "ended":
                self._move_part(side, "ended")
        main = self.segments[MAIN]
        if main.state == "queued" and self._is_held_back:
            self._move_part(main, "waiting")
        elif main.state == "waiting":
            self._move_part(main, "waiting")  # for no time any more
            self._wake_main()

    # ------------------------------------------------------------------------------------------------ side segments
    def begin(self, state: str, ready_at: float | None = None) -> None:
        """Have a main segment, that nobody has claimed."""
        main = self.segments[MAIN] = Part(state, 0, None)
        self._move_part(main, state, ready_at)

    @staticmethod
    def check_side(known: set[int], number: int, *, is_new: bool) -> None:
        """See that a side segment can be made, or ended, where these segments are known; a new one is added to them.

        Raises:
            ValueError: It cannot: there is one of this number already, or none.
        """
        if (number in known) == is_new or number == MAIN:
            raise ValueError(f"the job has {'already' if is_new else 'no'} side segment {number}")
        known.add(number)

    def hand_out(self, number: int) -> Part:
        """Have a further side segment, that nobody has claimed."""
        side = self.segments[number] = Part("queued", 0, None)
        self._move_part(side, "ended" if self.cancel else "queued")
        return side

    def take_back(self, number: int) -> None:
        """End a side segment, whoever holds it."""
        self.end_side(self.segments[number])

    def end_side(self, side: Part, *, cancels: bool = False) -> None:
        """End a side segment, and ask to stop the job where that is its doing; a main one that waits may be claimed."""
        if side.state != "ended":
            self._move_part(side, "ended")
            if cancels:
                self.ask_to_stop()
            self._wake_main()

    def pause_side(self, side: Part, pause: Pause, *, has_news: bool) -> None:
        """Lay a side segment down; nothing else moves, unless somebody asked to stop."""
        if self.cancel:
            self.end_side(side)
        elif has_news or pause.reason == "shutdown":
            self._move_part(side, "queued")
        else:
            self._move_part(side, "waiting", pause.until)


def standing_of(rows: Iterable[Sequence[Any]]) -> dict[str, Standing]:
    """Return where jobs stand, by their ids, from what the query `standing` gives for them."""
    jobs: dict[str, Standing] = {}
    for row in rows:
        standing = jobs.get(row[0])
        if standing is None:
            standing = jobs[row[0]] = Standing(row)
        standing.segments[row[5]] = Part(*row[6:])
    return jobs
