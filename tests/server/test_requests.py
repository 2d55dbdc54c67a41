"""What may come in, and what goes out: limits, strict JSON, problems, headers, health."""

from __future__ import annotations

import asyncio
import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest

import millstream
from millstream.ledger.base import LedgerUnavailableError
from millstream.server import body, protocol
from tests.server.running import RunningServer

KEYS = "/api/v1/api_key/"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/health", {"status": "ok"}),
        (
            "/health_check",
            {"status": "ok", "ledger": "ok", "event_log": "ok", "backend": "ok", "outbox": "ok"},
        ),
        (
            "/api/v1/version",
            {"version": millstream.__version__, "main_version": millstream.__version__, "package": "millstream"},
        ),
    ],
)
def test_anybody_may_ask_how_the_server_is(anonymous: httpx.Client, path: str, expected: dict[str, str]) -> None:
    answer = anonymous.get(path)
    assert (answer.status_code, answer.json()) == (200, expected)


# ---------------------------------------------------------------------------------------------------------- problems
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/nothing", 404),
        ("GET", "/api/v1/users/7", 422),
        ("DELETE", "/health", 405),
        ("GET", "/api/v1/schedules", 501),
        ("GET", "/metrics", 501),
        ("GET", "/", 501),
        ("GET", "/api/v1/monitor/job_queue?scope=world", 422),
    ],
)
def test_whatever_goes_wrong_is_told_as_a_problem(admin: httpx.Client, method: str, path: str, status: int) -> None:
    answer = admin.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["type"] == "about:blank"
    assert told["instance"] == path.partition("?")[0]
    assert isinstance(told["detail"], str)
    if status == 405:
        assert answer.headers["Allow"] == "GET"


def test_what_fails_inside_is_told_under_an_id_and_not_told_about(server: RunningServer, admin: httpx.Client) -> None:
    @server.api.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret of /srv/ledger.db")

    answer = admin.get("/broken")
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["error_id"] in answer.json()["detail"]


def test_every_answer_has_its_security_headers(admin: httpx.Client, anonymous: httpx.Client) -> None:
    for answer in (admin.get("/docs"), admin.get("/nowhere"), anonymous.get("/health"), anonymous.get(KEYS)):
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "server" not in answer.headers


# -------------------------------------------------------------------------------------------------------- JSON, bodies
def test_brackets_in_texts_are_no_depth() -> None:
    text = json.dumps({"name": '[{"' * 1000 + '\\"', "tail": "["})
    assert body.strict_json(text.encode()) == json.loads(text)
    assert body.strict_json(b'"\\ud83d\\ude00"') == "\N{GRINNING FACE}"


def test_headers_have_a_limit(server: RunningServer, anonymous: httpx.Client) -> None:
    assert anonymous.get("/health", headers={"X-Long": "x" * 17_000}).status_code == 431
    endless = b"GET /health HTTP/1.1\r\nHost: x\r\nX-Endless: " + b"x" * 100_000
    assert spoken(server, endless).startswith(b"HTTP/1.1 400")


