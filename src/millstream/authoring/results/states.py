"""The states of a result, under the names that Celery gave them."""

from __future__ import annotations

PENDING = "PENDING"
STARTED = "STARTED"
RETRY = "RETRY"
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVOKED = "REVOKED"
REJECTED = "REJECTED"
IGNORED = "IGNORED"

READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED, REJECTED, IGNORED})
"""States in which a result stays. (In Celery whoever waits for a rejected or ignored task waits for ever.)"""

RAISING_STATES = frozenset({FAILURE, REVOKED, REJECTED})
"""States in which `get` raises."""

OF_ENDS = {
    "node_succeeded": SUCCESS,
    "node_failed": FAILURE,
    "node_skipped": IGNORED,
    "node_upstream_failed": FAILURE,
    "node_cancelled": REVOKED,
}
"""Of the events that are a node's end."""

OF_JOBS = {"succeeded": SUCCESS, "failed": FAILURE, "cancelled": REVOKED}
"""Of the final states of a job."""

OF_REASONS = {"expired": REVOKED, "rejected": REJECTED}
"""Of the reasons for which a job failed, where they say more."""

OF_FAILURES = {"millstream.errors:ExpiredError": REVOKED, "millstream.errors:Reject": REJECTED}
"""Of the failures of a node, by the name of their class, where they say more."""
