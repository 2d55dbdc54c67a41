"""A client for HTTP/1.1 that costs next to nothing: what is measured is the server, not this."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What was answered: the status, the headers with their names in small letters, and the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        assert 200 <= self.status < 300, f"{self.status}: {self.body[:500]!r}"
        return json.loads(self.body)


class Client:
    """One connection, kept open from request to request."""

    def __init__(self, url: str, token: str = "", key: str = "", timeout: float = 120.0) -> None:
        place = urlsplit(url)
        assert place.hostname
        assert place.port
        self._host, self._port, self._timeout = place.hostname, place.port, timeout
        self._head = f"Host: {place.netloc}\r\n" + (f"Authorization: Bearer {token}\r\n" if token else "")
        self._head += f"x-api-key: {key}\r\n" if key else ""
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, body: Any = None, *, form: str | None = None) -> Answer:
        """Send a request, and return what is answered."""
        async with asyncio.timeout(self._timeout):
            reader, writer = self._streams or await self._connect()
            kind, content = "json", b"" if body is None else json.dumps(body).encode()
            if form is not None:
                kind, content = "x-www-form-urlencoded", form.encode()
            head = f"{method} {path} HTTP/1.1\r\n{self._head}Content-Type: application/{kind}\r\n"
            writer.write(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
            status, headers = await read_head(reader)
            answer = Answer(status, headers, await _read_body(reader, headers))
            if headers.get("connection") == "close":
                self.close()
            return answer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self._streams = await asyncio.open_connection(self._host, self._port, limit=1 << 20)
        return self._streams

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of an answer."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
    pairs = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding") != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    body = bytearray()
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return bytes(body)
