"""What a process does for its ledger, beside handing in and looking."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from millstream.execution.journal import Journal


@dataclass(frozen=True, slots=True)
class Role:
    """What a process does for its ledger, beside handing in and looking.

    Attributes:
        executes: Whether it executes segments.
        slots: How many at once, 1 or more; `None`: as many as the setting `max_segments` says.
        queues: Only those of these queues, `None` among them for the default one; `None`: of all.
        is_gated: Whether it takes segments only while a message of the broker has it work.
        journal: Is told what it executes, where somebody wants to know: a worker's log.
        serves: Whether it answers requests: then it is a member of its ledger also where it executes nothing.
    """

    executes: bool
    slots: int | None = None
    queues: Collection[str | None] | None = None
    is_gated: bool = False
    journal: Journal | None = None
    serves: bool = False

    @property
    def is_member(self) -> bool:
        """Whether it is a member of its ledger, and not one who merely hands in and looks."""
        return self.executes or self.serves
