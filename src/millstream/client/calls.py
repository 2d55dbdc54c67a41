"""What all areas of the client share: how a request is made, and an answer read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from millstream.client.wire import Wire
from millstream.clock import new_id

T = TypeVar("T")


class Calls:
    """Asks a server.

    Args:
        wire: The connection to it.
    """

    def __init__(self, wire: Wire) -> None:
        """Ask nothing yet."""
        self._wire = wire

    async def _start(self, path: str, body: Any, key: str | None, *, patience: float = 0.0) -> httpx.Response:
        """Start a job: with a key, so that however often this is sent, there is one."""
        headers = {"Idempotency-Key": key or new_id()}
        return await self._wire.ask("POST", path, json=body, headers=headers, is_safe=True, patience=patience)

    async def _pages(self, path: str, params: dict[str, Any]) -> AsyncGenerator[httpx.Response, None]:
        answer = await self._wire.ask("GET", path, params=params)
        yield answer
        while following := answer.links.get("next"):
            answer = await self._wire.ask("GET", following["url"])
            yield answer


def path_of(area: str, name: str) -> str:
    """Return the path of an object, whatever its name has in it."""
    return f"/api/v1/{area}/{quote(name, safe='')}"


def read(answer: httpx.Response, kind: type[T]) -> T:
    """Return what an answer says."""
    return msgspec.json.decode(answer.content, type=kind)
