"""The thread pool's ticks: they wake threads for what waits, and leave alone what computes."""

import asyncio
import threading
from typing import Any

import pytest

from millstream.clock import SystemClock
from millstream.engine.threads import ThreadCall, ThreadPool


class Call(ThreadCall):
    """A call whose end sets a future."""

    def __init__(self, fn: Any) -> None:
        super().__init__(fn, ())
        self.end = asyncio.get_running_loop().create_future()

    def done(self, error: BaseException | None, value: Any) -> None:
        self.end.set_result((error, value))


async def test_functions_are_left_alone_while_nothing_waits_for_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, look = 0, ThreadPool._look

    def counted(pool: ThreadPool) -> None:
        nonlocal looks
        looks += 1
        look(pool)

    monkeypatch.setattr(ThreadPool, "_look", counted)
    pool, go_on = ThreadPool(4, SystemClock()), threading.Event()
    try:
        pool.submit(call := Call(go_on.wait))
        await asyncio.sleep(0.5)
        go_on.set()
        await call.end
        assert looks < 50
    finally:
        pool.close()


async def test_what_comes_after_a_long_silence_gets_its_thread_at_once() -> None:
    pool, go_on = ThreadPool(4, SystemClock()), threading.Event()
    try:
        pool.submit(first := Call(go_on.wait))
        await asyncio.sleep(0.1)
        pool.submit(second := Call(lambda: 2))
        assert await second.end == (None, 2)
        assert not first.end.done()
    finally:
        go_on.set()
        pool.close()
