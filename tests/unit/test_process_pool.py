"""The process pool: what the program around it does to sockets does not reach its processes."""

from __future__ import annotations

import socket

from millstream.clock import SystemClock
from millstream.engine.processes import ProcessPool
from millstream.engine.request import Request
from millstream.engine.wire import Order, Returned


async def test_a_process_serves_when_sockets_were_given_a_default_timeout_as_celery_does_while_it_reconnects() -> None:
    pool = ProcessPool(1, SystemClock())
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(5)
    try:
        answer = await pool.run(_sleep(0.1), lambda _said: None, lambda: None)
    finally:
        socket.setdefaulttimeout(before)
        await pool.close()
    assert answer == Returned(None)


def _sleep(seconds: float) -> Order:
    calls: list[tuple[tuple[float], dict[str, object]]] = [((seconds,), {})]
    return Order("time", "sleep", calls, False, False, Request(), None, None)  # noqa: FBT003
