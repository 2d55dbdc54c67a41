"""Users and API keys."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.server.running import PASSWORD, RunningServer, signed_in

WHOAMI = "/api/v1/users/whoami"
KEYS = "/api/v1/api_key/"


def made(client: httpx.Client, **body: Any) -> dict[str, Any]:
    answer = client.post(KEYS, json={"name": "a key", **body})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


# -------------------------------------------------------------------------------------------------------- API keys
def test_a_key_stands_for_its_user_and_is_shown_once(alice: httpx.Client, anonymous: httpx.Client) -> None:
    key = made(alice)
    assert anonymous.get(WHOAMI, headers={"x-api-key": key["api_key"]}).json()["username"] == "alice"
    secret = key["api_key"].rpartition("_")[2]
    listed = alice.get(KEYS)
    assert secret not in listed.text
    assert key["id"] in [shown["id"] for shown in listed.json()["api_keys"]]


def test_a_key_with_another_secret_is_none(alice: httpx.Client, anonymous: httpx.Client) -> None:
    key: str = made(alice)["api_key"]
    for wrong in (f"{key}x", key[:-1], key.rpartition("_")[0] + "_", "", "ms__", "ms_é_ü", "a" * 5000):
        answer = anonymous.get(WHOAMI, headers=[(b"x-api-key", wrong.encode())])
        assert answer.status_code == 401, wrong


def test_a_key_is_good_for_its_scopes_only(alice: httpx.Client, anonymous: httpx.Client) -> None:
    key = {"x-api-key": made(alice, scopes=["account:read"])["api_key"]}
    assert anonymous.get(WHOAMI, headers=key).status_code == 200
    refused = anonymous.post(KEYS, json={"name": "more"}, headers=key)
    assert (refused.status_code, "account:write" in refused.json()["detail"]) == (403, True)


def test_a_key_makes_no_key_that_is_good_for_more(alice: httpx.Client, anonymous: httpx.Client) -> None:
    key = {"x-api-key": made(alice, scopes=["account:write"])["api_key"]}
    for scopes in ([], ["run:write"], ["account:write", "run:write"]):
        assert anonymous.post(KEYS, json={"name": "more", "scopes": scopes}, headers=key).status_code == 403
    assert anonymous.post(KEYS, json={"name": "as much", "scopes": ["account:write"]}, headers=key).status_code == 201


def test_a_key_that_has_expired_is_none(server: RunningServer, alice: httpx.Client, anonymous: httpx.Client) -> None:
    key = made(alice, expires_at=(datetime.now(UTC) + timedelta(seconds=1)).isoformat())
    past = datetime.now(UTC) - timedelta(days=1)
    assert alice.post(KEYS, json={"name": "x", "expires_at": past.isoformat()}).status_code == 422
    while server.site.clock.now() < datetime.fromisoformat(key["expires_at"]).timestamp():
        pass
    assert anonymous.get(WHOAMI, headers={"x-api-key": key["api_key"]}).status_code == 401


def test_a_removed_key_is_refused_at_once_and_a_foreign_one_is_not_there(
    alice: httpx.Client, bob: httpx.Client, anonymous: httpx.Client
) -> None:
    key = made(alice)
    used = {"x-api-key": key["api_key"]}
    assert anonymous.get(WHOAMI, headers=used).status_code == 200
    unknown = str(uuid.uuid4())
    foreign, nowhere = bob.delete(f"{KEYS}{key['id']}"), bob.delete(f"{KEYS}{unknown}")
    assert (foreign.status_code, nowhere.status_code) == (404, 404)
    assert foreign.text.replace(key["id"], "") == nowhere.text.replace(unknown, "")
    assert alice.delete(f"{KEYS}{key['id']}").status_code == 200
    assert anonymous.get(WHOAMI, headers=used).status_code == 401


def test_a_password_is_not_changed_by_a_key(alice: httpx.Client, anonymous: httpx.Client) -> None:
    body = {"current_password": PASSWORD, "password": "taken over!"}
    key = {"x-api-key": made(alice)["api_key"]}
    assert anonymous.put("/api/v1/users/whoami/password", json=body, headers=key).status_code == 403


# ----------------------------------------------------------------------------------------------------------- users
@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", ""), ("GET", "{id}"), ("PATCH", "{id}"), ("DELETE", "{id}")]
)
def test_users_are_the_business_of_superusers(alice: httpx.Client, admin: httpx.Client, method: str, path: str) -> None:
    user = admin.get(WHOAMI).json()["id"]
    body = {"username": "mallory", "password": "mallory's own"} if method in {"POST", "PATCH"} else None
    answer = alice.request(method, f"/api/v1/users/{path.format(id=user)}", json=body)
    assert answer.status_code == 403


def test_a_superuser_makes_changes_and_removes_users(server: RunningServer, admin: httpx.Client) -> None:
    made = admin.post("/api/v1/users/", json={"username": "grace", "password": PASSWORD})
    assert made.status_code == 201
    user = f"/api/v1/users/{made.json()['id']}"
    assert "password" not in made.text
    assert admin.get(user).json() == made.json()
    assert admin.post("/api/v1/users/", json={"username": "grace", "password": PASSWORD}).status_code == 409
    with closing(signed_in(server, "grace")) as grace:
        assert grace.get(WHOAMI).status_code == 200
        assert admin.patch(user, json={"is_active": False}).json()["is_active"] is False
        assert grace.get(WHOAMI).status_code == 401
    assert admin.delete(user).status_code == 200
    assert admin.get(user).status_code == 404
    assert admin.delete(user).status_code == 404


def test_users_are_listed_in_pages(admin: httpx.Client) -> None:
    names: list[str] = []
    answer = admin.get("/api/v1/users/", params={"limit": 1})
    while True:
        names += [user["username"] for user in answer.json()]
        if "next" not in answer.links:
            break
        answer = admin.get(answer.links["next"]["url"])
    assert {"admin", "alice", "bob"} <= set(names)
    assert len(names) == len(set(names))


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_superuser": False}])
def test_a_superuser_does_not_lock_itself_out(admin: httpx.Client, change: dict[str, bool]) -> None:
    me = f"/api/v1/users/{admin.get(WHOAMI).json()['id']}"
    assert admin.patch(me, json=change).status_code == 409
    assert admin.delete(me).status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        {"username": "x", "password": "short"},
        {"username": "", "password": PASSWORD},
        {"username": "x\n", "password": PASSWORD},
        {"username": "x", "password": PASSWORD, "is_god": True},
        {"username": "x", "password": "p" * 2000},
        {"username": "x"},
    ],
)
def test_a_user_that_makes_no_sense_is_not_made(admin: httpx.Client, body: dict[str, Any]) -> None:
    answer = admin.post("/api/v1/users/", json=body)
    assert answer.status_code == 422
    assert isinstance(answer.json()["detail"], str)
    assert answer.json()["errors"]
    assert PASSWORD not in answer.text


def test_what_is_listed_of_users_holds_no_hash(admin: httpx.Client, sign_in: Callable[[str], httpx.Client]) -> None:
    sign_in("alice")
    assert "argon2" not in admin.get("/api/v1/users/").text
