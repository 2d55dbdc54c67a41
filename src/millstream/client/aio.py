"""`AsyncClient`: all that a program asks of a server, as coroutines."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from millstream.client.calls import read
from millstream.client.flows import FlowCalls
from millstream.client.shapes import User
from millstream.client.wire import Credential, Wire


class AsyncClient(FlowCalls):
    """A client of a server (`millstream serve`). Close it with `async with` or `aclose()`.

    Requests that do no harm when they are sent twice are tried again where the network breaks, or the server says 429
    or 503; what starts a job is sent with an `Idempotency-Key` of its own, and so does none either. Streams that break
    go on where they were.

    Args:
        url: Where the server is.
        username: Who signs in, at the first request.
        password: Their password.
        api_key: An API key, in place of both.
        timeout: Seconds until an answer has to begin; more than 0.
        retries: How often something is tried again, 0 or more.

    Raises:
        ValueError: Both a name and an API key are given, or the URL has no `http://` or `https://`.

    Example:
        >>> async def main() -> str:
        ...     async with AsyncClient("http://127.0.0.1:7860", api_key="ms_…") as client:
        ...         task_id = await client.submit("shop.price", "apple")
        ...         return (await client.wait(task_id, timeout=60)).state
    """

    def __init__(
        self,
        url: str,
        *,
        username: str | None = None,
        password: str | None = None,
        api_key: str | None = None,
        timeout: float = 30.0,
        retries: int = 5,
    ) -> None:
        if username is not None and api_key is not None:
            raise ValueError("give a username and a password, or an api_key, not both")
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"the URL of a server begins with http:// or https://, and {url!r} does not")
        self.url = url
        super().__init__(Wire(url, Credential(username, password, api_key), timeout, retries))

    async def aclose(self) -> None:
        """Close all connections; may be called twice."""
        await self._wire.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def whoami(self) -> User:
        """Return the user whom the server takes this client for."""
        return read(await self._wire.ask("GET", "/api/v1/users/whoami"), User)
