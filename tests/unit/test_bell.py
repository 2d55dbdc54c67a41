"""Wake-ups between processes: who hears what, and that nothing ever waits for them."""

import asyncio
import doctest
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from millstream.ledger import bell as module
from millstream.ledger.bell import SocketBell, Topic, read, write


class Ear:
    """Takes what is heard, and waits for it."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self._came = asyncio.Event()

    def __call__(self, topic: Topic, job_id: str) -> None:
        self.heard.append((topic, job_id))
        self._came.set()

    async def until(self, holds: Callable[[list[tuple[str, str]]], object]) -> None:
        async with asyncio.timeout(120):
            while not holds(self.heard):
                self._came.clear()
                await self._came.wait()


@pytest.fixture(params=["short", "longer than any address of a socket " * 4])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    root = tmp_path / str(request.param)
    root.mkdir()
    return root / "ledger.db.members"


@pytest.fixture
async def mine(directory: Path) -> AsyncIterator[SocketBell]:
    bell = SocketBell(directory)
    await bell.listen(lambda *_: None)
    yield bell
    await bell.close()


def sockets(directory: Path) -> int:
    return len(list(directory.iterdir())) if directory.exists() else 0


def listen_and_die(directory: Path) -> None:
    child = os.fork()
    if child == 0:
        try:
            asyncio.run(SocketBell(directory).listen(lambda *_: None))
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def test_the_examples_are_true() -> None:
    assert doctest.testmod(module).failed == 0


async def test_everyone_else_hears_everything_once(directory: Path, mine: SocketBell) -> None:
    others = [SocketBell(directory) for _ in range(3)]
    ears = [Ear() for _ in others]
    for other, ear in zip(others, ears, strict=True):
        await other.listen(ear)
    for i in range(500):
        mine.ring("queued", "a")
        mine.ring("ended", f"job {i}")
    for ear in ears:
        await ear.until(lambda heard: ("ended", "job 499") in heard)
        assert ear.heard.count(("queued", "a")) == 1
    for other in others:
        await other.close()


async def test_who_comes_later_is_found_and_who_has_left_is_not_missed(directory: Path, mine: SocketBell) -> None:
    mine.ring("queued", "to nobody")
    await asyncio.sleep(0)
    for _ in range(3):
        ear, other = Ear(), SocketBell(directory)
        await other.listen(ear)
        mine.ring("changed", "a")
        await ear.until(lambda heard: ("changed", "a") in heard)
        await other.close()
    assert sockets(directory) == 1


async def test_nobody_hears_himself(directory: Path) -> None:
    ear, bell, other, other_ear = Ear(), SocketBell(directory), SocketBell(directory), Ear()
    await bell.listen(ear)
    await other.listen(other_ear)
    bell.ring("queued", "a")
    await other_ear.until(len)
    assert ear.heard == []
    await bell.close()
    await other.close()


async def test_the_socket_of_a_dead_process_is_removed(directory: Path, mine: SocketBell) -> None:
    listen_and_die(directory)
    assert sockets(directory) == 2
    mine.ring("queued", "a")
    await asyncio.sleep(0)
    assert sockets(directory) == 1


async def test_one_that_does_not_read_holds_up_nobody(directory: Path, mine: SocketBell) -> None:
    other = SocketBell(directory)
    await other.listen(lambda *_: None)
    assert other._socket is not None
    asyncio.get_running_loop().remove_reader(other._socket.fileno())
    for i in range(10_000):
        mine.ring("ended", str(i))
        if i % 100 == 0:
            await asyncio.sleep(0)
    await other.close()


async def test_what_is_rung_before_a_close_is_sent(directory: Path) -> None:
    ear, bell, other = Ear(), SocketBell(directory), SocketBell(directory)
    await other.listen(ear)
    await bell.listen(lambda *_: None)
    bell.ring("queued", "last")
    await bell.close()
    bell.ring("queued", "too late")
    await ear.until(len)
    assert ear.heard == [("queued", "last")]
    await bell.close()
    await other.close()


async def test_before_the_first_listener_there_is_nothing(directory: Path) -> None:
    bell = SocketBell(directory)
    bell.ring("queued", "a")
    await bell.close()
    assert sockets(directory) == 0


async def test_where_no_socket_can_be_made_it_is_silent(tmp_path: Path) -> None:
    bell = SocketBell(tmp_path / "no" / "such")
    await bell.listen(lambda *_: None)
    bell.ring("queued", "a")
    await bell.close()


def test_what_is_no_wake_up_is_left_out() -> None:
    assert read(b"\xff\nqueued\nwhatever a\n" + write([("ended", "b")])) == [("queued", ""), ("ended", "b")]
