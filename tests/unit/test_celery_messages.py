"""Messages that wake workers: only what a process of the same ledger signed is let in, and only as it was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from millstream.backends.celery.messages import ForeignError, ForgedError, Signer, as_celery_reads
from millstream.ledger.identity import Identity, new_identity
from millstream.ledger.queued import Queued

LEDGER = new_identity()
QUEUED = Queued("0198", 2, 3, None, "shop.report")


def sent(signer: Signer | None = None) -> tuple[dict[str, Any], Any]:
    envelope = (signer or Signer(LEDGER)).envelope(QUEUED)
    return envelope.headers, json.loads(envelope.body)


def test_what_another_process_of_the_ledger_signed_is_let_in() -> None:
    headers, payload = sent()
    assert Signer(LEDGER).check(headers, payload) == QUEUED
    assert headers["shadow"] == "shop.report"
    assert {name: payload[1][name] for name in ("job", "segment", "attempt")} == {
        "job": "0198",
        "segment": 2,
        "attempt": 3,
    }


def test_a_message_holds_no_secret() -> None:
    envelope = Signer(LEDGER).envelope(QUEUED)
    assert LEDGER.key.hex() not in f"{envelope}"
    assert str(LEDGER.key) not in f"{envelope}"


@pytest.mark.parametrize(
    ("field", "value"),
    [("job", "0199"), ("segment", 1), ("attempt", 4), ("mac", "0" * 64), ("mac", "é"), ("mac", ""), ("segment", "2")],
)
def test_a_changed_message_is_refused(field: str, value: object) -> None:
    headers, payload = sent()
    payload[1][field] = value
    with pytest.raises(ForgedError):
        Signer(LEDGER).check(headers, payload)


@pytest.mark.parametrize(
    "payload", [None, [], "text", [[], {}, {}], [[1], {}, {}], {"args": []}, [[], {"ledger": LEDGER.id}, {}], 7]
)
def test_what_is_no_such_message_is_refused(payload: object) -> None:
    with pytest.raises(ForgedError, match="not of the form"):
        Signer(LEDGER).check({}, payload)


@pytest.mark.parametrize("name", ["chain", "callbacks", "errbacks", "chord"])
def test_a_message_that_has_celery_do_more_is_refused(name: str) -> None:
    headers, payload = sent()
    payload[2][name] = [{"task": "shop.pay"}]
    with pytest.raises(ForgedError, match=f"asks for more than to wake a worker: {name}"):
        Signer(LEDGER).check(headers, payload)


def test_a_message_that_names_another_flow_is_refused() -> None:
    headers, payload = sent()
    for flow in ("shop.pay", "", None, ["shop.report"]):
        with pytest.raises(ForgedError):
            Signer(LEDGER).check({**headers, "shadow": flow}, payload)


def test_celery_gets_nothing_of_a_message_but_what_is_signed() -> None:
    headers, payload = sent()
    asked = {"timelimit": [0.1, 0.2], "retries": 7, "stamps": {"a": 1}, "stamped_headers": ["a"], "id": "other"}
    read = as_celery_reads(Signer(LEDGER).check({**headers, **asked}, payload))
    assert read == as_celery_reads(QUEUED)
    assert (read.headers["id"], read.headers["timelimit"], read.headers["retries"]) == ("0198:2", [None, None], 0)
    assert read.payload[1] == {"job": "0198", "segment": 2}


def test_a_message_about_a_main_segment_has_the_id_of_its_job() -> None:
    assert Signer(LEDGER).envelope(structs.replace(QUEUED, segment=1)).id == QUEUED.job


def test_a_message_that_comes_later_than_it_was_sent_for_is_refused() -> None:
    headers, payload = sent()
    with pytest.raises(ForgedError, match="eta"):
        Signer(LEDGER).check({**headers, "eta": "2030-01-01T00:00:00"}, payload)


def test_a_message_of_another_ledger_is_told_apart() -> None:
    headers, payload = sent(Signer(new_identity()))
    with pytest.raises(ForeignError, match=f"and this worker to {LEDGER.id}"):
        Signer(LEDGER).check(headers, payload)


def test_with_a_common_key_the_signature_tells_a_message_of_another_ledger_from_a_forged_one() -> None:
    key = b"a key of all processes"
    headers, payload = sent(Signer(new_identity(), key))
    with pytest.raises(ForeignError) as foreign:
        Signer(LEDGER, key).check(headers, payload)
    assert foreign.value.is_signed
    headers, payload = sent(Signer(new_identity(), b"a key of nobody"))
    with pytest.raises(ForgedError, match="signature"):
        Signer(LEDGER, key).check(headers, payload)


def test_a_key_of_the_settings_goes_before_the_ledgers_own() -> None:
    headers, payload = sent(Signer(LEDGER, b"a key of all processes"))
    Signer(Identity(LEDGER.id, b"changed"), b"a key of all processes").check(headers, payload)
    with pytest.raises(ForgedError, match="signature"):
        Signer(LEDGER).check(headers, payload)
