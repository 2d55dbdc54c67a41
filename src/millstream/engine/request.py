"""What a running attempt is told about itself: `self.request` of a bound task."""

from __future__ import annotations

from typing import Any

import msgspec

STAMPS = "stamps"
"""Key of a node's headers under which its stamps stand; in a request they stand apart."""


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt of a task, as the task itself sees it; made when it is asked for.

    Names and meanings are those of Celery's `task.request`, as far as there is something true to say here.

    Attributes:
        id: Task id of the node: `<job id>.<node>`, or the `task_id` that it was given.
        root_id: Id of the job.
        parent_id: Task id of the first task that comes before it in its graph; where none does, of the running task
            that submitted the job; `None` without one.
        correlation_id: As `id`.
        job_id: Id of the job.
        node: Path of the node in the job.
        task: Name of the task.
        retries: Attempts before this one that count towards `max_retries`: 0 in the first.
        max_retries: Attempts after the first one that the node's policy allows.
        args: Arguments by position, without `self`; `None` where several items of a map share the attempt.
        kwargs: Arguments by name; `None` likewise.
        headers: What the signature's option `headers` gave; `None` without.
        stamps: What the signature was stamped with, by name (see `Signature.stamp`).
        stamped_headers: The names of the stamps; `None` without.
        timelimit: Seconds of the time-outs as (`timeout`, `soft_timeout`), each `None` where there is none.
        expires: When the node must have started; ISO 8601, UTC.
        eta: When the job was to start at the earliest; ISO 8601, UTC.
        delivery_info: `routing_key` (the queue), `priority` (the node's own, else the job's), `redelivered` (whether
            this attempt may have begun before, since its job goes on after a pause or a crash, or it was rejected with
            `requeue`) and `is_eager`.
        group: Id of the job, where the node is a member of a group or of a chord's header.
        group_index: Which member it is, from 0.
        chord: Task id of the node that joins the members, where its members may add to it (`self.add_to_chord`).
        hostname: Name of the machine.
        owner: Id of the user whose job it is, and whose jobs it submits; `None` without.
        called_directly: Whether no job runs the task: it was called like any function.
        is_eager: Whether it runs in place of being handed in (`apply`, or an eager backend).
    """

    id: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    correlation_id: str | None = None
    job_id: str | None = None
    node: str | None = None
    task: str | None = None
    retries: int = 0
    max_retries: int = 0
    args: tuple[Any, ...] | None = None
    kwargs: dict[str, Any] | None = None
    headers: dict[str, Any] | None = None
    stamps: dict[str, Any] = {}
    stamped_headers: list[str] | None = None
    timelimit: tuple[float | None, float | None] = (None, None)
    expires: str | None = None
    eta: str | None = None
    delivery_info: dict[str, Any] = {}
    group: str | None = None
    group_index: int | None = None
    chord: str | None = None
    hostname: str | None = None
    owner: str | None = None
    called_directly: bool = False
    is_eager: bool = False

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute by its name, as Celery's requests have it.

        >>> Request(retries=2).get("retries"), Request().get("no_such_thing", "none")
        (2, 'none')
        """
        return getattr(self, name, default)


DIRECT = Request(called_directly=True)
"""The request of a task that no job runs."""
