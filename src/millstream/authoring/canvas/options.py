"""The options of signatures: which of them say how a node runs, which go to the job, and which mean nothing here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from millstream.authoring.canvas.stamps import STAMPED, stamp_names
from millstream.clock import SystemClock
from millstream.errors import DefinitionError
from millstream.model.policy import CELERY_NAMES, Policy

JOB_OPTIONS = frozenset({"countdown", "eta", "expires", "priority", "idempotency_key"})
"""Of the options of the whole canvas, those that go to its job; inside a canvas they hold for the node."""

POLICY_OPTIONS = frozenset({*Policy.__struct_fields__, *CELERY_NAMES})
"""What changes the policy of a node."""

NODE_OPTIONS = POLICY_OPTIONS | {"countdown", "eta", "headers", "link", "link_error", "task_id", STAMPED}
"""What has a meaning for a node, besides its stamps."""

BROKER_OPTIONS = frozenset(
    {
        *("add_to_parent", "chain", "chord", "compression", "connection", "content_encoding", "content_type"),
        *("delivery_mode", "exchange", "exchange_type", "group_id", "group_index", "ignore_result", "immediate"),
        *("interval", "mandatory", "parent_id", "producer", "publisher", "reply_to", "result_cls", "retry"),
        *("retry_policy", "root_id", "route_name", "router", "routing_key", "serializer", "shadow"),
    }
)
"""What speaks of messages, brokers and result backends, of which there are none: refused, unless dropped before."""

_LEAST_SECONDS = 0.001


def check_options(options: Mapping[str, Any], where: str) -> None:
    """Refuse options that mean nothing.

    Raises:
        DefinitionError: There is one; the message names all of them.
    """
    if options.keys() <= NODE_OPTIONS:
        return
    wrong = sorted(options.keys() - NODE_OPTIONS - set(stamp_names(options)))
    if not wrong:
        return
    of_broker = [name for name in wrong if name in BROKER_OPTIONS]
    if of_broker:
        raise DefinitionError(f"{where}: {', '.join(of_broker)} has no meaning without a broker; leave it out")
    raise DefinitionError(
        f"{where}: there is no option {', '.join(wrong)}; known are {', '.join(sorted(NODE_OPTIONS))}"
    )


def policy_changes(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return what options change of a policy, under the policy's names."""
    if not options:
        return {}
    changes = {CELERY_NAMES.get(name, name): options[name] for name in POLICY_OPTIONS & options.keys()}
    changes = {name: value for name, value in changes.items() if value is not None}
    if isinstance(changes.get("expires"), str | datetime):
        left = instant(changes["expires"]).timestamp() - SystemClock.now()
        changes["expires"] = max(left, _LEAST_SECONDS)
    return changes


def instant(value: str | datetime) -> datetime:
    """Return a point in time, also where it was written as text; without a time zone it is UTC.

    Raises:
        DefinitionError: It is none.
    """
    try:
        point = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        point = None
    if not isinstance(point, datetime):
        raise DefinitionError(f"{value!r} is no point in time; give a datetime, or its text in ISO 8601")
    return point if point.tzinfo else point.replace(tzinfo=UTC)


def delay_of(options: Mapping[str, Any]) -> Any:
    """Return how long, or until when, options put a task off; `None` where they do not.

    Raises:
        DefinitionError: What they say is no length of time, or no point in time.
    """
    countdown = options.get("countdown")
    if countdown is not None:
        if not isinstance(countdown, int | float | timedelta):
            raise DefinitionError(f"countdown is {countdown!r}, but must be a number of seconds, 0 or more")
        return countdown
    eta = options.get("eta")
    return None if eta is None else instant(eta)
