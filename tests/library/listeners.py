"""Loopback servers that count who connects to them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

Answering = Callable[["Asked"], None]


class Asked(BaseHTTPRequestHandler):
    """One request to a listener."""

    def do_GET(self) -> None:
        self.listener.asked.append(self)
        self.listener.answering(self)

    do_POST = do_PUT = do_GET  # noqa: N815  the names that http.server calls

    @property
    def listener(self) -> Listener:
        return cast("Listener", self.server)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing on the error output."""


class Listener(ThreadingHTTPServer):
    """Listens on an address of loopback.

    Attributes:
        connects: How many connections it has accepted.
        asked: The requests that came.
    """

    daemon_threads = True

    def __init__(self, answering: Answering, host: str) -> None:
        super().__init__((host, 0), Asked)
        self.answering = answering
        self.connects = 0
        self.asked: list[Asked] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> tuple[Any, Any]:
        self.connects += 1
        return super().get_request()

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that go away."""


@contextmanager
def listening(answering: Answering = Asked.answer, host: str = "127.0.0.1") -> Iterator[Listener]:
    with Listener(answering, host) as listener:
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield listener
        finally:
            listener.shutdown()
            thread.join()
