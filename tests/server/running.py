"""The real server in a thread of the test's process: Uvicorn, on a free port, with its own event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from fastapi import FastAPI

from millstream.app import Millstream
from millstream.clock import new_id
from millstream.ledger.accounts import User
from millstream.server.assemble import create_app
from millstream.server.launch import HttpServer
from millstream.server.site import Site
from millstream.settings import Settings

PASSWORD = "correct horse battery staple"  # noqa: S105  of users that live as long as a test
PATIENCE = 120.0

T = TypeVar("T")


class RunningServer:
    """A server that runs while the `with` block does.

    Attributes:
        url: Where it answers.
        site: What its routes share.
        said: What it told the one who started it.
    """

    def __init__(self, settings: Settings, app: Millstream | None = None) -> None:
        settings = settings.model_copy(update={"port": 0})
        self.said: list[str] = []
        self.api: FastAPI = create_app(settings, app=app, say=self.said.append)
        self.site: Site = self.api.state.site
        self.http = HttpServer(self.api, settings)
        self.url = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(PATIENCE):
            raise TimeoutError("the server did not start")
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server as SIGTERM does, and wait for its end."""
        self.http.should_exit = True
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise TimeoutError("the server did not stop")
        if self._error is not None:
            raise self._error

    def do(self, make: Callable[[Site], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the server's loop, and return what it returns."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(make(self.site), self._loop).result(PATIENCE)

    def add_user(self, name: str, password: str = PASSWORD, *, is_superuser: bool = False) -> User:
        """Add a user by the shortest way."""

        async def add(site: Site) -> User:
            now = site.clock.now()
            hashed = await site.passwords.hash(password)
            user = User(
                id=new_id(), name=name, password=hashed, is_superuser=is_superuser, created_at=now, updated_at=now
            )
            await site.accounts.add_user(user)
            return user

        return self.do(add)

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # noqa: BLE001  it is raised where the test waits
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()

        def ready(url: str) -> None:
            self.url = url
            self._ready.set()

        await self.http.run_until_stopped(ready)


def signed_in(server: RunningServer, name: str, password: str = PASSWORD) -> httpx.Client:
    """Return a client that sends the token of a new sign-in."""
    client = httpx.Client(base_url=server.url, timeout=PATIENCE)
    answer = client.post("/api/v1/login", data={"username": name, "password": password})
    assert answer.status_code == 200, answer.text
    client.cookies.clear()  # the token alone counts
    client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
    return client
