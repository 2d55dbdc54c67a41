"""HTTP as the load of a fleet needs it: cheap, at any of several servers, with answers that break off or are left."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, NamedTuple

SSE = {"Accept": "text/event-stream"}

_ANSWER_SECONDS = 90.0
"""How long an answer may take to begin, and each part of it: more than any fault lasts, and any wait that is asked."""

_OK = 200
_AGAIN = frozenset({429, 502, 503, 504})
_PAUSE_SECONDS = 0.05
_MOST_IDLE = 64


class BrokenError(Exception):
    """Raised when a connection cannot be made, or breaks before the answer is whole."""


class RefusedError(Exception):
    """Raised when a server answers what it should not.

    Attributes:
        answer: The answer.
    """

    def __init__(self, what: str, answer: Answer) -> None:
        """Take the request and the answer."""
        super().__init__(f"{what} was answered {answer.status}: {answer.body[:500]!r}")
        self.answer = answer


class Answer(NamedTuple):
    """A whole answer.

    Attributes:
        status: Its status.
        headers: Its headers, by their names in lower case.
        body: Its body.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> Any:
        """What the body says, which is JSON."""
        return json.loads(self.body)


class Message(NamedTuple):
    """A server-sent event.

    Attributes:
        cursor: Its id; empty where it has none.
        told: What it says, which is JSON.
    """

    cursor: str
    told: Any


class _Connection:
    """A connection to a server, with one request at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.is_reusable = True

    @classmethod
    async def open(cls, port: int) -> _Connection:
        try:
            return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 22))
        except OSError as error:
            raise BrokenError(str(error)) from error

    def send(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self) -> tuple[int, dict[str, str]]:
        """Return the status and the headers of the answer."""
        first, *lines = (await self._until(b"\r\n\r\n")).decode("latin-1").rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.is_reusable = headers.get("connection", "").lower() != "close"
        return int(first.split()[1]), headers

    async def body(self, headers: Mapping[str, str]) -> AsyncGenerator[bytes, None]:
        """Yield the parts of the body as they come."""
        if "transfer-encoding" not in headers:
            yield await self._exactly(int(headers.get("content-length", 0)))
            return
        while size := int(await self._until(b"\r\n"), 16):
            yield (await self._exactly(size + 2))[:-2]
        await self._exactly(2)

    async def _until(self, end: bytes) -> bytes:
        return await self._read(self._reader.readuntil(end))

    async def _exactly(self, size: int) -> bytes:
        return await self._read(self._reader.readexactly(size))

    async def _read(self, coming: Any) -> bytes:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                read: bytes = await coming
        except (OSError, EOFError) as error:  # that nobody answers in time is an OSError, too
            raise BrokenError(f"{type(error).__name__}: {error}") from error
        return read

    def close(self) -> None:
        """Close it, whatever is still to come."""
        self._writer.transport.abort()


class Wire:
    """Asks one of several servers by chance, and another one where that one does not answer.

    Args:
        ports: Where they listen, on 127.0.0.1.
        chance: Decides which is asked.
    """

    def __init__(self, ports: Sequence[int], chance: random.Random) -> None:
        """Open nothing yet."""
        self._ports, self._chance = tuple(ports), chance
        self._idle: dict[int, list[_Connection]] = {port: [] for port in ports}
        self.lost = 0
        self.streams_broken = 0

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        expected: Sequence[int] = (200,),
        headers: Mapping[str, str] | None = None,
        loses: float = 0.0,
    ) -> Answer:
        """Send a request until it is answered, and return the answer.

        Args:
            method: Its method.
            path: Its path and query.
            body: What it says, as JSON.
            expected: The statuses that the answer may have.
            headers: Its headers beside those that each has.
            loses: The chance, 0 to 1, that the first answer is not waited for: the request is sent again elsewhere.

        Raises:
            RefusedError: The answer has another status.
        """
        given = b"" if body is None else json.dumps(body).encode()
        wanted = {"Content-Type": "application/json", **(headers or {})}
        if self._chance.random() < loses:
            await self._leave(method, path, given, wanted)
        while True:
            try:
                answer = await self._asked(method, path, given, wanted)
            except BrokenError:
                self.lost += 1
            else:
                if answer.status not in _AGAIN:
                    break
            await asyncio.sleep(_PAUSE_SECONDS)
        if answer.status not in expected:
            raise RefusedError(f"{method} {path}", answer)
        return answer

    async def messages(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        seen: dict[str, str] | None = None,
    ) -> AsyncGenerator[Message, None]:
        """Yield the server-sent events of one answer, to its end.

        Args:
            method: The method of the request.
            path: Its path and query.
            body: What it says, as JSON.
            headers: Its headers beside those that each has.
            seen: Takes the headers of the answer.

        Raises:
            BrokenError: The answer broke off, or there was none for now.
            RefusedError: The answer is no stream.
        """
        given = b"" if body is None else json.dumps(body).encode()
        connection = await _Connection.open(self._chance.choice(self._ports))
        try:
            connection.send(method, path, given, {"Content-Type": "application/json", **SSE, **(headers or {})})
            status, told = await connection.head()
            if status != _OK:
                await self._raise(f"{method} {path}", status, told, connection)
            (seen if seen is not None else {}).update(told)
            text = b""
            async with aclosing(connection.body(told)) as parts:
                async for part in parts:
                    *whole, text = (text + part).split(b"\n\n")
                    for message in messages_in(whole):
                        yield message
        except BrokenError:
            self.streams_broken += 1
            raise
        finally:
            connection.close()

    @staticmethod
    async def _raise(what: str, status: int, told: dict[str, str], connection: _Connection) -> None:
        if status in _AGAIN:
            raise BrokenError(f"{what} was answered {status}")
        raise RefusedError(what, Answer(status, told, b"".join([part async for part in connection.body(told)])))

    def close(self) -> None:
        """Close all connections."""
        for connections in self._idle.values():
            while connections:
                connections.pop().close()

    async def _asked(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        port = self._chance.choice(self._ports)
        idle = self._idle[port]
        connection = idle.pop() if idle else await _Connection.open(port)
        try:
            connection.send(method, path, body, headers)
            status, told = await connection.head()
            answer = Answer(status, told, b"".join([part async for part in connection.body(told)]))
        except BaseException:
            connection.close()
            raise
        if connection.is_reusable and len(idle) < _MOST_IDLE:
            idle.append(connection)
        else:
            connection.close()
        return answer

    async def _leave(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> None:
        """Send a request, and be gone before its answer is read, if one comes."""
        try:
            connection = await _Connection.open(self._chance.choice(self._ports))
        except BrokenError:
            return
        connection.send(method, path, body, headers)
        await asyncio.sleep(self._chance.uniform(0.0, 0.02))
        connection.close()


def messages_in(blocks: Sequence[bytes]) -> list[Message]:
    """Return the server-sent events in whole blocks; comments are none.

    >>> messages_in([b": ping", b'id: 3-0\\ndata: {"event": "end"}'])
    [Message(cursor='3-0', told={'event': 'end'})]
    """
    found = []
    for block in blocks:
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if line and not line.startswith(b":"))
        if b"data" in fields:
            found.append(Message(fields.get(b"id", b"").decode(), json.loads(fields[b"data"])))
    return found
