"""The process pool: what begins in it, and that what the program around it does to sockets does not reach it."""

from __future__ import annotations

import socket

import anyio

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


async def test_an_order_that_is_taken_back_in_the_instant_in_which_a_process_is_free_for_it_does_not_begin() -> None:
    pool = ProcessPool(1, SystemClock())
    begun = list[str]()

    async def second() -> None:
        with scope:
            await pool.run(_sleep(0), lambda _said: None, lambda: begun.append("second"))

    scope = anyio.CancelScope()
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(second)
            await pool.run(_sleep(0.1), lambda _said: None, lambda: begun.append("first"))
            scope.cancel()
        assert begun == ["first"]
        assert await pool.run(_sleep(0), lambda _said: None, lambda: None) == Returned(None)
    finally:
        await pool.close()


def _sleep(seconds: float) -> Order:
    calls: list[tuple[tuple[float], dict[str, object]]] = [((seconds,), {})]
    return Order("time", "sleep", calls, False, False, Request(), None, None)  # noqa: FBT003
