"""`TaskService` runs any callable, tells the truth about it, and leaves nothing behind."""

import asyncio
import functools
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from millstream import JobCancelledError, Millstream, Settings, SettingsError, ctx, flow, task
from millstream.authoring import current
from millstream.errors import DefinitionError, InvalidInputError, JobNotFoundError, NotSerializableError
from millstream.ledger.base import LedgerUnavailableError, StorageFullError
from millstream.service import (
    AnyIOBackend,
    TaskService,
    WorkflowResourceError,
    WorkflowServiceUnavailableError,
    get_settings_service,
)


@pytest.fixture
async def service() -> AsyncIterator[TaskService]:
    async with TaskService(Settings()) as service:
        yield service


class Multiplier:
    def __init__(self, by: int) -> None:
        self.by = by

    def times(self, x: int) -> int:
        return self.by * x

    async def times_async(self, x: int) -> int:
        return self.by * x

    def __call__(self, x: int) -> int:
        return self.by * x


async def triple(x: int) -> int:
    return 3 * x


def closure(by: int) -> object:
    def inner(x: int) -> int:
        return by * x

    return inner


CALLABLES = {
    "a lambda": lambda x: 3 * x,
    "a closure": closure(3),
    "a bound method": Multiplier(3).times,
    "a bound coroutine method": Multiplier(3).times_async,
    "a callable object": Multiplier(3),
    "a partial": functools.partial(lambda by, x: by * x, 3),
    "a partial of a coroutine function": functools.partial(triple),
    "a coroutine function": triple,
    "a lambda that gives a coroutine": lambda x: triple(x=x),
    "a builtin method": (3).__mul__,
}


@pytest.mark.parametrize("fn", CALLABLES.values(), ids=CALLABLES.keys())
async def test_any_callable_runs(service: TaskService, fn: object) -> None:
    task_id, handle = await service.launch_task(fn, 5)
    assert await handle == 15
    assert (handle.id, handle.status, handle.result, handle.ready()) == (task_id, "SUCCESS", 15, True)


async def test_arguments_and_results_are_not_copied(service: TaskService) -> None:
    loop = [threading.Lock()]
    loop.append(loop)  # type: ignore[arg-type]
    assert await service.launch_and_await_task(lambda value, *, priority: (value, priority), loop, priority=loop) == (
        loop,
        loop,
    )
    assert await service.launch_and_await_task(lambda: loop) is loop


async def test_nothing_is_kept_of_a_callable_that_has_run(service: TaskService) -> None:
    calls = [Multiplier(n) for n in range(3)]
    assert [await service.launch_and_await_task(call.times, 2) for call in calls] == [0, 2, 4]
    app = service._owned
    assert app is not None
    known = app._home._library._works
    assert [name for name in known if name.endswith("Multiplier.times()")] == [f"{__name__}.Multiplier.times()"]
    assert all(call not in vars(work).values() for work in known.values() for call in calls)


async def test_a_plain_function_runs_in_a_thread_and_a_coroutine_on_the_loop(service: TaskService) -> None:
    async def where() -> int:
        return threading.get_ident()

    assert await service.launch_and_await_task(threading.get_ident) != threading.get_ident()
    assert await service.launch_and_await_task(where) == threading.get_ident()


async def test_what_a_callable_raises_is_raised_to_whoever_awaits_it(service: TaskService) -> None:
    def fail() -> None:
        raise LookupError("nothing there")

    _, handle = await service.launch_task(fail)
    with pytest.raises(LookupError, match="nothing there"):
        await handle
    assert handle.status == "FAILURE"
    assert isinstance(handle.exception, LookupError)
    assert "in fail" in handle.traceback
    assert handle.result is None


async def test_a_handle_keeps_up_without_being_awaited(service: TaskService) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def wait() -> str:
        begun.set()
        await go.wait()
        return "gone"

    task_id = await service.fire_and_forget_task(wait)
    handle = service.get_task(task_id)
    assert handle.status == "PENDING"
    await begun.wait()
    await until(lambda: handle.status == "STARTED")
    go.set()
    await until(handle.ready)
    assert (handle.status, handle.result) == ("SUCCESS", "gone")
    assert service.get_task(task_id) is handle


