"""Who signs in, how, and what is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing

import httpx
import pytest

from millstream.server.passwords import Passwords
from tests.server.running import PASSWORD, PATIENCE, RunningServer, signed_in

SignIn = Callable[[], tuple[str, str]]

WHOAMI = "/api/v1/users/whoami"


@pytest.fixture(scope="module", autouse=True)
def password_cost() -> None:
    """Hashes cost here what they cost."""


def sign_in(client: httpx.Client, name: str, password: str = PASSWORD) -> httpx.Response:
    return client.post("/api/v1/login", data={"username": name, "password": password})


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_who_signed_in_is_known(alice: httpx.Client) -> None:
    assert alice.get(WHOAMI).json()["username"] == "alice"


def test_signing_in_answers_what_clients_of_the_first_version_expect(server: RunningServer) -> None:
    server.add_user("carol")
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        answer = sign_in(client, "carol")
    assert answer.status_code == 200
    assert answer.json().keys() == {"access_token", "refresh_token", "token_type"}
    assert answer.json()["token_type"] == "bearer"  # noqa: S105  the kind of token


def test_a_wrong_password_is_answered_as_an_unknown_user_is(anonymous: httpx.Client) -> None:
    answers = [sign_in(anonymous, name, "not this one") for name in ("alice", "nobody")]
    for answer in answers:
        assert (answer.status_code, answer.json()["detail"]) == (401, "Incorrect username or password")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answers[0].content == answers[1].content


@pytest.mark.parametrize(
    "path",
    [WHOAMI, "/nowhere", "//health", "/health/", "/%2e/health", "/..;/health", "/..;/api/v1/login", "/health%2f"],
)
def test_without_a_credential_nothing_else_is_answered(anonymous: httpx.Client, path: str) -> None:
    answer = anonymous.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")


@pytest.mark.parametrize("path", ["job_queue", "nothing"])
@pytest.mark.parametrize("said", [{}, {"Authorization": "Bearer wrong"}, {"x-api-key": "wrong"}])
def test_the_monitor_is_forbidden_to_all_but_superusers(
    anonymous: httpx.Client, alice: httpx.Client, said: dict[str, str], path: str
) -> None:
    for client in (anonymous, alice):
        answer = client.get(f"/api/v1/monitor/{path}", headers=said)
        assert (answer.status_code, answer.json()["detail"]) == (403, "The user doesn't have enough privileges")


def test_a_superuser_sees_the_queue(admin: httpx.Client) -> None:
    assert admin.get("/api/v1/monitor/job_queue").json() == {"backend": "asyncio", "active_jobs": 0}


@pytest.mark.parametrize("said", ["Bearer", "Basic YWRtaW46YWRtaW4=", "Bearer wrong", "bearer é"])
def test_a_credential_that_is_none_is_refused(anonymous: httpx.Client, said: str) -> None:
    answer = anonymous.get(WHOAMI, headers=[(b"authorization", said.encode())])
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_stale_token_keeps_nobody_from_signing_in(anonymous: httpx.Client) -> None:
    answer = anonymous.post(
        "/api/v1/login", data={"username": "admin", "password": PASSWORD}, headers={"Authorization": "Bearer stale"}
    )
    assert answer.status_code == 200
    assert anonymous.get("/health", headers={"Authorization": "Bearer stale"}).status_code == 200


# ------------------------------------------------------------------------------------------------------ the limiter
def test_the_sixth_try_within_a_minute_is_refused_before_it_is_looked_at(
    anonymous: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [sign_in(anonymous, "guessed", str(n)) for n in range(5)]
    assert {answer.status_code for answer in answers} == {401}

    async def look(*_: object) -> bool:
        raise AssertionError("a hash is made")

    monkeypatch.setattr(Passwords, "is_right", look)
    refused = [sign_in(anonymous, "guessed", str(n)) for n in range(20)]
    assert {answer.status_code for answer in refused} == {429}
    assert all(1 <= int(answer.headers["Retry-After"]) <= 60 for answer in refused)


def test_a_guesser_does_not_sign_out_whom_it_guesses_at(server: RunningServer, anonymous: httpx.Client) -> None:
    server.add_user("dora")
    with closing(signed_in(server, "dora")) as dora:
        for n in range(10):
            sign_in(anonymous, "dora", str(n))
        assert sign_in(anonymous, "dora").status_code == 429
        assert dora.get(WHOAMI).status_code == 200


# ------------------------------------------------------------------------------------------------- refresh, sign out
@pytest.fixture
def fresh(server: RunningServer) -> SignIn:
    """Signs a user of its own in, and returns both tokens."""
    user = server.add_user(f"user-{time.monotonic_ns()}")

    def sign() -> tuple[str, str]:
        with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
            tokens = sign_in(client, user.name).json()
        return tokens["access_token"], tokens["refresh_token"]

    return sign


def test_a_refresh_token_is_good_for_one_exchange(
    server: RunningServer, anonymous: httpx.Client, fresh: SignIn
) -> None:
    _, refresh = fresh()
    renewed = anonymous.post("/api/v1/refresh", headers=bearer(refresh)).json()
    assert anonymous.get(WHOAMI, headers=bearer(renewed["access_token"])).status_code == 200
    server.site.sessions.forget()  # as a second later
    assert anonymous.post("/api/v1/refresh", headers=bearer(refresh)).status_code == 401
    for token in (renewed["access_token"], renewed["refresh_token"]):
        assert anonymous.get(WHOAMI, headers=bearer(token)).status_code == 401, "the thief's are good, or the owner's"
    assert anonymous.post("/api/v1/refresh", headers=bearer(renewed["refresh_token"])).status_code == 401


def test_each_token_is_good_for_its_own_purpose_only(anonymous: httpx.Client, fresh: SignIn) -> None:
    access, refresh = fresh()
    assert anonymous.get(WHOAMI, headers=bearer(refresh)).status_code == 401
    assert anonymous.post("/api/v1/refresh", headers=bearer(access)).status_code == 401
    assert anonymous.get(WHOAMI, headers=bearer(access)).status_code == 200


def test_who_signs_out_is_out_at_once_and_elsewhere_still_in(anonymous: httpx.Client, fresh: SignIn) -> None:
    (here, refresh), (elsewhere, _) = fresh(), fresh()
    assert anonymous.post("/api/v1/logout", headers=bearer(here)).status_code == 200
    assert anonymous.get(WHOAMI, headers=bearer(here)).status_code == 401
    assert anonymous.post("/api/v1/refresh", headers=bearer(refresh)).status_code == 401
    assert anonymous.get(WHOAMI, headers=bearer(elsewhere)).status_code == 200


def test_a_new_password_ends_the_other_sign_ins(anonymous: httpx.Client, fresh: SignIn) -> None:
    (here, _), (elsewhere, _) = fresh(), fresh()

    def change(current: str) -> int:
        body = {"current_password": current, "password": "another good one"}
        return anonymous.put("/api/v1/users/whoami/password", json=body, headers=bearer(here)).status_code

    assert change("wrong") == 403
    assert change(PASSWORD) == 204
    assert anonymous.get(WHOAMI, headers=bearer(here)).status_code == 200
    assert anonymous.get(WHOAMI, headers=bearer(elsewhere)).status_code == 401


def test_what_another_process_revokes_is_refused_within_a_second(
    server: RunningServer, anonymous: httpx.Client, fresh: SignIn
) -> None:
    access, _ = fresh()
    user = anonymous.get(WHOAMI, headers=bearer(access)).json()["id"]
    server.do(lambda site: site.accounts.end_sessions(user))  # behind the back of what this process remembers
    revoked = time.monotonic()
    while anonymous.get(WHOAMI, headers=bearer(access)).status_code == 200:
        assert time.monotonic() - revoked < 30
    assert time.monotonic() - revoked < 10, "a second, and what a busy machine adds"


# --------------------------------------------------------------------------------------------------------- the cookie
def test_the_cookie_is_for_this_server_alone(anonymous: httpx.Client) -> None:
    given = sign_in(anonymous, "admin").headers["Set-Cookie"]
    name, *attributes = given.split("; ")
    assert name.startswith("ms_session=")
    assert {"HttpOnly", "Path=/", "SameSite=strict"} <= set(attributes)
    assert "Secure" not in attributes, "plain HTTP on this machine"
    taken = anonymous.post("/api/v1/logout", headers={"Sec-Fetch-Site": "same-origin"}).headers["Set-Cookie"]
    assert {part for part in taken.split("; ")[1:] if "=" not in part or part.startswith(("Path", "Same"))} == {
        part for part in attributes if "=" not in part or part.startswith(("Path", "Same"))
    }
    assert "Max-Age=0" in taken


def test_a_page_of_another_site_does_nothing_with_the_cookie(anonymous: httpx.Client, server: RunningServer) -> None:
    server.add_user("erin")
    sign_in(anonymous, "erin")
    assert anonymous.get(WHOAMI).status_code == 200
    for said in (
        {},
        {"Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": server.url},
        {"Origin": "null"},
    ):
        answer = anonymous.post("/api/v1/api_key/", json={"name": "x"}, headers=said)
        assert answer.status_code == 403, said
    for said in ({"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": server.url}):
        assert anonymous.post("/api/v1/api_key/", json={"name": "x"}, headers=said).status_code == 201, said


def test_after_sign_out_the_old_cookie_is_good_for_nothing(anonymous: httpx.Client, server: RunningServer) -> None:
    server.add_user("frank")
    sign_in(anonymous, "frank")
    cookie = {"Cookie": f"ms_session={anonymous.cookies['ms_session']}"}
    anonymous.post("/api/v1/logout", headers={"Sec-Fetch-Site": "same-origin"})
    anonymous.cookies.clear()
    assert anonymous.get(WHOAMI, headers=cookie).status_code == 401
