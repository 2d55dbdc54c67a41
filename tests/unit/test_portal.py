"""A coroutine can be run in this very thread, though a loop runs in it."""

import asyncio

import anyio
import pytest

from millstream.portal import loop_set_aside, run_here, running_loop


async def answer(depth: int) -> list[int]:
    """Use what needs a task and a loop of its own, some loops deep."""
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0)
    with anyio.move_on_after(0.001):
        await anyio.sleep_forever()
    found = await anyio.to_thread.run_sync(lambda: depth)
    return [found, *(run_here(lambda: answer(depth - 1)) if depth else [])]


def test_without_a_loop_it_just_runs() -> None:
    assert run_here(lambda: answer(1)) == [1, 0]
    assert running_loop() is None


async def test_it_runs_inside_of_a_task() -> None:
    here, loop = asyncio.current_task(), asyncio.get_running_loop()
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.001)
        assert run_here(lambda: answer(2)) == [2, 1, 0]
    assert (asyncio.current_task(), asyncio.get_running_loop()) == (here, loop)


async def test_it_runs_inside_of_a_callback() -> None:
    done = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: done.set_result(run_here(lambda: answer(0))))
    assert await done == [0]


async def test_what_it_raises_comes_out_and_the_loop_comes_back() -> None:
    async def fail() -> None:
        raise LookupError("nothing there")

    with pytest.raises(LookupError, match="nothing there"):
        run_here(fail)
    await asyncio.sleep(0)


async def test_code_can_be_shown_a_thread_without_a_loop() -> None:
    async def nothing() -> int:
        return 1

    with loop_set_aside():
        assert running_loop() is None
        assert asyncio.run(nothing()) == 1
    assert running_loop() is not None
