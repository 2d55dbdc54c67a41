"""What is handed to the writer: each item knows what is to be written, and whom to tell what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from millstream.ledger.base import (
    Claim,
    End,
    FencedError,
    LedgerUnavailableError,
    Recorded,
    RefusedRecordError,
    StorageFullError,
)
from millstream.ledger.database import Connection
from millstream.ledger.rows import NewJob
from millstream.model.event import Draft


class Item:
    """Something to write.

    Attributes:
        loop: Where `deliver` is called.
        outcome: What became of it; set again where a transaction is made again.
        rows: How many rows it is, roughly.
        holder: The member for which it is tried again for as long as the ledger is full or unreachable.
        large: The values that it refers to and that are too large for their rows, by digest.
    """

    __slots__ = ("holder", "large", "loop", "outcome", "rows")

    def __init__(self, rows: int = 1) -> None:
        """Belong to the running loop."""
        self.loop = asyncio.get_running_loop()
        self.outcome: Any = None
        self.rows = rows
        self.holder: str | None = None
        self.large: dict[str, bytes] = {}

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return True

    def refuse(self, error: Exception) -> None:
        """Take the error that it failed with."""
        self.outcome = error

    def deliver(self) -> None:
        """Tell what became of it; called on the loop, once."""
        raise NotImplementedError


class Record(Item):
    """What happened in a segment.

    Attributes:
        data: The drafts' data, written down.
        values: A settlement's result and error, written down.
        now: The time.
    """

    __slots__ = ("claim", "data", "done", "drafts", "end", "now", "values")

    def __init__(self, claim: Claim, drafts: Sequence[Draft], end: End | None, done: Recorded, now: float) -> None:
        """Take what `Ledger.record` is given."""
        super().__init__(len(drafts) + 1)
        self.holder = claim.holder
        self.claim = claim
        self.drafts = drafts
        self.end = end
        self.done = done
        self.now = now
        self.data: Sequence[bytes | None] = ()
        self.values: tuple[bytes | None, bytes | None] = (None, None)

    def refuse(self, error: Exception) -> None:
        """Take an error; what is neither a fence nor about the whole ledger is about what it holds."""
        if isinstance(error, LedgerUnavailableError | StorageFullError):
            error = FencedError(f"a record of job {self.claim.job.id} could not be written in time: {error}")
        elif not isinstance(error, FencedError):
            refused = RefusedRecordError(f"a record of job {self.claim.job.id} cannot be written: {error}")
            refused.__cause__ = error
            error = refused
        self.outcome = error, ()

    def deliver(self) -> None:
        """Call `done`."""
        self.done(*self.outcome)


class Ask(Item):
    """Something whose answer a coroutine waits for."""

    __slots__ = ("future",)

    def __init__(self, rows: int = 1) -> None:
        """Begin with no answer."""
        super().__init__(rows)
        self.future: asyncio.Future[Any] = self.loop.create_future()

    @property
    def is_wanted(self) -> bool:
        """Whether somebody still waits for it."""
        return not self.future.done()

    def deliver(self) -> None:
        """Give the answer to whoever waits."""
        if self.future.done():
            self.lost()
        elif isinstance(self.outcome, Exception):
            self.future.set_exception(self.outcome)
        else:
            self.future.set_result(self.outcome)

    def lost(self) -> None:
        """Take note that nobody waits for the answer any more."""


class Submit(Ask):
    """A new job.

    Attributes:
        new: The job, written down.
        claim_for: Who claims it in the same breath.
        now: The time.
        release: Called with a claim that nobody waits for any more.
    """

    __slots__ = ("claim_for", "new", "now", "release")

    def __init__(self, new: NewJob, claim_for: str | None, now: float, release: Callable[[Claim], None]) -> None:
        """Take what `Ledger.submit` is given."""
        super().__init__(len(new.drafts) + len(new.aliases) + 3)
        self.new = new
        self.large = new.large
        self.claim_for = claim_for
        self.now = now
        self.release = release

    def lost(self) -> None:
        """Let others have what was claimed for whoever waited."""
        if isinstance(self.outcome, tuple) and self.outcome[1] is not None:
            self.release(self.outcome[1])


class Change(Ask):
    """An answer to a wait, where `node` names one; else a wish to cancel."""

    __slots__ = ("data", "drafts", "job_id", "node", "now")

    def __init__(self, job_id: str, node: str | None, drafts: Sequence[Draft], now: float) -> None:
        """Take what `Ledger.answer` or `Ledger.cancel` is given."""
        super().__init__(len(drafts) + 1)
        self.job_id = job_id
        self.node = node
        self.drafts = drafts
        self.now = now
        self.data: Sequence[bytes | None] = ()


class Task(Ask):
    """Anything else: a function that is given the writer's connection, in a transaction of its own.

    Args:
        work: The function; called again where the transaction is made again.
        release: Gets the claims that it returned to nobody.
    """

    __slots__ = ("release", "work")

    def __init__(self, work: Callable[[Connection], Any], release: Callable[[Claim], None] | None = None) -> None:
        """Take the function."""
        super().__init__()
        self.work = work
        self.release = release

    def lost(self) -> None:
        """Let others have what was claimed for whoever waited."""
        if self.release is not None and isinstance(self.outcome, list):
            for claim in self.outcome:
                self.release(claim)
