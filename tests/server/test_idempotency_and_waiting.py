"""What a request may say of being sent again, and of waiting for its result."""

import pytest
from fastapi import HTTPException

from millstream.clock import new_id
from millstream.server.idempotency import LONGEST, checked, scoped
from millstream.server.waiting import MOST_SECONDS, preference


def test_two_users_may_have_the_same_key() -> None:
    one, other = new_id(), new_id()
    assert scoped(one, "order-17") != scoped(other, "order-17")
    assert scoped(one, None) is None


@pytest.mark.parametrize("key", ["order-17", '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "a b", "k" * LONGEST])
def test_a_key_is_taken_as_it_is(key: str) -> None:
    assert checked(key) == key


@pytest.mark.parametrize("key", ["", " ", " a", "a\n", "a\x00", "é", "k" * (LONGEST + 1), "\x7f"])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(HTTPException, match="Idempotency-Key") as refused:
        checked(key)
    assert refused.value.status_code == 400


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (["wait=30"], 30),
        (["WAIT = 5"], 5),
        (['wait="7"'], 7),
        (["respond-async, wait=10"], 10),
        (["respond-async", "wait=10;x=y"], 10),
        (["wait=2, wait=50"], 2),
        (["wait=0"], 0),
        (["wait=86400"], MOST_SECONDS),
        (["wait=-1"], None),
        (["wait=soon"], None),
        (["wait=" + "9" * 5000], None),
        (["await=3"], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_preference_is_followed_within_bounds_or_left_alone(headers: list[str], seconds: int | None) -> None:
    found = preference(headers)
    assert found.seconds == seconds
    assert found.applied == ({} if seconds is None else {"Preference-Applied": f"wait={seconds}"})
