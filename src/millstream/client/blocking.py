"""`Client`: what `AsyncClient` does, for programs without an event loop.

It has no code of its own: each method runs the coroutine of the same name on a loop in a thread. Over a blocking HTTP
library it would be a second client, with second retries and a second way to resume; the thread costs a tenth of a
millisecond a call.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from millstream.client.aio import AsyncClient
from millstream.portal import Portal

P = ParamSpec("P")
T = TypeVar("T")


def _mirrored(
    method: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    """Return a method that runs a coroutine of `AsyncClient`, and returns what it returns."""

    @wraps(method)
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._door.call(method(self._client, *args, **kwargs))

    return call


def _streamed(
    method: Callable[Concatenate[AsyncClient, P], AsyncGenerator[T, None]],
) -> Callable[Concatenate[Client, P], Iterator[T]]:
    """Return a method that yields what an asynchronous generator of `AsyncClient` yields."""

    @wraps(method)
    def stream(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        coming = method(self._client, *args, **kwargs)

        async def following() -> tuple[T] | None:
            async for item in coming:
                return (item,)
            return None

        try:
            while item := self._door.call(following()):
                yield item[0]
        finally:
            self._door.call(coming.aclose())

    return stream


class Client:
    """A client of a server, whose methods block; see `AsyncClient`, which takes the same. Any thread may use it.

    Example:
        >>> def main() -> None:
        ...     with Client("http://127.0.0.1:7860", username="admin", password="…") as client:
        ...         for event in client.build_events(client.build("0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f", "hello")):
        ...             print(event.event)
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
        self._client = AsyncClient(
            url, username=username, password=password, api_key=api_key, timeout=timeout, retries=retries
        )
        self._door = Portal()

    def close(self) -> None:
        """Close all connections; may be called twice."""
        if self._door.is_running:
            self._door.call(self._client.aclose())
            self._door.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()

    whoami = _mirrored(AsyncClient.whoami)
    create_flow = _mirrored(AsyncClient.create_flow)
    flow = _mirrored(AsyncClient.flow)
    flows = _streamed(AsyncClient.flows)
    update_flow = _mirrored(AsyncClient.update_flow)
    delete_flow = _mirrored(AsyncClient.delete_flow)
    build = _mirrored(AsyncClient.build)
    build_events = _streamed(AsyncClient.build_events)
    run = _mirrored(AsyncClient.run)
    submit = _mirrored(AsyncClient.submit)
    status = _mirrored(AsyncClient.status)
    job = _mirrored(AsyncClient.job)
    jobs = _streamed(AsyncClient.jobs)
    events = _streamed(AsyncClient.events)
    known_events = _mirrored(AsyncClient.known_events)
    wait = _mirrored(AsyncClient.wait)
    cancel = _mirrored(AsyncClient.cancel)
    retry = _mirrored(AsyncClient.retry)
    approve = _mirrored(AsyncClient.approve)
    decide = _mirrored(AsyncClient.decide)
    act = _mirrored(AsyncClient.act)
