"""Webhooks: a signed request starts a flow."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import httpx
import pytest

from millstream.server.builds.signing import signature_of
from tests.server.building import events
from tests.server.running import RunningServer, signed_in

HOOK: dict[str, Any] = {
    "nodes": [
        {"id": "in", "data": {"component": "Webhook"}},
        {"id": "out", "data": {"component": "TextOutput"}},
    ],
    "edges": [{"source": "in", "sourceHandle": "payload", "target": "out", "targetHandle": "input_value"}],
}
BODY = json.dumps({"ref": "main"}).encode()
JSON = {"Content-Type": "application/json"}


@pytest.fixture
def flow(alice: httpx.Client) -> str:
    flow_id: str = alice.post("/api/v1/flows/", json={"name": "hook", "data": HOOK}).json()["id"]
    return flow_id


@pytest.fixture
def secret(alice: httpx.Client, flow: str) -> str:
    told = alice.post(f"/api/v1/flows/{flow}/webhook-secret").json()
    assert told["header"] == "X-Hub-Signature-256"
    assert told["url"] == f"/api/v1/webhook/{flow}"
    made: str = told["secret"]
    return made


def call(client: httpx.Client, flow: str, signature: str | None = None, body: bytes = BODY) -> httpx.Response:
    headers = JSON | ({} if signature is None else {"X-Hub-Signature-256": signature})
    return client.post(f"/api/v1/webhook/{flow}", content=body, headers=headers)


def test_who_is_signed_in_starts_a_flow_with_a_payload(alice: httpx.Client, flow: str) -> None:
    answer = call(alice, flow)
    assert answer.status_code == 202, answer.text
    told = answer.json()
    assert (told["status"], told["links"]["job"]) == ("in progress", f"/api/v1/jobs/{told['job_id']}")
    assert answer.headers["Location"] == told["links"]["job"]
    assert alice.get(told["links"]["job"]).status_code == 200
    end = [event["data"]["build_data"] for event in events(alice, told["job_id"]) if event["event"] == "end_vertex"]
    assert end[-1]["data"]["results"] == {"text": '{"ref":"main"}'}


def test_a_right_signature_is_enough_and_the_job_is_the_flows_owners(
    anonymous: httpx.Client, alice: httpx.Client, bob: httpx.Client, flow: str, secret: str
) -> None:
    answer = call(anonymous, flow, signature_of(secret, BODY))
    assert answer.status_code == 202, answer.text
    url = answer.json()["links"]["job"]
    assert (alice.get(url).status_code, bob.get(url).status_code) == (200, 404)


def test_a_wrong_signature_and_no_such_webhook_are_told_alike(
    anonymous: httpx.Client, alice: httpx.Client, flow: str, secret: str
) -> None:
    right = signature_of(secret, BODY)
    plain = alice.post("/api/v1/flows/", json={"name": "plain", "data": HOOK}).json()["id"]
    answers = [
        call(anonymous, flow),
        call(anonymous, flow, ""),
        call(anonymous, flow, "sha256=" + "0" * 64),
        call(anonymous, flow, right, BODY + b" "),
        call(anonymous, plain, right),
        call(anonymous, "nothing", right),
        call(anonymous, "0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f", right),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["detail"] for answer in answers}) == 1


def test_a_wrong_signature_is_refused_though_one_is_signed_in(alice: httpx.Client, flow: str, secret: str) -> None:
    assert secret
    assert call(alice, flow, "sha256=" + "0" * 64).status_code == 401


def test_a_new_secret_takes_the_place_of_the_old_one(
    anonymous: httpx.Client, alice: httpx.Client, flow: str, secret: str
) -> None:
    renewed = alice.post(f"/api/v1/flows/{flow}/webhook-secret").json()["secret"]
    assert renewed != secret
    assert call(anonymous, flow, signature_of(secret, BODY)).status_code == 401
    assert call(anonymous, flow, signature_of(renewed, BODY)).status_code == 202
    assert alice.delete(f"/api/v1/flows/{flow}/webhook-secret").status_code == 204
    assert call(anonymous, flow, signature_of(renewed, BODY)).status_code == 401


def test_who_takes_the_name_of_a_webhook_takes_none_of_its_calls(
    anonymous: httpx.Client, alice: httpx.Client, bob: httpx.Client, flow: str, secret: str
) -> None:
    named = {"name": "theirs", "endpoint_name": "deploy", "data": HOOK}
    assert alice.patch(f"/api/v1/flows/{flow}", json={"endpoint_name": "deploy"}).status_code == 200
    theirs = bob.post("/api/v1/flows/", json=named).json()["id"]
    bobs: str = bob.post(f"/api/v1/flows/{theirs}/webhook-secret").json()["secret"]
    for key, owner in ((secret, alice), (bobs, bob)):
        answer = call(anonymous, "deploy", signature_of(key, BODY))
        assert answer.status_code == 202, answer.text
        assert owner.get(answer.json()["links"]["job"]).status_code == 200


def test_the_webhooks_of_a_user_who_is_not_active_start_nothing(
    server: RunningServer, anonymous: httpx.Client, admin: httpx.Client
) -> None:
    user = server.add_user("carol")
    with closing(signed_in(server, "carol")) as carol:
        flow: str = carol.post("/api/v1/flows/", json={"name": "hook", "data": HOOK}).json()["id"]
        right = signature_of(carol.post(f"/api/v1/flows/{flow}/webhook-secret").json()["secret"], BODY)
    assert call(anonymous, flow, right).status_code == 202
    assert admin.patch(f"/api/v1/users/{user.id}", json={"is_active": False}).status_code == 200
    refused, wrong = call(anonymous, flow, right), call(anonymous, flow, "sha256=" + "0" * 64)
    assert (refused.status_code, refused.json()) == (401, wrong.json())


def test_a_secret_is_made_by_its_flows_owner_only(bob: httpx.Client, flow: str) -> None:
    assert bob.post(f"/api/v1/flows/{flow}/webhook-secret").status_code == 404


def test_a_secret_is_shown_nowhere_else(alice: httpx.Client, server: RunningServer, flow: str, secret: str) -> None:
    assert secret not in alice.get(f"/api/v1/flows/{flow}").text
    ledger = (server.site.settings.config_dir or "").joinpath("ledger.db")  # type: ignore[union-attr]
    assert secret.encode() not in ledger.read_bytes()


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"[NaN]", 400), (b"", 202)])
def test_a_payload_is_json_or_nothing(alice: httpx.Client, flow: str, body: bytes, status: int) -> None:
    assert call(alice, flow, body=body).status_code == status
    assert alice.post(f"/api/v1/webhook/{flow}", content=b"a=1", headers={"Content-Type": "text/x"}).status_code == 415
