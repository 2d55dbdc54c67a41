"""The HTTP request of a flow: bounded in time and size, and only to where the egress rules let it go."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import anyio
import msgspec

from millstream.authoring import current
from millstream.authoring.task import task
from millstream.errors import OutputTooLargeError
from millstream.library.values import as_text
from millstream.urls import without_password

if TYPE_CHECKING:
    import httpx

MOST_SECONDS = 60.0
MOST_BYTES = 10 << 20
_MOST_REDIRECTS = 10
_CONNECT_SECONDS = 10.0
"""Until the next address of a host is tried."""

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_CODINGS = {"": False, "identity": False, "gzip": True, "x-gzip": True, "deflate": True}
_CHARSETS = ("ascii", "big5", "cp", "euc", "gb", "iso", "koi8", "mac", "shift_jis", "utf")
_OURS = frozenset({"accept-encoding", "connection", "content-length", "host", "transfer-encoding", "upgrade"})

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


class Answer(TypedDict):
    """What a server answered.

    Attributes:
        status: The status code.
        headers: The headers, with names in lower case.
        text: The body as text.
        data: The body as a value, where it is JSON; else `None`.
        url: Where it came from, after redirects.
    """

    status: int
    headers: dict[str, str]
    text: str
    data: Any
    url: str


@task
async def http_request(  # noqa: PLR0913  each is a port
    url: str,
    method: Method = "GET",
    headers: dict[str, str] | None = None,
    query: dict[str, Any] | None = None,
    json: Any = None,
    body: str | None = None,
    timeout: float = 30.0,  # noqa: ASYNC109  it is a port
    *,
    follow_redirects: bool = True,
    fail_on_error: bool = True,
) -> Answer:
    """Send an HTTP request, and give what is answered.

    It connects to addresses of the public internet, and to what the setting `egress_allow` names beside. Proxies that
    the environment names are not used. An answer that is JSON is given as a value, too. After a crash the request may
    be sent a second time.

    Args:
        url: Where to: `http://` or `https://`.
        method: The method.
        headers: Headers to send; to the server that `url` names, and not to another that it redirects to.
        query: Parameters to add to the URL.
        json: A value to send as JSON; in place of `body`.
        body: A text to send.
        timeout: Seconds until all of the answer must be there; above 0, at most 60.
        follow_redirects: Whether to go where a redirect points, at most ten times.
        fail_on_error: Whether a status of 400 or more fails the node.

    Raises:
        EgressDeniedError: The host, or that of a redirect, has no address that may be connected to.
        ValueError: The URL or an argument is wrong.
        TimeoutError: The answer was not there in time.
        ConnectionError: The server cannot be reached, or breaks off.
        OSError: The status is 400 or more.
        OutputTooLargeError: The answer has more than 10 MiB.
    """
    import httpx  # noqa: PLC0415  a server that starts needs no HTTP client

    from millstream.library.egress import Egress, EgressTransport  # noqa: PLC0415  as above

    if not 0 < timeout <= MOST_SECONDS:
        raise ValueError(f"timeout is {timeout!r}, but must be above 0 and at most {MOST_SECONDS:g} seconds")
    if json is not None and body is not None:
        raise ValueError("json and body are both set; a request has one body")
    if refused := sorted(_OURS & {name.lower() for name in headers or ()}):
        raise ValueError(f"the header {refused[0]} cannot be set; the connection needs its own")
    url = as_text(url)
    shown = without_password(url)
    transport = EgressTransport(Egress(current.app().settings.egress_allow))
    try:
        with anyio.fail_after(timeout):
            async with httpx.AsyncClient(
                transport=transport,
                trust_env=False,
                timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
                max_redirects=_MOST_REDIRECTS,
                follow_redirects=follow_redirects,
                headers={"accept-encoding": "gzip, deflate"},
                event_hooks={"request": [_KeptAtHome(httpx.URL(url), headers or {})]},
            ) as client:
                request = client.build_request(method, url, headers=headers, params=query, json=json, content=body)
                return await _answered(client, request, fail_on_error=fail_on_error)
    except TimeoutError:
        raise TimeoutError(f"{method} {shown}: no whole answer within {timeout:g} seconds") from None
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise ValueError(f"{shown!r} is no URL that can be asked: {error}") from None
    except httpx.HTTPError as error:
        raise ConnectionError(f"{method} {shown}: {type(error).__name__}: {error}") from error


class _KeptAtHome:
    """Keeps headers, which may be keys, from going along to another server by a redirect."""

    def __init__(self, home: httpx.URL, headers: Mapping[str, str]) -> None:
        self._origin = (home.scheme, home.host, home.port)
        self._headers = headers

    async def __call__(self, request: httpx.Request) -> None:
        if (request.url.scheme, request.url.host, request.url.port) != self._origin:
            for name in self._headers:
                request.headers.pop(name, None)


async def _answered(client: httpx.AsyncClient, request: httpx.Request, *, fail_on_error: bool) -> Answer:
    response = await client.send(request, stream=True)
    try:
        content = await _content(response)
    finally:
        await response.aclose()
    if fail_on_error and response.is_error:
        raise OSError(
            f"{request.method} {without_password(str(response.url))}: the server answered {response.status_code}"
        )
    return Answer(
        status=response.status_code,
        headers=dict(response.headers),
        text=content.decode(_charset(response), "replace"),
        data=_data(response, content),
        url=str(response.url),
    )


async def _content(response: httpx.Response) -> bytes:
    """Return the body, unpacked; not by httpx, which unpacks a chunk to whatever size it has.

    Raises:
        OutputTooLargeError: It has more than `MOST_BYTES`.
        ConnectionError: It is packed in a way that was not asked for, or damaged.
    """
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in _CODINGS:
        raise ConnectionError(f"the answer's content-encoding is {coding!r}, which was not asked for")
    unpack = zlib.decompressobj(_GZIP_OR_ZLIB).decompress if _CODINGS[coding] else None
    content = bytearray()
    async for chunk in response.aiter_raw():
        try:
            content += chunk if unpack is None else unpack(chunk, MOST_BYTES + 1 - len(content))
        except zlib.error as error:
            raise ConnectionError(f"the answer is damaged: {error}") from None
        if len(content) > MOST_BYTES:
            raise OutputTooLargeError(f"the answer has more than {MOST_BYTES >> 20} MiB")
    return bytes(content)


def _charset(response: httpx.Response) -> str:
    """Return how a body is written: as it says, where that is a known way to write text and no riddle."""
    try:
        named = codecs.lookup(response.charset_encoding or "utf-8").name
    except LookupError:
        return "utf-8"
    return named if named.startswith(_CHARSETS) else "utf-8"


def _data(response: httpx.Response, content: bytes) -> Any:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        return None
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return None
