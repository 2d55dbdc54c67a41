"""Eager execution: what is applied runs in the calling thread, at once, and has ended when the call returns."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

from millstream import Millstream, Settings, TaskTimeoutError, approval, chain, chord, flow, group, sleep, task
from millstream.authoring import current
from millstream.authoring.results.eager_result import EagerResult
from millstream.errors import BlockingCallError
from millstream.portal import running_loop

seen = threading.local()
request_of: ContextVar[str] = ContextVar("request_of", default="nobody")


@pytest.fixture(autouse=True)
def app() -> Iterator[Millstream]:
    """An app that was never started: nothing here may start it."""
    app = Millstream(settings=Settings(durability="off"))
    with current.use(app):
        yield app
    assert app._home.process is None


class OddError(Exception):
    """One that cannot be made again of its message."""

    def __init__(self, code: int, *, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code


@task
def add(x: int, y: int) -> int:
    return x + y


@task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@task
async def double(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


@task
def place() -> tuple[int, Any, str, str]:
    return threading.get_ident(), running_loop(), seen.value, request_of.get()


@task(run_in="process")
def in_a_process() -> int:
    return threading.get_ident()


@task
def fail() -> None:
    raise OddError(7, why="broken")


@task(bind=True, retries=3, retry_backoff=3600)
def unsteady(self: Any) -> int:
    if self.request.retries < 3:
        raise ConnectionError("not yet")
    return int(self.request.retries)


@task
def outer(x: int) -> int:
    return int(add.delay(x, 1).get()) * 10


@task
async def outer_async(x: int) -> int:
    return int(add.delay(x, 1).get()) * 10


@task(bind=True)
def is_eager(self: Any) -> bool:
    return bool(self.request.is_eager)


@task(bind=True)
def replaced(self: Any, x: int) -> int:
    raise self.replace(add.s(x, 100))


def test_a_function_is_called_in_this_thread_as_if_no_loop_ran_there() -> None:
    seen.value = "mine"
    request_of.set("somebody")
    assert place.apply().get() == (threading.get_ident(), None, "mine", "somebody")
    assert in_a_process.apply().get() == threading.get_ident()


async def test_it_can_be_applied_where_a_loop_runs() -> None:
    seen.value = "mine"
    here = asyncio.current_task()
    assert place.apply().get()[:2] == (threading.get_ident(), None)
    assert double.apply((4,)).get() == 8
    assert asyncio.current_task() is here
    await asyncio.sleep(0)


@pytest.mark.parametrize("work", [outer, outer_async])
def test_what_a_task_hands_in_runs_at_once_too(work: Any) -> None:
    result = work.apply((1,))
    assert result.get() == 20
    assert [child.get() for child in result.children] == [2]


def test_a_task_knows_that_it_runs_eagerly() -> None:
    assert is_eager.apply().get() is True


def test_retries_and_sleeps_take_no_time() -> None:
    @flow
    def late() -> Any:
        pause = sleep(3600)
        return unsteady.options(join="all_done")(), pause

    start = time.monotonic()
    result = current.app().apply(late)
    assert isinstance(result, EagerResult)
    assert result.get()[0] == 3
    assert unsteady.apply(countdown=3600).get() == 3
    assert time.monotonic() - start < 60


def test_an_exception_is_kept_as_it_is() -> None:
    result = fail.apply()
    assert isinstance(result, EagerResult)
    assert (result.state, result.ready(), result.failed()) == ("FAILURE", True, True)
    assert isinstance(result.result, OddError)
    assert result.result.code == 7
    assert "in fail" in str(result.traceback)
    with pytest.raises(OddError, match="7: broken") as raised:
        result.get()
    assert raised.value is result.result
    assert result.get(propagate=False) is raised.value


def test_an_exception_is_raised_where_the_caller_wants_it(app: Millstream) -> None:
    with pytest.raises(OddError):
        app.apply(fail, throw=True)
    with pytest.raises(OddError):
        fail.apply(throw=True)
    assert fail.s().apply(throw=False).failed()


def test_a_canvas_of_any_kind_runs_as_the_graph_that_it_is() -> None:
    assert chain(add.s(1, 1), double.s(), add.s(10)).apply().get() == 14
    assert group(add.s(n, n) for n in range(3)).apply().get() == [0, 2, 4]
    assert chord([add.s(n, n) for n in range(3)], total.s()).apply().get() == 6
    assert replaced.apply((1,)).get() == 101
    last = chain(add.s(1, 1), double.s()).apply()
    assert (last.get(), last.parent.get()) == (4, 2)


def test_callbacks_and_errbacks_run() -> None:
    told: list[Any] = []

    @task
    def tell(*what: Any) -> None:
        told.append(what)

    add.apply((1, 2), link=tell.s())
    fail.apply(link_error=tell.si("failed"))
    assert told == [(3,), ("failed",)]


def test_coroutines_keep_their_time_outs() -> None:
    @task(timeout=0.01)
    async def slow() -> None:
        await asyncio.Event().wait()

    with pytest.raises(TaskTimeoutError):
        slow.apply().get()


def test_what_waits_for_a_person_is_refused() -> None:
    @flow
    def refund() -> Any:
        return approval("really?")

    with pytest.raises(BlockingCallError, match="waits for an answer"):
        current.app().apply(refund)


def test_a_flow_is_drawn_in_this_thread() -> None:
    drawn_in = []

    @flow
    def drawing() -> Any:
        drawn_in.append(threading.get_ident())
        return add(1, 2)

    assert current.app().apply(drawing).get() == 3
    assert drawn_in == [threading.get_ident()]


@pytest.mark.parametrize("propagates", [False, True])
def test_with_a_setting_every_delay_runs_eagerly(propagates: bool) -> None:  # noqa: FBT001  a case
    always = Millstream(settings=Settings(task_always_eager=True, task_eager_propagates=propagates))
    with current.use(always):
        assert add.delay(1, 2).get() == 3
        assert add.apply_async((1, 2), countdown=3600).get() == 3
        if propagates:
            with pytest.raises(OddError):
                fail.delay()
        else:
            assert fail.delay().failed()
    assert always._home.process is None
