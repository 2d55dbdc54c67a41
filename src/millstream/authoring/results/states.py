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