def test_a_head_that_does_not_come_is_not_waited_for(server: RunningServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.2)
    assert spoken(server, b"GET /health HTTP/1.1\r\nHost") == b""
    assert spoken(server, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").startswith(b"HTTP/1.1 200")


# ----------------------------------------------------------------------------------------------- a ledger that is away
def test_without_its_ledger_the_server_says_so_and_when_to_come_back(
    server: RunningServer, alice: httpx.Client, anonymous: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: str) -> None:
        raise LedgerUnavailableError("postgresql://db.internal does not answer")

    server.site.sessions.forget()
    monkeypatch.setattr(server.site.accounts, "session", away)
    assert anonymous.get("/health").status_code == 200
    found = anonymous.get("/health_check")
    assert (found.status_code, found.json()["status"], found.json()["ledger"]) == (503, "degraded", "unavailable")
    answer = alice.get("/api/v1/users/whoami")
    assert (answer.status_code, "internal" in answer.text) == (503, False)
    assert int(answer.headers["Retry-After"]) > 0


def test_while_its_ledger_is_silent_the_server_says_at_once_that_it_is_there_whoever_asks(
    server: RunningServer, alice: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def silent(digest: str) -> None:
        asked.append(digest)
        await asyncio.sleep(1)
        raise LedgerUnavailableError("postgresql://db.internal does not answer")

    server.site.sessions.forget()
    monkeypatch.setattr(server.site.accounts, "session", silent)
    assert alice.get("/health").status_code == 200
    assert alice.get("/api/v1/version").status_code == 200
    assert not asked, "who it is does not matter"
    refused = alice.post("/api/v1/webhook/any")
    assert (refused.status_code, len(asked)) == (503, 1), "what needs the ledger is refused when it was asked once"
    assert int(refused.headers["Retry-After"]) > 0


# ---------------------------------------------------------------------------------------------------------- reference
def test_the_reference_is_for_who_is_signed_in_or_here(alice: httpx.Client, anonymous: httpx.Client) -> None:
    for path in ("/docs", "/openapi.json"):
        assert alice.get(path).status_code == 200
        assert anonymous.get(path).status_code == 200, "from this machine"
        for said in ({"Host": "evil.example"}, {"X-Forwarded-For": "192.0.2.1"}, {"Sec-Fetch-Site": "cross-site"}):
            assert anonymous.get(path, headers=said).status_code == 401, said


def test_the_reference_tells_of_every_route(alice: httpx.Client) -> None:
    document = alice.get("/openapi.json").json()
    assert "security" not in document["paths"]["/api/v1/login"]["post"]
    page = alice.get("/docs")
    assert all(path in page.text for path in document["paths"])
    assert "<script" not in page.text


def spoken(server: RunningServer, text: bytes) -> bytes:
    """Send bytes, and return what comes back until the connection is closed or silent."""
    place = urlsplit(server.url)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=120) as connection:
        connection.sendall(text)
        return connection.recv(65_536)


@pytest.mark.parametrize("path", ["/api/v1/flows", "/nope"])
def test_who_asks_for_a_path_that_is_not_there_is_told_where_paths_are_listed(admin: httpx.Client, path: str) -> None:
    answer = admin.get(path)
    assert answer.status_code == 404
    assert "slash" in answer.json()["detail"]
    assert "/docs" in answer.json()["detail"]


def test_a_method_that_a_path_does_not_take_is_told_with_those_that_it_takes(admin: httpx.Client) -> None:
    answer = admin.get("/api/v1/login")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert "does not take this method" in answer.json()["detail"]


def test_json_where_a_form_is_due_is_told_as_such(admin: httpx.Client) -> None:
    answer = admin.post("/api/v1/login", json={"username": "admin", "password": "changeme"})
    assert (answer.status_code, answer.json()["detail"]) == (
        415,
        "the body is sent as application/json; send a form: application/x-www-form-urlencoded or multipart/form-data",
    )


def test_an_id_that_is_none_is_told_as_such(admin: httpx.Client) -> None:
    answer = admin.get("/api/v1/flows/shop")
    assert (answer.status_code, answer.json()["detail"]) == (422, "path.flow_id: is not a UUID")


def test_a_form_without_its_field_says_how_that_is_named(admin: httpx.Client) -> None:
    answer = admin.post("/api/v1/flows/upload/", files={"flow": ("flow.json", b"{}")})
    assert (answer.status_code, answer.json()["detail"]) == (422, "body.file: the form has no field named file")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"name: x", "notes.txt is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b'{"a": 1, "a": 2}', "notes.txt has the name 'a' twice in one object"),
        (b"\xff", "notes.txt holds what is no text in UTF-8"),
    ],
)
def test_a_file_that_is_no_json_is_named(admin: httpx.Client, content: bytes, what: str) -> None:
    answer = admin.post("/api/v1/flows/upload/", files={"file": ("notes.txt", content)})
    assert (answer.status_code, answer.json()["detail"]) == (400, what)
