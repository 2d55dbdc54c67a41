"""A policy is checked where it is written: each wrong value is one clear line that says what it belongs to."""

from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.errors import DefinitionError
from millstream.model.policy import DEFAULT_POLICY, Policy, class_name, revise_policy


def revised(**changes: Any) -> Policy:
    return revise_policy(DEFAULT_POLICY, changes, where="task fetch")


class ShopError(Exception):
    class Closed(Exception):  # noqa: N818  nested, to have a dot in its name
        pass


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("retries", 3, 3),
        ("retry_backoff", True, 1.0),
        ("retry_backoff", False, 0.0),
        ("retry_backoff", 2, 2.0),
        ("retry_backoff", timedelta(seconds=0.5), 0.5),
        ("retry_backoff_max", timedelta(minutes=1), 60.0),
        ("retry_for", ValueError, ("builtins:ValueError",)),
        ("retry_for", (OSError, "shop.errors:Closed"), ("builtins:OSError", "shop.errors:Closed")),
        ("retry_for", [KeyError], ("builtins:KeyError",)),
        ("retry_for", (), ()),
        ("retry_for", ShopError.Closed, (f"{__name__}:ShopError.Closed",)),
        ("timeout", 30, 30.0),
        ("timeout", timedelta(hours=1), 3600.0),
        ("timeout", None, None),
        ("soft_timeout", 0.1, 0.1),
        ("expires", timedelta(days=1), 86400.0),
        ("cache_ttl", timedelta(days=1), 86400.0),
        ("priority", 9, 9),
        ("queue", "gpu", "gpu"),
        ("effect", "once", "once"),
        ("run_in", "process", "process"),
    ],
)
def test_values_are_taken_as_users_write_them(name: str, value: Any, meant: Any) -> None:
    policy = revised(**{name: value})
    assert getattr(policy, name) == meant
    assert type(getattr(policy, name)) is type(meant)
    assert msgspec.structs.replace(policy, **{name: getattr(DEFAULT_POLICY, name)}) == DEFAULT_POLICY


SECONDS_OR_NONE = ["timeout", "soft_timeout", "expires", "cache_ttl"]
DURATIONS = ["retry_backoff", "retry_backoff_max", *SECONDS_OR_NONE]
NAN, INF = float("nan"), float("inf")
WRONG: list[tuple[str, Any, str]] = [
    *((name, 0, f"{name} is 0.0, but must be greater than 0 seconds") for name in SECONDS_OR_NONE),
    *((name, timedelta(-1), f"{name} is -86400.0, but must be greater than 0 seconds") for name in SECONDS_OR_NONE),
    *((name, -1, f"{name} is -1.0, but must not be negative") for name in DURATIONS[:2]),
    *((name, value, f"{name} is {value}, but must be a finite number") for name in DURATIONS for value in (NAN, INF)),
    *((name, "3", f"{name} is '3', but must be a number of seconds or null") for name in SECONDS_OR_NONE),
    ("timeout", timedelta, "timeout is <class 'datetime.timedelta'>, but must be a number of seconds or null"),
    ("timeout", 10**400, "timeout is a number of many digits, but must be a number of seconds or null"),
    ("retry_backoff", None, "retry_backoff is None, but must be a number of seconds"),
    ("retry_jitter", 1, "retry_jitter is 1, but must be true or false"),
    ("retries", -1, "retries is -1, but must not be negative"),
    ("retries", "3", "retries is '3', but must be a whole number"),
    ("retries", True, "retries is True, but must be a whole number"),
    ("retries", 1.5, "retries is 1.5, but must be a whole number"),
    ("priority", -1, "priority is -1, but must be 0 to 9"),
    ("priority", 10, "priority is 10, but must be 0 to 9"),
    ("queue", "", "queue is empty"),
    ("queue", "ü" * 128, f"queue '{'ü' * 20}'… has 256 bytes, but may have 255, as in RabbitMQ"),
    ("queue", None, "queue is None, but must be a text"),
    ("effect", "twice", "effect is 'twice', but must be one of idempotent, pure, once"),
    ("run_in", "moon", "run_in is 'moon', but must be one of auto, loop, thread, process, worker"),
    ("idempotency_key", "k", "idempotency_key names a cached result, so it needs cache_ttl"),
    *(
        ("retry_for", value, f"retry_for takes exception classes, also written as 'module:name', but not {shown}")
        for value, shown in [
            (int, "<class 'int'>"),
            (None, "None"),
            (3, "3"),
            ("ValueError", "ValueError"),
            ("a:b c", "a:b c"),
        ]
    ),
]


