"""Brings requests to a server: signs in, tries again where that is safe, and resumes broken streams."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import msgspec

from millstream.client.errors import ProblemError, UnreachableError, problem_of

_BUSY: Final = frozenset({429, 503})
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 30.0
_SILENCE_SECONDS: Final = 60.0  # the server says something on a stream each 15 s
_SAFE: Final = frozenset({"GET", "HEAD", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Credential:
    """Who asks: a name and a password, or an API key, or nobody.

    Attributes:
        username: The user's name.
        password: Their password.
        api_key: Or an API key.
    """

    username: str | None = None
    password: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Message:
    """One server-sent event.

    Attributes:
        data: What it says.
        id: Where the stream may be resumed behind it; `None` where it may not.
    """

    data: bytes
    id: str | None = None


class Wire:
    """A connection to one server.

    Args:
        url: Where the server is, such as `http://127.0.0.1:7860`.
        credential: Who asks.
        timeout: Seconds until an answer has to begin.
        retries: How often a request is tried again, where that is safe.
    """

    def __init__(self, url: str, credential: Credential, timeout: float, retries: int) -> None:
        """Connect to nothing yet."""
        headers = {} if credential.api_key is None else {"x-api-key": credential.api_key}
        self._http = httpx.AsyncClient(base_url=url.rstrip("/"), timeout=timeout, headers=headers)
        self._credential, self._timeout, self._retries = credential, timeout, retries
        self._token: str | None = None
        self._signing_in = asyncio.Lock()

    async def close(self) -> None:
        """Close all connections; may be called twice."""
        await self._http.aclose()

    # -------------------------------------------------------------------------------------------------------- asking
    async def ask(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        is_safe: bool | None = None,
        patience: float = 0.0,
    ) -> httpx.Response:
        """Send a request, and return the answer.

        Args:
            method: The HTTP method.
            path: The path, with a slash at the front.
            json: The body.
            params: The query.
            headers: Further headers.
            is_safe: Whether it does no harm to send it twice; by default that of the method.
            patience: Seconds that the server may take beyond the time-out.

        Raises:
            ProblemError: The server refused.
            UnreachableError: It could not be reached.
        """
        safe = method in _SAFE if is_safe is None else is_safe
        request = self._http.build_request(
            method,
            path,
            content=None if json is None else msgspec.json.encode(json),
            params={name: value for name, value in (params or {}).items() if value is not None},
            headers={**({} if json is None else {"Content-Type": "application/json"}), **(headers or {})},
            timeout=httpx.Timeout(self._timeout, read=self._timeout + patience),
        )
        attempt = 0
        while True:
            try:
                answer = await self._send(request)
            except httpx.TransportError as error:
                if attempt >= self._retries or not (safe or isinstance(error, httpx.ConnectError)):
                    raise UnreachableError(f"{method} {request.url}: {_words(error)}") from error
                await asyncio.sleep(_pause(attempt))
            else:
                if answer.is_success:
                    return answer
                if answer.status_code not in _BUSY or attempt >= self._retries or not safe:
                    raise problem_of(answer.status_code, answer.content)
                await asyncio.sleep(_asked_pause(answer, attempt))
            attempt += 1

    async def _send(self, request: httpx.Request) -> httpx.Response:
        """Send a request as who is signed in; once more where the session is over."""
        token = await self._signed_in(None)
        answer = await self._http.send(_with(request, token))
        if answer.status_code == httpx.codes.UNAUTHORIZED and token is not None:
            answer = await self._http.send(_with(request, await self._signed_in(token)))
        return answer

    async def _signed_in(self, stale: str | None) -> str | None:
        """Return a token, another one than `stale`; `None` where none is needed.

        Raises:
            UnauthorizedError: The name or the password is wrong.
        """
        if self._credential.username is None:
            return None
        async with self._signing_in:
            if self._token in (None, stale):
                form = {"username": self._credential.username, "password": self._credential.password or ""}
                answer = await self._http.post("/api/v1/login", data=form)
                if not answer.is_success:
                    raise problem_of(answer.status_code, answer.content)
                self._token = msgspec.json.decode(answer.content)["access_token"]
                self._http.cookies.clear()  # the token alone counts
            return self._token

    # ------------------------------------------------------------------------------------------------------ streaming
    async def follow(
        self, path: str, params: Mapping[str, Any], after: str | None = None
    ) -> AsyncGenerator[Message, None]:
        """Yield the messages of a stream, each once: a connection that breaks is made anew, and goes on where it was.

        It ends only when its reader closes it: who reads knows the last message.

        Raises:
            ProblemError: The server refuses to stream.
            UnreachableError: It could not be reached any more.
        """
        cursor, beyond, failures = after, 0, 0  # `beyond`: messages behind the cursor that were seen already
        while True:
            skipped, problem = 0, "the stream ended before the last event"
            try:
                async with self._streaming(path, params, cursor) as messages:
                    async for message in messages:
                        failures = 0
                        if skipped < beyond:
                            skipped += 1
                            continue
                        cursor, beyond = (cursor, beyond + 1) if message.id is None else (message.id, 0)
                        skipped = beyond
                        yield message
            except httpx.TransportError as error:
                problem = _words(error)
            except ProblemError as error:
                if error.status not in _BUSY:
                    raise
                problem = str(error)
            if failures >= self._retries:
                raise UnreachableError(f"GET {path}: {problem}")
            await asyncio.sleep(_pause(failures))
            failures += 1

    @asynccontextmanager
    async def _streaming(
        self, path: str, params: Mapping[str, Any], cursor: str | None
    ) -> AsyncIterator[AsyncIterator[Message]]:
        headers = {"Accept": "text/event-stream"} | ({} if cursor is None else {"Last-Event-ID": cursor})
        token = await self._signed_in(None)
        for _ in range(2):
            timeout = httpx.Timeout(self._timeout, read=_SILENCE_SECONDS)
            request = self._http.build_request("GET", path, params=dict(params), headers=headers, timeout=timeout)
            answer = await self._http.send(_with(request, token), stream=True)
            try:
                if answer.is_success:
                    yield _messages(answer.aiter_bytes())
                    return
                body = await answer.aread()
            finally:
                await answer.aclose()
            if answer.status_code != httpx.codes.UNAUTHORIZED or token is None:
                break
            token = await self._signed_in(token)
        raise problem_of(answer.status_code, body)


async def _messages(pieces: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    """Yield the events of a stream, as the HTML standard reads them; one that was cut is none."""
    data: list[bytes] = []
    cursor: str | None = None
    async for line in _lines(pieces):
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"id":
            cursor = value.decode()
        elif not line:
            if data:
                yield Message(b"\n".join(data), cursor)
            data, cursor = [], None


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield whole lines; httpx would end them at every character that Unicode calls a line's end, also inside JSON."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")


def _with(request: httpx.Request, token: str | None) -> httpx.Request:
    if token is not None:
        request.headers["Authorization"] = f"Bearer {token}"
    return request


def _pause(attempt: int) -> float:
    """Return the seconds before another attempt: the more of them, the longer, and never the same for all clients."""
    return float(min(_FIRST_PAUSE * 2**attempt, _LONGEST_PAUSE) * random.uniform(0.5, 1.0))  # noqa: S311  no secret


def _asked_pause(answer: httpx.Response, attempt: int) -> float:
    """Return the seconds that the server asks to wait."""
    asked = answer.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_PAUSE) if asked.isdecimal() else _pause(attempt)


def _words(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
