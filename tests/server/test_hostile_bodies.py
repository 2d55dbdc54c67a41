"""Bodies that mean harm: refused as what they are, by every route that takes one; none makes the server fail."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.core.result import Ok

from millstream.clock import new_id
from millstream.server import body
from tests.server.route_table import Endpoint, endpoints
from tests.server.running import RunningServer

EXAMPLES = 12
"""Requests that are made up for each operation; together they take a few seconds."""

MALFORMED = {
    "deep arrays": b"[" * 100_000 + b"]" * 100_000,
    "deep arrays without an end": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "NaN": b'{"name": NaN}',
    "Infinity": b'{"name": [-Infinity]}',
    "a number without bounds": b'{"name": 1e400}',
    "an integer without bounds": b'{"name": ' + b"9" * 10_000 + b"}",
    "a name twice": b'{"name": "a", "name": "b"}',
    "a name twice, written in two ways": b'{"name": "a", "n\\u0061me": "b"}',
    "half a surrogate pair": b'{"name": "\\ud800"}',
    "half a surrogate pair as a name": b'{"\\udfff": 1}',
    "no UTF-8": b'{"name": "\xff"}',
    "UTF-16": '{"name": "a"}'.encode("utf-16"),
    "no end": b'{"name": "a"',
    "two values": b"{} {}",
    "no JSON": b"name=a",
    "nothing but blanks": b"   ",
    "a control character": b'{"name": "\x01"}',
}


@pytest.fixture(scope="module")
def table(server: RunningServer) -> list[Endpoint]:
    return endpoints(server.api)


@pytest.fixture(scope="module")
def takers(table: list[Endpoint]) -> list[tuple[str, str]]:
    """Method and path of whatever takes JSON."""
    taking = [endpoint for endpoint in table if endpoint.takes_json]
    return [(one.method, one.filled(dict.fromkeys(one.parameters, new_id()))) for one in taking]


@pytest.mark.parametrize("kind", MALFORMED)
def test_what_is_no_json_to_the_letter_is_refused_with_400(
    admin: httpx.Client, takers: list[tuple[str, str]], kind: str
) -> None:
    for method, path in takers:
        answer = admin.request(method, path, content=MALFORMED[kind], headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, f"{method} {path}: {answer.status_code} {answer.text[:200]}"
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert len(answer.content) < 2000


@pytest.fixture
def begun(server: RunningServer, admin: httpx.Client) -> Callable[..., bytes]:
    """Sends the head of a request and the beginning of its body, and returns the beginning of the answer."""
    place = urlsplit(server.url)

    def ask(method: str, path: str, length: str, content: bytes) -> bytes:
        head = f"{method} {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Type: application/json\r\n{length}\r\n"
        head += f"Authorization: {admin.headers['Authorization']}\r\n\r\n"
        with socket.create_connection((place.hostname, place.port), timeout=120) as peer:
            peer.sendall(head.encode() + content)
            return peer.recv(100)

    return ask


def test_a_body_that_is_too_large_is_refused_with_413_said_or_not(
    begun: Callable[..., bytes], takers: list[tuple[str, str]]
) -> None:
    for method, path in takers:
        limit = body.MAX_UPLOAD_BYTES if path.endswith("/upload/") else body.MAX_JSON_BYTES
        said = begun(method, path, f"Content-Length: {limit + 1}", b"")
        assert said.startswith(b"HTTP/1.1 413"), f"{method} {path}: {said!r}"
        piece = b"%x\r\n" % (limit + 1) + b" " * (limit + 1) + b"\r\n"
        unsaid = begun(method, path, "Transfer-Encoding: chunked", piece)
        assert unsaid.startswith(b"HTTP/1.1 413"), f"{method} {path}: {unsaid!r}"


def test_a_body_that_does_not_come_is_not_waited_for(
    begun: Callable[..., bytes], takers: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.05)
    for method, path in takers:
        assert begun(method, path, "Content-Length: 100", b"{").startswith(b"HTTP/1.1 408"), path


def test_a_head_that_is_too_large_is_refused(anonymous: httpx.Client) -> None:
    assert anonymous.get("/health", headers={"X-Filler": "x" * 20_000}).status_code == 431


def _operations(server: RunningServer) -> list[Any]:
    schema = schemathesis.openapi.from_dict(server.api.openapi())
    return [found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)]


def test_whatever_fits_the_document_of_the_api_or_almost_never_makes_the_server_fail(
    server: RunningServer, sign_in: Callable[[str], httpx.Client]
) -> None:
    client = sign_in("alice")
    operations = _operations(server)
    assert operations
    for operation in operations:
        if operation.path in {"/api/v1/logout", "/api/v1/login"}:
            continue  # the one would end the session; the other counts its tries, see the tests of those

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def never_fails(case: Any) -> None:
            answer = case.call(base_url=server.url, headers=dict(client.headers), timeout=120)
            assert answer.status_code < 500 or answer.status_code == 501, f"{case.method} {case.path}: {answer.text}"

        never_fails()
