"""What the task for HTTP requests sends and gives, and what bounds it."""

import gzip
import json
import time
from typing import Any

import pytest

from millstream import Millstream, Settings
from millstream.errors import OutputTooLargeError
from millstream.library.web import MOST_BYTES, http_request
from tests.library.listeners import Asked, listening


async def asked(answer: Any, user: str = "", **inputs: Any) -> Any:
    settings = Settings(durability="off", egress_allow=("127.0.0.1", "localhost"))
    with listening(answer) as listener:
        async with Millstream(settings=settings) as app:
            return await (
                await app.submit(http_request, f"http://{user}127.0.0.1:{listener.port}/x", **inputs)
            ).result()


def echo(request: Asked) -> None:
    said = {"method": request.command, "path": request.path, "body": request.body().decode()}
    said |= {name.lower(): value for name, value in request.headers.items()}
    request.answer(200, json.dumps(said).encode(), content_type="application/json")


async def test_method_headers_query_and_a_json_body_are_sent_and_json_comes_back_as_data() -> None:
    answer = await asked(echo, method="PUT", headers={"X-A": "b"}, query={"q": "a b"}, json={"rows": [1]})
    assert answer["status"] == 200
    assert answer["headers"]["content-type"] == "application/json"
    said = answer["data"]
    assert (said["method"], said["path"], said["x-a"]) == ("PUT", "/x?q=a+b", "b")
    assert (json.loads(said["body"]), said["content-type"]) == ({"rows": [1]}, "application/json")


async def test_a_text_body_is_sent_as_it_is() -> None:
    assert (await asked(echo, method="POST", body="häßlich"))["data"]["body"] == "häßlich"


async def test_a_text_answer_is_decoded_as_it_says_and_is_no_data() -> None:
    def answer(request: Asked) -> None:
        request.answer(200, "häßlich".encode("latin-1"), content_type="text/plain; charset=latin-1")

    got = await asked(answer)
    assert (got["text"], got["data"]) == ("häßlich", None)


@pytest.mark.parametrize("charset", ["nonsense", "punycode", "idna", "unicode_escape", "hex", "utf-8"])
async def test_a_text_answer_in_no_writing_is_read_as_utf_8(charset: str) -> None:
    def answer(request: Asked) -> None:
        request.answer(200, "häßlich".encode(), content_type=f"text/plain; charset={charset}")

    assert (await asked(answer))["text"] == "häßlich"


async def test_no_failure_shows_a_password_of_the_url() -> None:
    with pytest.raises(OSError, match="answered 404") as caught:
        await asked(lambda request: request.answer(404, b""), query={"token": "s3cret"}, user="me:s3cret@")
    assert "s3cret" not in str(caught.value)


async def test_an_answer_that_only_claims_to_be_json_is_text() -> None:
    got = await asked(lambda request: request.answer(200, b"{", content_type="application/json"))
    assert (got["text"], got["data"]) == ("{", None)


async def test_a_packed_answer_is_unpacked() -> None:
    got = await asked(lambda request: request.answer(200, gzip.compress(b"hello"), content_encoding="gzip"))
    assert got["text"] == "hello"


async def test_a_small_answer_that_unpacks_to_a_large_one_is_refused() -> None:
    bomb = gzip.compress(bytes(200 << 20))
    with pytest.raises(OutputTooLargeError, match="10 MiB"):
        await asked(lambda request: request.answer(200, bomb, content_encoding="gzip"))


async def test_an_answer_that_is_packed_twice_is_refused() -> None:
    bomb = gzip.compress(gzip.compress(b"hello"))
    with pytest.raises(ConnectionError, match="not asked for"):
        await asked(lambda request: request.answer(200, bomb, content_encoding="gzip, gzip"))


async def test_an_answer_over_ten_mebibytes_is_refused_and_one_of_ten_is_not() -> None:
    got = await asked(lambda request: request.answer(200, bytes(MOST_BYTES)))
    assert len(got["text"]) == MOST_BYTES
    with pytest.raises(OutputTooLargeError, match="10 MiB"):
        await asked(lambda request: request.answer(200, bytes(MOST_BYTES + 1)))


async def test_an_answer_that_does_not_end_in_time_fails() -> None:
    def drip(request: Asked) -> None:
        request.send_response(200)
        request.end_headers()
        while True:
            request.wfile.write(b".")
            time.sleep(0.05)

    with pytest.raises(TimeoutError, match=r"no whole answer within 0\.5 seconds"):
        await asked(drip, timeout=0.5)


async def test_an_error_of_the_server_fails_the_node_unless_it_is_wanted() -> None:
    with pytest.raises(OSError, match="answered 404"):
        await asked(lambda request: request.answer(404, b"none"))
    got = await asked(lambda request: request.answer(404, b"none"), fail_on_error=False)
    assert (got["status"], got["text"]) == (404, "none")


async def test_redirects_in_a_circle_end() -> None:
    with pytest.raises(ConnectionError, match="TooManyRedirects"):
        await asked(lambda request: request.answer(302, location="/x"))


@pytest.mark.parametrize(("place", "goes_along"), [("", True), ("localhost", False)])
async def test_headers_go_along_with_a_redirect_to_the_same_server_only(place: str, goes_along: bool) -> None:  # noqa: FBT001  a case
    def redirect(request: Asked) -> None:
        if request.path == "/x":
            to = f"http://{place}:{request.listener.port}" if place else ""
            request.answer(302, location=f"{to}/y")
        else:
            echo(request)

    headers = {"X-Api-Key": "k", "Authorization": "Bearer k"}
    said = (await asked(redirect, headers=headers))["data"]
    assert (said.get("x-api-key") == "k") is goes_along
    assert (said.get("authorization") == "Bearer k") is goes_along


async def test_a_redirect_can_be_what_is_wanted() -> None:
    got = await asked(lambda request: request.answer(302, location="/y"), follow_redirects=False)
    assert (got["status"], got["headers"]["location"]) == (302, "/y")


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        ({"timeout": 61}, "at most 60"),
        ({"timeout": 0}, "above 0"),
        ({"json": 1, "body": "1"}, "one body"),
        ({"headers": {"Host": "other"}}, "Host|host"),
        ({"headers": {"transfer-encoding": "chunked"}}, "transfer-encoding"),
        ({"headers": {"x": "a\r\ny: b"}}, "header"),
        ({"method": "BREW\r\nx: y"}, "method"),
    ],
)
async def test_wrong_arguments_are_told_and_nothing_is_sent(inputs: dict[str, Any], problem: str) -> None:
    with pytest.raises((ValueError, ConnectionError), match=problem):
        await asked(lambda request: request.answer(500), **inputs)
