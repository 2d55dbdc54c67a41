"""What a server tells, as typed values. Fields that a newer server adds are ignored."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """What failed something.

    Attributes:
        type: The exception's class, as `module:name`.
        message: What it says.
        node: The node that it failed.
        traceback: Where it happened; `None` for who does not own the job.
    """

    type: str
    message: str
    node: str | None = None
    traceback: str | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One time that a process took a job up: which, from 1, who, and when."""

    attempt: int
    at: datetime
    process: str | None = None


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """How one node of a job goes.

    Attributes:
        node: Its path in the job.
        state: `running`, `waiting`, `retrying`, `ready`, or how it ended.
        attempt: The last attempt; 0 where it never started.
        at: When it came to that state.
        reason: What it waits for: `timer`, `approval` or `decision`.
        until: When it goes on, where that is known.
        question: What an approval asks.
        error: What failed its last attempt.
    """

    node: str
    state: str
    attempt: int
    at: datetime
    reason: str | None = None
    until: datetime | None = None
    question: Any = None
    error: Failure | None = None


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job.

    Attributes:
        job_id: Its id.
        flow: The flow or task.
        flow_name: What people call it, where it is a stored flow that is still there.
        version: Digest of its definition.
        state: `scheduled`, `queued`, `running`, `waiting`, `succeeded`, `failed` or `cancelled`.
        reason: Why, where the state alone does not say it.
        cancel_requested: Whether somebody asked to stop it.
        priority: 0 to 9; the higher starts first.
        durability: How safe it is.
        parent: The task that submitted it, where one did.
        owner: Id of the user whose job it is.
        created_at: When it was submitted.
        starts_at: When it may start at the earliest.
        expires_at: When it fails unless it has started.
        started_at: When it started.
        ended_at: When it ended.
        inputs: Its inputs by name.
        result: What it returned.
        error: What failed it.
        result_is_repr: Whether the result has no form in JSON, so that this is how Python shows it.
        repeats: The job that it repeats; like the rest, told of a single job only.
        attempts: The processes that took it up.
        nodes_known: How many nodes it has, as far as is known.
        nodes: Those that something has happened to.
    """

    job_id: str
    flow: str
    state: str
    created_at: datetime
    flow_name: str | None = None
    version: str = ""
    reason: str | None = None
    cancel_requested: bool = False
    priority: int = 0
    durability: str = "full"
    parent: str | None = None
    owner: str | None = None
    starts_at: datetime | None = None
    expires_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    inputs: dict[str, Any] = {}
    result: Any = None
    error: Failure | None = None
    result_is_repr: bool = False
    repeats: str | None = None
    attempts: list[Attempt] = []
    nodes_known: int = 0
    nodes: list[Node] = []

    @property
    def has_ended(self) -> bool:
        """Whether it stays as it is."""
        return self.state in ("succeeded", "failed", "cancelled")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a job.

    Attributes:
        cursor: Its place; reading after it gives what follows.
        type: What happened; the last one is `ended`.
        at: When.
        node: The node that it is about.
        data: What else there is to say.
    """

    cursor: str
    type: str
    at: datetime
    node: str | None = None
    data: Any = None


class BuildEvent(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a build, as a canvas shows it: `end_vertex`, `token`, … and at last `end`."""

    event: str
    data: Any = None


class TaskStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How a task stands, under Celery's names; the result of a failed one is its `type` and `message`."""

    task_id: str
    status: str
    result: Any = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one of the jobs that something was done to.

    Attributes:
        job_id: Its id.
        is_done: Whether what was asked is done.
        said: The same in words.
        is_known: Whether there is such a job.
        new_job_id: Of a retry, the new job.
        state: Of a cancel, where the job stands.
        cancel_requested: Of a cancel, whether the job was asked to stop.
    """

    job_id: str
    is_done: bool
    said: str
    is_known: bool = True
    new_job_id: str | None = None
    state: str | None = None
    cancel_requested: bool | None = None


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """An answer for each job, and whether more jobs were chosen than one request is for: ask again."""

    answers: list[Answer]
    more: bool = False


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """How a job stands that was asked to stop: `cancelled`, or as before while it still stops."""

    job_id: str
    state: str
    cancel_requested: bool = True


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """A flow that is kept on the server, or one in Python that it has loaded (`is_read_only`).

    Attributes:
        id: Its id.
        name: Its name.
        description: What people read.
        data: The document, of a kept flow.
        endpoint_name: A name for URLs.
        project_id: The project that it lies in.
        version: From 1; each change adds 1.
        is_read_only: Whether it can only be run.
        inputs: JSON schema of the inputs, of one in Python.
        created_at: When it was made.
        updated_at: When it was changed last.
        etag: What a change may name as the version that it is for.
    """

    id: str
    name: str
    description: str = ""
    data: dict[str, Any] | None = None
    endpoint_name: str | None = None
    project_id: str | None = None
    version: int = 1
    is_read_only: bool = False
    inputs: dict[str, Any] | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    etag: str | None = None


class RunResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to: a list with what was given, and the outputs of the flow."""

    session_id: str
    outputs: list[dict[str, Any]]


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user of the server."""

    id: str
    username: str
    is_superuser: bool = False


Act = Literal["cancel", "retry", "purge"]
"""What can be done to many jobs at once."""