@pytest.mark.parametrize(("name", "value", "problem"), WRONG)
def test_a_wrong_value_is_one_line_that_says_what_it_belongs_to(name: str, value: Any, problem: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        revised(**{name: value})
    assert str(caught.value) == f"task fetch: {problem}"


def test_a_name_that_is_no_policy_is_refused_with_those_that_are() -> None:
    with pytest.raises(DefinitionError) as caught:
        revised(retrys=3, retries=2, time_out=1)
    message = str(caught.value)
    assert message.startswith("task fetch: there is no policy retrys, time_out; known are retries, retry_backoff, ")
    assert message.endswith(", ".join(Policy.__struct_fields__))


def test_a_soft_time_limit_lies_before_the_hard_one() -> None:
    assert revised(timeout=2, soft_timeout=1.5).soft_timeout == 1.5
    with pytest.raises(
        DefinitionError, match=r"^task fetch: soft_timeout \(2.0\) must be shorter than timeout \(2.0\)$"
    ):
        revised(timeout=2, soft_timeout=2)


def test_all_that_is_out_of_range_is_said_at_once() -> None:
    with pytest.raises(DefinitionError) as caught:
        revised(timeout=-1, retries=-2, priority=99)
    assert str(caught.value) == (
        "task fetch: timeout is -1.0, but must be greater than 0 seconds; retries is -2, but must not be negative; "
        "priority is 99, but must be 0 to 9"
    )


def test_all_that_is_of_the_wrong_type_is_said_beside_what_is_out_of_range() -> None:
    with pytest.raises(DefinitionError) as caught:
        revised(timeout="x", effect=[], retries=-2)
    assert str(caught.value) == (
        "task fetch: timeout is 'x', but must be a number of seconds or null; "
        "effect is [], but must be one of idempotent, pure, once; retries is -2, but must not be negative"
    )


def test_a_change_is_checked_together_with_what_it_leaves_as_it_was() -> None:
    cached = revised(cache_ttl=60)
    assert revise_policy(cached, {"idempotency_key": "{x}"}, where="node a").idempotency_key == "{x}"
    limited = revised(soft_timeout=20)
    with pytest.raises(DefinitionError, match=r"^node a: soft_timeout"):
        revise_policy(limited, {"timeout": 10}, where="node a")
    assert limited == revised(soft_timeout=20)


def test_no_change_gives_the_very_same_policy() -> None:
    policy = revised(retries=2)
    assert revise_policy(policy, {}, where="task fetch") is policy


ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.timedeltas(),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=2), st.integers(), max_size=1),
    st.sampled_from([int, ValueError, timedelta, object(), len, ...]),
)


@given(changes=st.dictionaries(st.sampled_from(Policy.__struct_fields__), ANYTHING, min_size=1, max_size=4))
def test_whatever_is_written_it_becomes_a_policy_or_one_clear_line(changes: dict[str, Any]) -> None:
    try:
        policy = revised(**changes)
    except DefinitionError as error:
        policy, lines = None, str(error).splitlines()
    if policy is None:
        assert len(lines) == 1
        assert lines[0].startswith("task fetch: ")
    else:
        assert msgspec.json.decode(msgspec.json.encode(policy), type=Policy) == policy


def test_a_class_is_named_by_module_and_qualified_name() -> None:
    assert class_name(ShopError.Closed) == f"{__name__}:ShopError.Closed"


def test_a_policy_under_its_name_in_celery_is_told_its_name_here() -> None:
    with pytest.raises(DefinitionError, match=r"there is no policy max_retries \(max_retries is called retries here\)"):
        revise_policy(DEFAULT_POLICY, {"max_retries": 3}, where="task fetch")
