"""What a task's attributes in Celery's names mean as a policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from millstream.compat.app.routes import route
from millstream.model.policy import Policy, revise_policy

if TYPE_CHECKING:  # a task asks for its policy
    from millstream.compat.app.task import Task

ATTRIBUTES: Final = ("acks_late", "expires", "max_retries", "priority", "queue", "soft_time_limit", "time_limit")
"""Attributes of a task that say how it is run."""

OWN_POLICIES: Final = tuple(
    name for name in Policy.__struct_fields__ if name not in ("expires", "priority", "queue", "retry_for")
)
"""Policies that a task may also have under millstream's name for them."""

_AT_MOST: Final = 1_000_000


def policy_of(task: Task, base: Policy) -> Policy:
    """Return how a task is run.

    `acks_late` decides what happens to a task whose process died. On, or not set at all, it is run again
    (`effect="idempotent"`): what Celery does with `acks_late` and `reject_on_worker_lost`. Set to `False`, on the
    task or by `task_acks_late`, it is never run twice (`effect="once"`): Celery loses such a task without a word, here
    its job waits for a decision.

    No exception is retried by itself, as in Celery: `self.retry()` and `autoretry_for` ask for that.

    Raises:
        DefinitionError: An attribute is out of range.
    """
    conf = task.app.conf
    routed = route(task.app, task.name)
    changes: dict[str, Any] = {
        "retries": _AT_MOST if task.max_retries is None else task.max_retries,
        "retry_for": (),
        "timeout": _first(task.time_limit, conf.task_time_limit),
        "soft_timeout": _first(task.soft_time_limit, conf.task_soft_time_limit),
        "priority": _first(routed.get("priority"), task.priority, conf.task_default_priority, 0),
        "queue": _name(_first(routed.get("queue"), task.queue, conf.task_default_queue)),
    }
    hard, soft = changes["timeout"], changes["soft_timeout"]
    if hard is not None and soft is not None and soft >= hard:  # it would never come to it
        del changes["soft_timeout"]
    if isinstance(task.expires, int | float):
        changes["expires"] = float(task.expires)
    acks_late = task.acks_late
    if acks_late is None and conf.value_set_for("task_acks_late"):
        acks_late = conf.task_acks_late
    if acks_late is not None:
        changes["effect"] = "idempotent" if acks_late else "once"
    changes.update(own_policies(vars(type(task)), vars(task)))
    return revise_policy(base, changes, where=f"task {task.name}")


def own_policies(*places: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said in millstream's own names of policies; back-off is said in the same names by both."""
    found = {name: place[name] for place in places for name in OWN_POLICIES if name in place}
    if "retries" in found:
        found["retry_for"] = Policy().retry_for
    return {name: value for name, value in found.items() if not name.startswith("retry_") or name == "retry_for"}


def _first(*values: Any) -> Any:
    return next((value for value in values if value is not None), None)


def _name(queue: Any) -> str:
    """Return a queue's name; it may be one of Kombu's queues."""
    return str(getattr(queue, "name", queue))
