"""Who signs in, how, and what is refused."""

import httpx

from tests.server.running import PASSWORD


def test_health_needs_no_credential(anonymous: httpx.Client) -> None:
    assert anonymous.get("/health").json() == {"status": "ok"}


def test_who_signed_in_is_known(alice: httpx.Client) -> None:
    assert alice.get("/api/v1/users/whoami").json()["username"] == "alice"


def test_a_wrong_password_is_answered_as_an_unknown_user_is(anonymous: httpx.Client) -> None:
    for name in ("alice", "nobody"):
        answer = anonymous.post("/api/v1/login", data={"username": name, "password": f"not {PASSWORD}"})
        assert (answer.status_code, answer.json()["detail"]) == (401, "Incorrect username or password")
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_without_a_credential_nothing_else_is_answered(anonymous: httpx.Client) -> None:
    for path in ("/api/v1/users/whoami", "/nowhere", "//health", "/health/", "/%2e/health", "/..;/health"):
        assert anonymous.get(path).status_code == 401, path
