"""Retry arithmetic: whether an attempt is repeated, and after how long."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream import Policy, Retry
from millstream.engine.retry import delay_before, is_retried
from millstream.model.failure import Failure, record_failure
from millstream.model.policy import DEFAULT_POLICY, revise_policy

FAILURE = record_failure(OSError("gone"))


def policy(**changes: Any) -> Policy:
    return revise_policy(DEFAULT_POLICY, changes, where="task")


def delay(attempt: int, failure: Failure = FAILURE, draw: float = 0.5, **changes: Any) -> float | None:
    return delay_before(policy(**changes), attempt, failure, lambda: draw)


# ------------------------------------------------------------------------------------------------------ whether
def test_by_default_nothing_is_repeated() -> None:
    assert delay(1) is None


@pytest.mark.parametrize("retries", [1, 2, 7])
def test_there_are_as_many_further_attempts_as_retries(retries: int) -> None:
    given_delays = [delay(attempt, retries=retries) for attempt in range(1, retries + 3)]
    assert given_delays == [0.0] * retries + [None, None]


@pytest.mark.parametrize(
    ("retry_for", "error", "is_repeated"),
    [
        (OSError, FileNotFoundError("x"), True),
        (OSError, OSError("x"), True),
        (FileNotFoundError, OSError("x"), False),
        ((ValueError, OSError), ConnectionResetError("x"), True),
        ((ValueError, OSError), KeyError("x"), False),
        (("builtins:ValueError",), UnicodeError("x"), True),
        (Exception, SystemExit(1), False),
        (BaseException, SystemExit(1), True),
        ((), OSError("x"), False),
    ],
)
def test_classes_count_with_their_descendants(retry_for: Any, error: BaseException, *, is_repeated: bool) -> None:
    failure = record_failure(error)
    assert is_retried(policy(retry_for=retry_for), failure) == is_repeated
    assert (delay(1, failure, retries=1, retry_for=retry_for) is not None) == is_repeated


# ------------------------------------------------------------------------------------------------------ how long
def test_the_delay_doubles_up_to_its_bound() -> None:
    options: dict[str, Any] = {"retries": 99, "retry_backoff": 2.0, "retry_backoff_max": 20.0, "retry_jitter": False}
    assert [delay(attempt, **options) for attempt in range(1, 7)] == [2.0, 4.0, 8.0, 16.0, 20.0, 20.0]


def test_true_means_one_second() -> None:
    assert delay(1, retries=1, retry_backoff=True, retry_jitter=False) == 1.0
    assert delay(1, retries=1, retry_backoff=False, retry_jitter=False) == 0.0


def test_without_a_back_off_it_is_repeated_at_once() -> None:
    assert delay(50, retries=99) == 0.0


@pytest.mark.parametrize(("draw", "expected"), [(0.0, 0.0), (0.25, 2.0), (0.999, 7.992)])
def test_jitter_takes_a_part_of_the_delay(draw: float, expected: float) -> None:
    assert delay(3, draw=draw, retries=3, retry_backoff=2.0) == pytest.approx(expected)


def test_jitter_is_drawn_anew_each_time() -> None:
    jittery = policy(retries=1, retry_backoff=10.0)
    assert len({delay_before(jittery, 1, FAILURE) for _ in range(50)}) > 40


@given(
    attempt=st.integers(1, 10_000),
    backoff=st.floats(0, 1e6),
    most=st.floats(0, 1e6),
    draw=st.floats(0, 1, exclude_max=True),
    jitter=st.booleans(),
)
def test_a_delay_is_never_negative_nor_over_its_bound(
    attempt: int, backoff: float, most: float, draw: float, *, jitter: bool
) -> None:
    found = delay(
        attempt, draw=draw, retries=10_000, retry_backoff=backoff, retry_backoff_max=most, retry_jitter=jitter
    )
    assert found is not None
    assert math.isfinite(found)
    assert 0 <= found <= most
    if not jitter:
        assert found == min(most, backoff * 2.0 ** min(attempt - 1, 60))


# ------------------------------------------------------------------------------------------------------ asked for
def test_a_task_that_asks_gets_its_own_delay_whatever_retry_for_says() -> None:
    asked = record_failure(Retry("not ready", delay=7.5))
    assert delay(1, asked, retries=1, retry_for=KeyError, retry_backoff=100.0) == 7.5
    assert delay(1, record_failure(Retry(delay=0)), retries=1, retry_backoff=100.0) == 0


def test_without_a_delay_of_its_own_the_back_off_decides() -> None:
    asked = record_failure(Retry())
    assert delay(2, asked, retries=2, retry_for=KeyError, retry_backoff=3.0, retry_jitter=False) == 6.0


def test_asking_gives_no_more_attempts_than_there_are() -> None:
    assert delay(2, record_failure(Retry(delay=1)), retries=1) is None
    assert delay(1, record_failure(Retry(delay=1))) is None


def test_whoever_descends_from_retry_asks_too() -> None:
    class NotYetError(Retry):
        pass

    assert delay(1, record_failure(NotYetError("soon", delay=4)), retries=1, retry_for=KeyError) == 4
