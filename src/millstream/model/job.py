"""The states of jobs and nodes, and which may follow which: the only home of the state machine."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any, Literal

import msgspec

from millstream.errors import StateTransitionError
from millstream.model.failure import Failure


class JobState(StrEnum):
    """Where a job stands. The last three are final."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether a job in this state stays in it."""
        return self in FINAL_STATES


FINAL_STATES = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})

Reason = Literal[
    "error",
    "timeout",
    "expired",
    "poison",
    "rejected",
    "cancel",
    "shutdown",
    "timer",
    "approval",
    "decision",
    "code",
    "internal",
]
"""Why a job is in its state, where the state alone does not say it.

`poison`: a node killed every process it ran in. `rejected`: a task refused what it was given (`Reject`). `timer`,
`approval`, `decision`: what a job that waits waits for; a decision is due where nobody knows whether a node that must
run only once has run. `code`: who took it does not know all of its code.
"""

Durability = Literal["full", "relaxed", "off"]
"""How safe a job is. `full`: what was answered is on disk. `relaxed`: answers come before the commit, which follows
within 50 ms. `off`: the job lives in the memory of its process and ends with it."""

_NEXT: dict[JobState, frozenset[JobState]] = {
    JobState.SCHEDULED: frozenset({JobState.QUEUED, JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}),
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset({JobState.QUEUED, JobState.WAITING, *FINAL_STATES}),
    JobState.WAITING: frozenset({JobState.QUEUED, JobState.RUNNING, *FINAL_STATES}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def check_transition(now: JobState, then: JobState) -> None:
    """Refuse a move that the state machine does not have.

    Raises:
        StateTransitionError: `then` may not follow `now`.

    >>> check_transition(JobState.RUNNING, JobState.SUCCEEDED)
    """
    if then not in _NEXT[now]:
        message = f"a job that is {now} cannot become {then}"
        raise StateTransitionError(message)


class NodeState(IntEnum):
    """Where a node stands in the plan; from `SUCCEEDED` on it has ended."""

    PENDING = 0
    READY = 1
    SUCCEEDED = 2
    FAILED = 3
    SKIPPED = 4
    UPSTREAM_FAILED = 5
    CANCELLED = 6

    @property
    def label(self) -> str:
        """The state's public name, such as `upstream_failed`."""
        return self.name.lower()


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One submission of a flow or task, as the ledger records it.

    Attributes:
        id: A UUID of version 7.
        flow: Registered name of the flow or task.
        version: Digest of its definition.
        graph: Digest of its graph.
        state: Where it stands.
        reason: Why, where one is due.
        cancel_requested: Whether someone asked to stop it.
        priority: 0 to 9; the higher is claimed first.
        inputs: The inputs by name.
        result: What it returned; `None` until it succeeded.
        error: What failed it.
        created_at: When it was submitted; seconds since the epoch, UTC.
        started_at: When it was first claimed.
        ended_at: When it reached its final state.
        starts_at: When it may start at the earliest (`eta`); a job that is `scheduled` waits for it.
        expires_at: When it fails unless it has started.
        idempotency_key: The caller's key; one key never makes two jobs.
        durability: How safe it is.
        parent: Task id of the running task that submitted it.
        queue: The queue that its main segment is claimed from; `None` for the default one.
        owner: Id of the user whose it is; `None` where nobody was named.
        is_interactive: Whether it is cancelled when nobody who looked at it does any more.
    """

    id: str
    flow: str
    version: str
    graph: str
    state: JobState
    created_at: float
    inputs: dict[str, Any] = {}
    reason: Reason | None = None
    cancel_requested: bool = False
    priority: int = 0
    result: Any = None
    error: Failure | None = None
    started_at: float | None = None
    ended_at: float | None = None
    starts_at: float | None = None
    expires_at: float | None = None
    idempotency_key: str | None = None
    durability: Durability = "full"
    parent: str | None = None
    queue: str | None = None
    owner: str | None = None
    is_interactive: bool = False


class Decision(msgspec.Struct, frozen=True, tag=True):
    """What people decide of a node that must run only once, where nobody knows whether it has run.

    Attributes:
        what: `repeat` runs it (again), `done` takes `value` as its result, `fail` fails it.
        value: Its result, for `done`.
    """

    what: Literal["repeat", "done", "fail"]
    value: Any = None


class NodeResult(msgspec.Struct, frozen=True, gc=False):
    """How one node of a job ended, as the ledger records it.

    Attributes:
        path: Its place in the job, such as `fetch`, `multiply[3]` or `report/join`.
        state: How it ended.
        attempt: Which attempt ended it, from 1; 0 where it never started.
        value: What it returned.
        error: What failed it.
    """

    path: str
    state: NodeState
    attempt: int
    value: Any = None
    error: Failure | None = None
