"""Who may call what: asked of every route that the server has, so that none can be forgotten."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from millstream.clock import new_id
from millstream.ledger.accounts import ApiKey
from millstream.server.access.principal import SCOPES, Scope
from millstream.server.access.public import LOCAL, PUBLIC
from millstream.server.access.tokens import digest_of, new_token, written_key
from millstream.server.site import Site
from tests.server.route_table import VERBS, Endpoint, endpoints
from tests.server.running import PASSWORD, RunningServer

PUBLIC_COPY = {
    ("POST", "/api/v1/login"),
    ("GET", "/health"),
    ("GET", "/health_check"),
    ("GET", "/api/v1/version"),
    ("POST", "/api/v1/webhook/{flow_id_or_name}"),
}
"""What needs no credential, once more: who adds to the server's list has to say so here too."""

LOCAL_COPY = {("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/metrics")}

OWN_ACCOUNT = {"POST /api/v1/refresh", "POST /api/v1/logout"}
"""What everybody who is signed in may call, whatever an API key is good for."""

EVIL = {"Origin": "https://evil.example"}
MONITOR = "/api/v1/monitor/"
NOT_YET = "/api/v1/schedules"
"""What is answered with 501, whoever asks."""


@pytest.fixture(scope="module")
def table(server: RunningServer) -> list[Endpoint]:
    return endpoints(server.api)


@pytest.fixture
def stranger(server: RunningServer) -> Iterator[Callable[..., http.client.HTTPResponse]]:
    """Sends requests to the letter: a client library would tidy their paths up."""
    opened = []

    def ask(method: str, path: str, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=120)
        opened.append(connection)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        answer.read()
        return answer

    yield ask
    for connection in opened:
        connection.close()


def made_up(endpoint: Endpoint) -> str:
    return endpoint.filled(dict.fromkeys(endpoint.parameters, new_id()))


def with_key(server: RunningServer, *scopes: Scope) -> httpx.Client:
    """Return a client with a new API key of alice's."""
    key_id, secret = new_id(), new_token()

    async def add(site: Site) -> None:
        alice = await site.accounts.user_named("alice")
        assert alice is not None
        key = ApiKey(
            id=key_id,
            user=alice.id,
            name="key",
            digest=digest_of(secret),
            scopes=scopes,
            created_at=site.clock.now(),
        )
        await site.accounts.add_key(key)

    server.do(add)
    return httpx.Client(base_url=server.url, timeout=120, headers={"x-api-key": written_key(key_id, secret)})


# ------------------------------------------------------------------------------------------------------ no credential
def test_what_is_public_is_what_this_test_says() -> None:
    assert set(PUBLIC) == PUBLIC_COPY
    assert set(LOCAL) == LOCAL_COPY


def test_without_a_credential_every_route_is_closed_whatever_the_method(
    anonymous: httpx.Client, table: list[Endpoint]
) -> None:
    for path in sorted({endpoint.path for endpoint in table}):
        for verb in VERBS:
            if (verb, path) in PUBLIC | LOCAL:
                continue
            answer = anonymous.request(verb, made_up(Endpoint(verb, path)))
            wanted = 403 if path.startswith(MONITOR) else 401
            assert answer.status_code == wanted, f"{verb} {path}"
            assert wanted == 403 or answer.headers["WWW-Authenticate"] == "Bearer"


