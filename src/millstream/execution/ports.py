"""What execution needs of a backend, and what a backend is given: two small protocols."""

from __future__ import annotations

from typing import Protocol

from millstream.ledger.base import Claim


class Dispatcher(Protocol):
    """Brings segments to where they execute."""

    def can_take(self) -> bool:
        """Whether this process has a slot free, so that a submit may claim for it at once."""

    def take(self, claim: Claim) -> None:
        """Execute a segment that was claimed for this process."""

    def wake(self) -> None:
        """Say that there may be queued segments."""


class Canceller(Protocol):
    """Stops what runs."""

    def cancel(self, job_id: str) -> None:
        """Stop a job's segments if they run here; else nothing happens."""

    def has(self, job_id: str) -> bool:
        """Whether a job's segments run here, or did until they were stopped a while ago."""


class Executor(Dispatcher, Canceller, Protocol):
    """Brings segments to where they execute, and stops them."""