async def test_a_coroutine_that_is_revoked_has_cleaned_up(service: TaskService) -> None:
    begun, cleaned = asyncio.Event(), []

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    task_id, handle = await service.launch_task(wait)
    await begun.wait()
    assert await service.revoke_task(task_id) is True
    assert cleaned == [True]
    assert handle.status == "REVOKED"
    with pytest.raises(JobCancelledError):
        await handle
    assert await service.revoke_task(task_id) is False


async def test_of_many_revokes_one_has_stopped_the_task(service: TaskService) -> None:
    task_id = await service.fire_and_forget_task(asyncio.Event().wait)
    assert sorted(await asyncio.gather(*(service.revoke_task(task_id) for _ in range(10)))) == [False] * 9 + [True]


async def test_a_task_that_has_ended_or_is_not_known_is_not_revoked(service: TaskService) -> None:
    task_id, handle = await service.launch_task(triple, 1)
    await handle
    assert await service.revoke_task(task_id) is False
    assert handle.status == "SUCCESS"
    assert await service.revoke_task("no such task") is False


async def test_a_function_that_cannot_be_stopped_is_not_said_to_be(service: TaskService) -> None:
    begun, go = threading.Event(), threading.Event()

    def busy() -> None:
        begun.set()
        go.wait()

    task_id, handle = await service.launch_task(busy)
    await asyncio.to_thread(begun.wait)
    assert await service.revoke_task(task_id) is False
    assert handle.status == "REVOKED"
    go.set()


async def test_a_function_that_notices_is_stopped(service: TaskService) -> None:
    begun, ended = threading.Event(), threading.Event()

    def busy() -> None:
        begun.set()
        while not ctx.cancelled:
            threading.Event().wait(0.001)
        ended.set()

    task_id = await service.fire_and_forget_task(busy)
    await asyncio.to_thread(begun.wait)
    assert await service.revoke_task(task_id) is True
    assert ended.is_set()


@task(retries=2)
def unsteady(seen: str) -> int:
    with Path(seen).open("a", encoding="utf-8") as file:
        file.write("x")
    if len(Path(seen).read_text(encoding="utf-8")) < 3:
        raise ConnectionError("not yet")
    return 3


@flow(durability="off")
def unsteadily(seen: str) -> object:
    return unsteady(seen)


@pytest.mark.parametrize(("work", "durability"), [(unsteady, "full"), (unsteadily, "off"), (unsteady.s(), "full")])
async def test_tasks_flows_and_signatures_run_by_their_own_policy(
    service: TaskService, tmp_path: Path, work: object, durability: str
) -> None:
    task_id, handle = await service.launch_task(work, str(tmp_path / "seen"))
    assert await handle == 3
    assert service._owned is not None
    assert (await service._owned.record(task_id)).durability == durability


async def test_what_cannot_be_run_is_refused_at_once(service: TaskService) -> None:
    with pytest.raises(DefinitionError, match="a function, a task, a flow or a signature is needed"):
        await service.launch_task("shop.pay")
    with pytest.raises(InvalidInputError):
        await service.launch_task(unsteady, nothing="of the kind")
    with pytest.raises(JobNotFoundError):
        await service.get_task("no such task")