def test_what_is_for_this_machine_is_closed_to_who_comes_by_another_name(anonymous: httpx.Client) -> None:
    for verb, path in sorted(LOCAL):
        assert anonymous.request(verb, path, headers={"Host": "evil.example"}).status_code == 401, path
        assert anonymous.request(verb, path, headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 401, path


@pytest.mark.parametrize(
    "credential",
    [
        {"Authorization": "Bearer none-of-ours"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
        {"Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."},
        {"x-api-key": "ms_0192f0c1d2e37b0c8a5e0123456789ab_none-of-ours"},
        {"x-api-key": ""},
        {"Cookie": "ms_session=none-of-ours"},
        {"Cookie": "__Host-ms=none-of-ours"},
    ],
    ids=lambda credential: next(iter(credential.items()))[1][:12],
)
def test_a_credential_that_is_none_opens_nothing(
    anonymous: httpx.Client, table: list[Endpoint], credential: dict[str, str]
) -> None:
    for endpoint in table:
        if (endpoint.method, endpoint.path) not in PUBLIC | LOCAL:
            answer = anonymous.request(endpoint.method, made_up(endpoint), headers=credential)
            assert answer.status_code == (403 if endpoint.path.startswith(MONITOR) else 401), str(endpoint)


@pytest.mark.parametrize(
    "path",
    [
        "//api/v1/users/whoami",
        "/api//v1/users/whoami",
        "/api/v1/%2e/users/whoami",
        "/api/v1/login/../users/whoami",
        "/api/v1/login/%2e%2e/users/whoami",
        "/..;/login",
        "/api/v1/users/whoami;/health",
        "/api/v1/users/whoami/..;/login",
        "/api/v1/users/whoami%00/health",
        "/api/v1/users/whoami?x=/health",
        "/api/v1/users/whoami#/health",
        "/api/v1/flows/health",
        "/api/v1/flows/login",
        "/api/v1/projects/version",
        "/health/api/v1/users/whoami",
        "/health%2f..%2fapi/v1/users/whoami",
        "/health/",
        "/HEALTH",
        "/api/v1/login/",
        "//health",
        "/%2e/health",
        "/healthx",
        "http://127.0.0.1/api/v1/users/whoami",
    ],
)
def test_no_way_of_writing_a_path_leads_past_the_door(
    stranger: Callable[..., http.client.HTTPResponse], path: str
) -> None:
    for verb in ("GET", "POST"):
        assert stranger(verb, path).status in {400, 401}, f"{verb} {path}"


def test_a_method_that_a_header_names_is_not_the_method(stranger: Callable[..., http.client.HTTPResponse]) -> None:
    for name in ("X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix"):
        assert stranger("GET", "/api/v1/users/whoami", **{name: "/health"}).status == 401, name


def test_a_websocket_is_refused_before_it_is_one(server: RunningServer, table: list[Endpoint]) -> None:
    place = urlsplit(server.url)
    for path in sorted({made_up(endpoint) for endpoint in table}):
        with socket.create_connection((place.hostname, place.port), timeout=120) as peer:
            peer.sendall(
                f"GET {path} HTTP/1.1\r\nHost: {place.netloc}\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
            )
            assert not peer.recv(100).startswith(b"HTTP/1.1 101"), path


# ------------------------------------------------------------------------------------------------------- other's sites
def test_no_other_site_is_let_read_an_answer(
    anonymous: httpx.Client, alice: httpx.Client, table: list[Endpoint]
) -> None:
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for endpoint in table:
        path = made_up(endpoint)
        answers = [anonymous.options(path, headers=EVIL | asks), anonymous.get(path, headers=EVIL)]
        if endpoint.path != "/api/v1/logout":  # it would end alice's session
            answers.append(alice.request(endpoint.method, path, headers=EVIL))
        for answer in answers:
            allowed = [name for name in answer.headers if name.startswith("access-control-")]
            assert not allowed, f"{endpoint}: {allowed}"


@pytest.fixture
def browser(server: RunningServer) -> Iterator[httpx.Client]:
    """A browser in which alice is signed in."""
    with httpx.Client(base_url=server.url, timeout=120) as client:
        answer = client.post("/api/v1/login", data={"username": "alice", "password": PASSWORD})
        assert answer.status_code == 200, answer.text
        yield client


def test_what_another_site_has_the_browser_send_changes_nothing(browser: httpx.Client, table: list[Endpoint]) -> None:
    unsaid: dict[str, str] = {}
    sent_by = (
        EVIL,
        EVIL | {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
        unsaid,
    )
    for endpoint in table:
        if endpoint.method in {"GET", "HEAD", "OPTIONS"} or (endpoint.method, endpoint.path) in PUBLIC:
            continue
        for headers in sent_by:
            answer = browser.request(
                endpoint.method, made_up(endpoint), content=b"{}", headers={"Content-Type": "text/plain"} | headers
            )
            assert answer.status_code == 403, f"{endpoint} {headers}: {answer.status_code}"
    assert browser.get("/api/v1/users/whoami").json()["username"] == "alice"


def test_json_that_is_sent_as_something_else_is_refused(alice: httpx.Client, table: list[Endpoint]) -> None:
    for endpoint in table:
        if endpoint.takes_json:
            for kind in ("text/plain", "application/x-www-form-urlencoded", "text/json", ""):
                headers = {"Content-Type": kind} if kind else {}
                answer = alice.request(endpoint.method, made_up(endpoint), content=b"{}", headers=headers)
                assert answer.status_code in {403, 415}, f"{endpoint} {kind}: {answer.status_code} {answer.text}"


# ------------------------------------------------------------------------------------------------------------- rights
def test_every_route_says_what_a_key_has_to_be_good_for(table: list[Endpoint]) -> None:
    unguarded = {str(endpoint) for endpoint in table if not endpoint.guards}
    open_to_all = {f"{method} {path}" for method, path in PUBLIC | LOCAL} | {"HEAD /openapi.json", "HEAD /docs"}
    assert unguarded - open_to_all <= OWN_ACCOUNT


def test_a_key_without_the_scope_is_refused(server: RunningServer, table: list[Endpoint]) -> None:
    keys = {scope: with_key(server, *(other for other in SCOPES if other != scope)) for scope in SCOPES}
    for endpoint in table:
        for guard in endpoint.guards:
            answer = keys[guard.scope].request(endpoint.method, made_up(endpoint))
            assert answer.status_code == 403, f"{endpoint} without {guard.scope}: {answer.status_code}"
    for client in keys.values():
        client.close()


def test_what_changes_something_needs_more_than_leave_to_read(table: list[Endpoint]) -> None:
    for endpoint in table:
        if endpoint.method in {"PUT", "PATCH", "DELETE"} and not endpoint.path.startswith(NOT_YET):
            assert any(guard.scope.endswith(":write") for guard in endpoint.guards), str(endpoint)


def test_who_is_no_superuser_is_told_so_by_what_is_for_superusers(alice: httpx.Client, table: list[Endpoint]) -> None:
    for endpoint in table:
        if endpoint.path.startswith(MONITOR) or any(guard.is_for_superusers for guard in endpoint.guards):
            answer = alice.request(endpoint.method, made_up(endpoint))
            assert answer.status_code == 403, f"{endpoint}: {answer.status_code}"


def test_the_monitor_is_for_superusers_alone(anonymous: httpx.Client, alice: httpx.Client, admin: httpx.Client) -> None:
    for client in (anonymous, alice):
        answer = client.get("/api/v1/monitor/job_queue")
        assert answer.status_code == 403
        assert answer.json()["detail"] == "The user doesn't have enough privileges"
    assert admin.get("/api/v1/monitor/job_queue").status_code == 200
