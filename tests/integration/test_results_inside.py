"""Results of what tasks submit while they run, in memory and with a ledger on disk."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from millstream import (
    AsyncResult,
    BlockingCallError,
    DefinitionError,
    Millstream,
    flow,
)
from tests.integration.results_tasks import (
    SECONDS,
    SEEN,
    add,
    add_soon,
    deliver_on_loop,
    gate,
    get_inside,
    join_inside,
    submit_from_loop,
    submit_from_process,
    submit_from_thread,
    wait_at,
)

pytestmark = pytest.mark.usefixtures("app")


@pytest.mark.parametrize("work", [submit_from_thread, submit_from_loop], ids=["thread", "loop"])
def test_what_a_task_submits_is_its_child(app: Millstream, work: Any) -> None:
    parent = work.delay(4)

    child = AsyncResult(parent.get(timeout=SECONDS))

    assert child.get(timeout=SECONDS) == 5
    assert SEEN["thread" if work is submit_from_thread else "loop"] is app
    record = asyncio.run(app.record(child.root_id or ""))
    assert record.parent == parent.id
    assert [known.root_id for known in parent.children] == [child.root_id]
    assert [value for _, value in parent.collect()][1:] == [5]


def test_a_task_on_the_loop_is_told_to_await() -> None:
    with pytest.raises(BlockingCallError, match=r"await app\.submit"):
        deliver_on_loop.delay().get(timeout=SECONDS)


def test_a_task_in_a_process_is_told_that_it_has_no_app() -> None:
    with pytest.raises(BlockingCallError, match="run_in='thread'"):
        submit_from_process.delay().get(timeout=SECONDS)


def test_waiting_inside_a_task_is_refused_unless_it_is_asked_for() -> None:
    done = add.delay(1, 2)
    done.get(timeout=SECONDS)

    with pytest.raises(BlockingCallError):
        get_inside.delay(done.id, is_refused=True).get(timeout=SECONDS)
    assert get_inside.delay(done.id, is_refused=False).get(timeout=SECONDS) == 3
    assert join_inside.delay(done.id).get(timeout=SECONDS) == 3


def test_a_flow_that_is_drawn_submits_nothing() -> None:
    @flow
    def wrong() -> Any:
        return add.delay(1, 2)

    with pytest.raises(DefinitionError, match="only draws"):
        wrong.run()


def test_those_who_wait_hold_up_neither_the_loop_nor_the_threads_of_tasks(app: Millstream, name: str) -> None:
    held = wait_at.delay(name, 1)
    got: list[Any] = []
    waiting = [
        threading.Thread(target=lambda: got.append(AsyncResult(held.id, app=app).get(timeout=SECONDS)))
        for _ in range(40)
    ]
    for thread in waiting:
        thread.start()

    begin = time.monotonic()
    assert add.delay(1, 2).get(timeout=SECONDS) == 3
    assert add_soon.delay(1, 2).get(timeout=SECONDS) == 3
    assert time.monotonic() - begin < SECONDS
    gate(name).set()
    for thread in waiting:
        thread.join(SECONDS)
    assert got == [1] * 40
