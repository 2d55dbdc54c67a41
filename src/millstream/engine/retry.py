"""Whether an attempt is repeated, and after how long: the only home of retry arithmetic."""

from __future__ import annotations

from collections.abc import Callable

from millstream.clock import chance
from millstream.model.failure import Failure
from millstream.model.policy import Policy

RETRY = "millstream.errors:Retry"
REJECT = "millstream.errors:Reject"

_UNKNOWN_OUTCOMES = ("millstream.errors:ProcessDiedError", "millstream.errors:TaskTimeoutError")
"""Failures after which nobody knows whether the attempt had its effect."""


def delay_before(policy: Policy, attempt: int, failure: Failure, draw: Callable[[], float] = chance) -> float | None:
    """Return the seconds until the next attempt, or `None` where there is none.

    The delay doubles with each attempt up to `retry_backoff_max`, and jitter draws it evenly from [0, delay] ("full
    jitter"; Celery's `retry_backoff` and `retry_jitter` do the same).

    Args:
        policy: The node's policy.
        attempt: The attempt that failed, from 1.
        failure: What it raised. `Retry` is repeated whatever `retry_for` says, after its own delay and up to its own
            limit if it has them; `Reject` only where it says so.
        draw: Gives a random number in [0, 1).

    >>> from millstream.model.failure import record_failure
    >>> policy = Policy(retries=3, retry_backoff=2.0, retry_jitter=False)
    >>> delay_before(policy, 3, record_failure(OSError()))
    8.0
    """
    if REJECT in failure.ancestors:
        return failure.delay
    asked_for = RETRY in failure.ancestors
    limit = policy.retries if failure.limit is None else failure.limit
    if attempt > limit or not (asked_for or is_retried(policy, failure)):
        return None
    if asked_for and failure.delay is not None:
        return failure.delay
    delay = min(policy.retry_backoff * 2.0 ** min(attempt - 1, _MOST_DOUBLINGS), policy.retry_backoff_max)
    return delay * draw() if policy.retry_jitter else delay


_MOST_DOUBLINGS = 60


def is_retried(policy: Policy, failure: Failure) -> bool:
    """Whether the policy's `retry_for` names the exception's class or one that it descends from."""
    return not set(policy.retry_for).isdisjoint(failure.ancestors)


def is_requeued(failure: Failure) -> bool:
    """Whether the attempt was rejected only to be made again, which does not count."""
    return REJECT in failure.ancestors and failure.delay is not None


def is_outcome_unknown(policy: Policy, failure: Failure) -> bool:
    """Whether nobody knows if the attempt had its effect, of a task for which that matters (`effect="once"`)."""
    return policy.effect == "once" and failure.type in _UNKNOWN_OUTCOMES