SHOP = """
import os

def price(article):
    return {"article": article, "pid": os.getpid()}

def stuck(article):
    import threading
    print("begun", flush=True)
    threading.Event().wait()
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "corner_shop.py").write_text(SHOP, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "corner_shop", raising=False)
    return "corner_shop"


async def test_a_function_of_an_imported_module_is_durable_by_its_name(shop: str) -> None:
    async with TaskService(Settings(imports=(shop,))) as service:
        task_id, handle = await service.launch_task(sys.modules[shop].price, "book")
        assert (await handle)["article"] == "book"
        app = service._owned
        assert app is not None
        record = await app.record(task_id)
        assert (record.flow, record.durability, record.inputs) == ("corner_shop.price", "full", {"article": "book"})
        with pytest.raises(NotSerializableError, match="put the call in a lambda"):
            await service.launch_task(sys.modules[shop].price, threading.Lock())


async def test_another_process_goes_on_with_a_function_of_a_module_that_it_imports(shop: str, tmp_path: Path) -> None:
    app = Millstream(imports=[shop], executes=False)
    service = TaskService(app)
    task_id, handle = await service.launch_task(sys.modules[shop].price, "book")
    with subprocess.Popen(  # noqa: ASYNC220  it is waited for by its result
        [sys.executable, "-m", "millstream", "worker", "-A", shop], cwd=tmp_path, stderr=subprocess.DEVNULL
    ) as worker:
        try:
            async with asyncio.timeout(120):
                assert (await handle)["pid"] == worker.pid
        finally:
            worker.terminate()
    other = TaskService(app)
    assert (await other.get_task(task_id).refresh()).status == "SUCCESS"
    await app.aclose()


async def test_a_service_over_an_app_leaves_it_open() -> None:
    async with Millstream(settings=Settings(durability="off")) as app:
        async with TaskService(app) as service:
            assert await service.launch_and_await_task(triple, 1) == 3
        with current.use(app):
            service = TaskService()
            assert await AnyIOBackend().launch_task(triple, 2)
        assert await service.launch_and_await_task(triple, 1) == 3
        await service.stop()
        assert await (await app.submit(unsteady_once)).result() == 1


@task
async def unsteady_once() -> int:
    return 1


async def test_it_may_be_stopped_twice_and_before_it_was_started() -> None:
    service = TaskService(Settings())
    await service.stop()
    await service.aclose()


@pytest.mark.parametrize(
    "given", [Settings(celery_enabled=True), SimpleNamespace(settings=Settings(celery_enabled=True))]
)
def test_workers_without_a_broker_are_refused_in_one_line(given: object) -> None:
    with pytest.raises(SettingsError, match=r"^celery_enabled = true .*: needs a broker; set broker_url or redis_url"):
        TaskService(given)


def test_what_holds_no_settings_is_refused() -> None:
    with pytest.raises(SettingsError, match="TaskService takes Settings, get_settings_service"):
        TaskService({"celery_enabled": False})


def test_it_names_its_backend() -> None:
    service = TaskService(get_settings_service())
    backend = service.get_backend()
    assert (service.backend_name, service.use_celery, backend.name) == ("anyio", False, "anyio")
    assert isinstance(backend, AnyIOBackend)


def test_the_ledgers_errors_are_the_service_s() -> None:
    assert issubclass(LedgerUnavailableError, WorkflowServiceUnavailableError)
    assert issubclass(StorageFullError, WorkflowServiceUnavailableError)


async def test_a_ledger_that_cannot_be_reached_makes_the_service_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    service = TaskService(Settings(database_url=f"sqlite:///{tmp_path}/file/ledger.db"))
    with pytest.raises(WorkflowServiceUnavailableError):
        await service.launch_task(unsteady, "seen")
    await service.stop()


@flow
def wide(width: int) -> object:
    return [unsteady_once() for _ in range(width)]


async def test_what_is_too_large_is_over_a_limit() -> None:
    async with TaskService(Settings(max_value_bytes=1000, max_graph_nodes=10)) as service:
        with pytest.raises(WorkflowResourceError, match="max_value_bytes"):
            await service.launch_task(unsteady, "x" * 2000)
        with pytest.raises(WorkflowResourceError, match="max_graph_nodes"):
            await service.launch_task(wide, 11)


async def until(holds: object) -> None:
    assert callable(holds)
    async with asyncio.timeout(120):
        while not holds():  # noqa: ASYNC110  it is set by nobody who could tell
            await asyncio.sleep(0.001)
