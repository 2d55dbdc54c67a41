"""What a request has that this server does not know is refused, and what there is instead is told."""

from __future__ import annotations

from typing import Any

import httpx
import pytest


def refused(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 422, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_misspelt_parameter_is_named_with_what_was_meant(alice: httpx.Client, method: str) -> None:
    address = {"GET": "/api/v1/jobs", "POST": "/api/v1/jobs/actions"}[method]
    told = refused(alice.request(method, f"{address}?stat=failed&x=1"))
    assert "there is no parameter 'stat'" in told["detail"]
    assert "there is no parameter 'x'; known: " in told["detail"]
    assert [part["loc"] for part in told["errors"]] == [["query", "stat"], ["query", "x"]]


def test_the_parameters_that_there_are_are_told(alice: httpx.Client) -> None:
    detail = refused(alice.get("/api/v1/jobs?stat=failed"))["detail"]
    assert detail == (
        "there is no parameter 'stat' (did you mean state?); "
        "known: after_id, before, begins, cursor, flow, limit, reason, since, sort, state, task"
    )


@pytest.mark.parametrize("address", ["/api/v1/processes", "/task-status/x", "/api/v1/jobs/x"])
def test_where_there_are_no_parameters_it_is_told(admin: httpx.Client, address: str) -> None:
    assert refused(admin.get(f"{address}?a=1"))["detail"] == "there is no parameter 'a'; known: none"


def test_a_parameter_is_told_to_nobody_who_may_not_ask(anonymous: httpx.Client) -> None:
    assert anonymous.get("/api/v1/jobs?stat=failed").status_code == 401


def test_routes_that_clients_know_from_elsewhere_leave_unknown_parameters_aside(alice: httpx.Client) -> None:
    for address in ("/api/v1/flows/", "/api/v1/projects/", "/api/v1/all", "/health"):
        assert alice.get(f"{address}?remove_example_flows=true").status_code == 200, address


def test_an_unknown_field_is_named_with_those_that_there_are(alice: httpx.Client) -> None:
    told = refused(alice.post("/run-task", json={"durations": 1}))
    assert told["detail"] == (
        "body: there is no field 'durations' (did you mean duration?); known: task, args, kwargs, duration"
    )
    within = refused(alice.post("/api/v1/jobs/actions", json={"action": "retry", "filter": {"states": ["failed"]}}))
    assert within["errors"][0]["loc"] == ["body", "filter"]
    assert "did you mean state?" in within["detail"]


def test_a_time_that_is_none_is_told_in_our_words_alone(alice: httpx.Client) -> None:
    told = refused(alice.get("/api/v1/jobs?since=yesterday"))
    assert told["detail"].startswith("query.since: ")
    assert "Value error" not in f"{told}"
