"""Tasks of `millstream.compat`: options, handlers, signals and retries, as Celery has them."""

import asyncio
import importlib.util
import os
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from pydantic import BaseModel

from millstream import Millstream, ctx
from millstream.authoring import current
from millstream.compat import (
    Celery,
    NotYetWarning,
    Task,
    _state,
    chain,
    chord,
    current_app,
    current_task,
    group,
    shared_task,
    signals,
    signature,
)
from millstream.compat.exceptions import (
    DuplicateTaskNameWarning,
    Ignore,
    MaxRetriesExceededError,
    NotRegistered,
    Reject,
    TaskRevokedError,
)
from millstream.compat.result import AsyncResult, EagerResult, GroupResult, ResultSet, allow_join_result
from millstream.errors import BlockingCallError, DefinitionError, SettingsError
from tests.integration.results_tasks import until

WAIT = 120

app_of_module = Celery("module", set_as_current=False)


@pytest.fixture
def app() -> Iterator[Celery]:
    millstream = Millstream()
    with current.use(millstream):
        yield Celery("shop")
    asyncio.run(millstream.aclose())
    _state.set_current_app(None)


def test_a_task_is_named_as_celery_names_it(app: Celery) -> None:
    @app.task
    def pay(order: int) -> int:
        return order

    assert pay.name == f"{__name__}.pay"
    assert app.tasks[pay.name] is pay
    assert pay.apply_async((3,)).get(timeout=WAIT) == 3


def test_options_become_the_policy_and_settings_fill_what_they_leave_open(app: Celery) -> None:
    @app.task(time_limit=60, queue="slow", max_retries=5, priority=7)
    def render() -> None: ...

    app.conf.update(task_soft_time_limit=20, task_routes={f"{__name__}.ren*": {"queue": "gpu"}})
    policy = render.policy
    assert (policy.timeout, policy.soft_timeout, policy.queue) == (60, 20, "gpu")
    assert (policy.retries, policy.priority, policy.retry_for) == (5, 7, ())


@pytest.mark.parametrize(("acks_late", "effect"), [(None, "idempotent"), (True, "idempotent"), (False, "once")])
def test_acks_late_decides_what_a_death_does_to_a_task(app: Celery, *, acks_late: bool | None, effect: str) -> None:
    @app.task(name="shop.charge", acks_late=acks_late)
    def charge() -> None: ...

    assert charge.policy.effect == effect


def telling(told: list[str]) -> type[Task]:
    """Return a class of tasks whose handlers tell that they were called."""

    class Telling(Task):
        def before_start(self, *_: Any) -> None:
            told.append("before_start")

        def on_success(self, *_: Any) -> None:
            told.append("on_success")

        def on_retry(self, exc: Any, *_: Any) -> None:
            told.append(f"on_retry {exc}")

        def on_failure(self, exc: Any, *_: Any) -> None:
            told.append(f"on_failure {exc}")

        def after_return(self, status: str, *_: Any) -> None:
            told.append(f"after_return {status}")

    return Telling


def test_handlers_and_signals_come_in_celerys_order(app: Celery) -> None:
    told: list[str] = []

    base = telling(told)

    @app.task(base=base, bind=True, name="shop.flaky", default_retry_delay=0)
    def flaky(self: Any, fails: int, *, last: bool = False) -> str:
        if self.request.retries < fails:
            raise self.retry(exc=ValueError("again"))
        if last:
            raise KeyError("last")
        return "done"

    def listen(name: str) -> Any:
        def receive(**arguments: Any) -> None:
            told.append(f"{name} {arguments['state']}" if name == "postrun" else name)

        getattr(signals, f"task_{name}").connect(receive, sender=flaky, weak=False)
        return receive

    kept = [listen(name) for name in ("prerun", "success", "retry", "failure", "postrun")]
    assert flaky.delay(1).get(timeout=WAIT) == "done"
    assert told == [
        *("prerun", "before_start", "on_retry again", "retry", "postrun RETRY"),
        *("prerun", "before_start", "on_success", "success", "after_return SUCCESS", "postrun SUCCESS"),
    ]
    told.clear()
    with pytest.raises(KeyError):
        flaky.delay(0, last=True).get(timeout=WAIT)
    assert told == [
        *("prerun", "before_start", "on_failure 'last'", "failure", "after_return FAILURE", "postrun FAILURE")
    ]
    assert len(kept) == 5


def test_what_a_handler_raises_changes_nothing_of_the_task(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    class Clumsy(Task):
        def on_success(self, *_: Any) -> None:
            raise RuntimeError("clumsy")

    @app.task(base=Clumsy, name="shop.fine")
    def fine() -> int:
        return 1

    assert fine.delay().get(timeout=WAIT) == 1
    assert "shop.fine" in caplog.text


def test_a_task_that_has_no_retry_left_fails_with_what_went_wrong(app: Celery) -> None:
    @app.task(bind=True, name="shop.never", max_retries=1, default_retry_delay=0)
    def never(self: Any, *, exc: bool) -> None:
        raise self.retry(exc=OSError("down") if exc else None)

    with pytest.raises(OSError, match="down"):
        never.delay(exc=True).get(timeout=WAIT)
    with pytest.raises(MaxRetriesExceededError):
        never.delay(exc=False).get(timeout=WAIT)


def test_autoretry_tries_what_it_names_and_nothing_else(app: Celery) -> None:
    tries: list[str] = []

    @app.task(
        name="shop.auto",
        autoretry_for=(OSError,),
        dont_autoretry_for=(FileNotFoundError,),
        retry_kwargs={"max_retries": 2, "countdown": 0},
    )
    def auto(kind: str) -> None:
        tries.append(kind)
        raise {"os": OSError, "file": FileNotFoundError, "value": ValueError}[kind](kind)

    for kind, count in (("os", 3), ("file", 1), ("value", 1)):
        result = auto.delay(kind)
        assert isinstance(result.get(timeout=WAIT, propagate=False), Exception)
        assert tries.count(kind) == count


def test_a_retry_with_other_arguments_goes_on_with_the_retries_that_are_left(app: Celery) -> None:
    @app.task(bind=True, name="shop.count", max_retries=2, default_retry_delay=0)
    def count(self: Any, number: int) -> int:
        if number < 10:
            raise self.retry(args=(number + 5,))
        return number

    assert count.delay(0).get(timeout=WAIT) == 10
    with pytest.raises(MaxRetriesExceededError):
        count.delay(-10).get(timeout=WAIT)


def test_retries_are_counted_over_those_with_other_arguments(app: Celery) -> None:
    told: list[tuple[int, int, Any]] = []

    @app.task(bind=True, name="shop.paged", max_retries=5, default_retry_delay=0)
    def paged(self: Any, page: int) -> int:
        told.append((self.request.retries, self.request.max_retries, self.request.headers))
        if page < 3:
            raise self.retry(args=(page + 1,))
        if self.request.retries < 4:
            raise self.retry()
        return page

    assert paged.apply_async((0,), headers={"user": "Ann"}).get(timeout=WAIT) == 3
    assert told == [(count, 5, {"user": "Ann"}) for count in range(5)]


def test_a_coroutine_function_is_a_task_with_handlers_too(app: Celery) -> None:
    told: list[Any] = []

    @app.task(name="shop.later", bind=True)
    async def later(self: Any, x: int) -> int:
        await asyncio.sleep(0)
        assert current_task.name == self.name
        return x + 1

    kept = signals.task_success.connect(lambda result, **_: told.append(result), sender=later, weak=False)
    assert chain(later.s(1), later.s())().get(timeout=WAIT) == 3
    assert kept is not None
    assert told == [2, 3]


def test_a_class_based_task_need_not_call_its_base(app: Celery) -> None:
    class Greeting(app.Task):  # type: ignore[name-defined, misc]
        name = "shop.greeting"

        def __init__(self) -> None:
            self.word = "hello"

        def run(self, whom: str) -> str:
            return f"{self.word} {whom}"

    greeting = app.register_task(Greeting())
    assert greeting("you") == "hello you"
    assert greeting.delay("world").get(timeout=WAIT) == "hello world"


def test_a_class_may_say_what_a_call_does(app: Celery) -> None:
    class Twice(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return 2 * super().__call__(*args, **kwargs)

    @app.task(base=Twice, name="shop.one", bind=True)
    def one(self: Any) -> int:
        return 1 if self.request.id else 0

    assert one.delay().get(timeout=WAIT) == 2


def test_shared_tasks_belong_to_every_app(app: Celery) -> None:
    @shared_task(name="shared.double")
    def double(x: int) -> int:
        return 2 * x

    assert current_app.tasks["shared.double"] is double
    assert double.app is app
    assert double.delay(4).get(timeout=WAIT) == 8
    assert Celery("other").tasks["shared.double"] is double


def test_results_are_found_by_their_ids_with_the_app_given(app: Celery) -> None:
    @app.task(name="shop.double")
    def double(x: int) -> int:
        return 2 * x

    one, two = double.delay(1), group(double.s(1), double.s(2)).apply_async()

    found = AsyncResult(one.id, app=app, backend=None, task_name="shop.double")
    assert (found.get(timeout=WAIT), found.state) == (2, "SUCCESS")
    restored = GroupResult.restore(two.id, app=app)
    assert restored is not None
    assert restored.get(timeout=WAIT) == [2, 4]
    assert ResultSet([found, *restored], app=app).get(timeout=WAIT) == [2, 2, 4]


def test_a_shared_task_without_a_class_has_that_of_the_apps_tasks(app: Celery) -> None:
    class Noted(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return f"noted {self.run(*args, **kwargs)}"

    before = shared_task(name="shared.before")(lambda: "before")
    own = shared_task(name="shared.own", base=Task)(lambda: "own")
    app.Task = Noted
    after = shared_task(name="shared.after")(lambda: "after")

    assert [made.delay().get(timeout=WAIT) for made in (before, own, after)] == ["noted before", "own", "noted after"]

    app.Task = Task
    assert before.delay().get(timeout=WAIT) == "before"


def test_a_task_is_sent_by_its_name(app: Celery) -> None:
    @app.task(name="shop.by.name")
    def add(x: int, y: int) -> int:
        return x + y

    assert app.send_task("shop.by.name", (1, 2)).get(timeout=WAIT) == 3
    assert chord([signature("shop.by.name", (1, 1)), add.s(2, 2)])(signature("shop.by.name", ([0],))).state is not None
    with pytest.raises(NotRegistered, match=r"shop\.by\.nam"):
        app.send_task("shop.by.nam", (1, 2))
    with pytest.raises(NotRegistered, match="no task is named"):
        app.tasks["nowhere"]
    assert add.name == "shop.by.name"


class Order(BaseModel):
    number: int


class Receipt(BaseModel):
    number: int
    paid: bool


def test_models_are_arguments_and_results(app: Celery) -> None:
    @app.task(pydantic=True, name="shop.receipt")
    def receipt(order: Order, note: str | None = None) -> Receipt:
        assert isinstance(order, Order)
        return Receipt(number=order.number, paid=note is None)

    assert receipt.delay({"number": 3}).get(timeout=WAIT) == {"number": 3, "paid": True}
    assert receipt.delay(Order(number=4), note="x").get(timeout=WAIT) == {"number": 4, "paid": False}
    with pytest.raises(Exception, match="valid integer"):
        receipt.delay({"number": "many"}).get(timeout=WAIT)


def test_always_eager_runs_in_the_callers_thread(app: Celery) -> None:
    @app.task(name="shop.eager")
    def eager(x: int) -> int:
        if x < 0:
            raise ValueError("negative")
        return x

    app.conf.task_always_eager = True
    assert isinstance(eager.delay(1), EagerResult)
    assert group(eager.s(1), eager.s(2))().get() == [1, 2]
    assert eager.delay(-1).state == "FAILURE"
    app.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="negative"):
        eager.delay(-1)


def test_options_that_speak_of_messages_mean_nothing(app: Celery) -> None:
    @app.task(name="shop.same", serializer="pickle", ignore_result=True)
    def same(x: int) -> int:
        return x

    assert same.apply_async((1,), exchange="e", routing_key="r", serializer="json", retry=False).get(timeout=WAIT) == 1
    assert chain(same.s(2).set(serializer="json"), same.s())().get(timeout=WAIT) == 2


def test_a_task_may_wait_for_another_in_a_block_that_allows_it(app: Celery) -> None:
    @app.task(name="shop.inner")
    def inner() -> int:
        return 5

    @app.task(name="shop.outer")
    def outer(*, allowed: bool) -> int:
        result = inner.delay()
        with allow_join_result() if allowed else nullcontext():
            return int(result.get(timeout=WAIT))

    assert outer.delay(allowed=True).get(timeout=WAIT) == 5
    with pytest.raises(BlockingCallError):
        outer.delay(allowed=False).get(timeout=WAIT)


def test_ignore_and_reject_end_a_task_as_they_say(app: Celery) -> None:
    @app.task(name="shop.ends")
    def ends(how: str) -> None:
        raise {"ignore": Ignore, "reject": Reject}[how](how)

    ignored, rejected = ends.delay("ignore"), ends.delay("reject")
    for result, state in ((ignored, "IGNORED"), (rejected, "REJECTED")):
        result.get(timeout=WAIT, propagate=False)
        assert result.state == state


@pytest.fixture
def revoked() -> Iterator[list[tuple[str, bool]]]:
    """What `task_revoked` tells: names of tasks, and whether they ran."""
    told: list[tuple[str, bool]] = []

    @signals.task_revoked.connect
    def kept(sender: Any, terminated: bool, **_: Any) -> None:  # noqa: FBT001  as Celery calls it
        told.append((sender.name, terminated))

    yield told
    assert signals.task_revoked.disconnect(kept)


def test_a_revoked_task_that_had_not_started_is_told_of_once(app: Celery, revoked: list[tuple[str, bool]]) -> None:
    @app.task(name="shop.later.on")
    def later() -> None: ...

    for revoke in (lambda result: app.control.revoke(result.id), lambda result: result.revoke()):
        result = later.apply_async(countdown=3600)
        revoke(result)
        revoke(result)
        with pytest.raises(TaskRevokedError):
            result.get(timeout=WAIT)
    group(later.s(), later.s()).apply_async(countdown=3600).revoke()

    assert revoked == [("shop.later.on", False)] * 4


@pytest.mark.parametrize("kind", ["thread", "coroutine"])
def test_a_revoked_task_that_runs_is_told_of_once(app: Celery, revoked: list[tuple[str, bool]], kind: str) -> None:
    begun = threading.Event()

    @app.task(name="shop.running")
    def in_thread() -> None:
        begun.set()
        while not ctx.cancelled:
            time.sleep(0.005)

    @app.task(name="shop.running.async")
    async def on_loop() -> None:
        begun.set()
        await asyncio.sleep(3600)

    work = in_thread if kind == "thread" else on_loop
    result = work.delay()
    assert begun.wait(WAIT)
    until(lambda: result.state == "STARTED")

    assert result.revoke()

    until(lambda: revoked)
    asyncio.run(current.app().aclose())  # type: ignore[attr-defined]  # whatever would still tell has ended then
    assert revoked == [(work.name, True)]


def test_control_answers_for_this_process(app: Celery) -> None:
    @app.task(name="shop.seen")
    def seen() -> None: ...

    @app.task(name="shop.held")
    async def held(hours: int) -> None:
        await asyncio.sleep(3600 * hours)

    result = seen.apply_async(countdown=3600)
    running = held.apply_async((1,), task_id="of its own")
    follows = chain(held.s(2), seen.si())()
    until(lambda: running.state == follows.parent.state == "STARTED")
    (scheduled,) = app.control.inspect().scheduled().values()
    assert [(told["request"]["id"], told["request"]["name"]) for told in scheduled] == [(result.id, "shop.seen")]
    assert scheduled[0]["eta"] > app.now().isoformat()
    (active,) = app.control.inspect().active().values()
    assert {told["id"]: told["args"] for told in active} == {"of its own": [1], follows.parent.id: [2]}
    assert {told["hostname"] for told in active} == set(app.control.inspect().ping() or ())
    app.control.revoke([running.id, follows.id])
    assert next(iter(app.control.inspect().registered().values())) == sorted(app.tasks)
    app.control.revoke([result.id])


def test_two_tasks_of_one_name_are_told_of_and_the_first_is_kept(app: Celery) -> None:
    @app.task(name="shop.twin")
    def first() -> int:
        return 1

    with pytest.warns(DuplicateTaskNameWarning, match=r"shop\.twin"):

        @app.task(name="shop.twin")
        def second() -> int:
            return 2

    assert second is first


def test_annotations_change_the_attributes_of_tasks(app: Celery) -> None:
    app.conf.task_annotations = {"*": {"max_retries": 9}, "shop.noted": {"time_limit": 4}}

    @app.task(name="shop.noted")
    def noted() -> None: ...

    app.finalize()
    assert (noted.max_retries, noted.policy.timeout) == (9, 4)


def test_an_app_without_autofinalize_must_be_finished_first() -> None:
    app = Celery("strict", autofinalize=False, set_as_current=False)
    with pytest.raises(RuntimeError, match="finalize"):
        _ = app.tasks
    app.finalize()
    assert "shop.none" not in app.tasks


def test_publishing_is_told_before_and_after(app: Celery) -> None:
    @app.task(name="shop.published")
    def published() -> None: ...

    told: list[tuple[str, Any]] = []

    @signals.before_task_publish.connect(sender="shop.published")
    def before(headers: dict[str, Any], **_: Any) -> None:
        told.append(("before", headers["id"]))

    @signals.after_task_publish.connect(sender="shop.published")
    def after(headers: dict[str, Any], **_: Any) -> None:
        told.append(("after", headers["id"]))

    result = published.delay()
    assert told == [("before", None), ("after", result.id)]
    assert isinstance(result, AsyncResult)


def test_a_rate_limit_is_told_to_be_missing(app: Celery) -> None:
    with pytest.warns(NotYetWarning, match=r"rate_limit of shop\.fast"):

        @app.task(name="shop.fast", rate_limit="10/s")
        def fast() -> None: ...

    assert fast.rate_limit == "10/s"


@app_of_module.task(run_in="process")
def in_a_process(x: int) -> tuple[int, int]:
    return x, os.getpid()


@app_of_module.task(run_in="process", bind=True, max_retries=1, default_retry_delay=0, name="module.retried")
def retried_in_a_process(self: Any) -> int:
    if self.request.retries == 0:
        raise self.retry(exc=ValueError("again"))
    return int(self.request.retries)


def test_a_task_runs_in_a_process_of_its_own(app: Celery) -> None:
    x, pid = in_a_process.delay(3).get(timeout=WAIT)
    assert (x, pid == os.getpid()) == (3, False)
    assert retried_in_a_process.delay().get(timeout=WAIT) == 1
    assert app.main == "shop"


def test_the_real_celery_app_has_the_settings_of_workers_and_no_time_limit_of_tasks(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("celery._state._tls.current_app", None)  # it makes itself Celery's current one
    app.conf.update(broker_url="redis://h/0", task_time_limit=7, worker_max_tasks_per_child=9, worker_lost_wait=3)
    real = app.celery_app
    assert (real.main, real.conf.broker_url, real.conf.worker_max_tasks_per_child) == (app.main, "redis://h/0", 9)
    assert (real.conf.worker_lost_wait, real.conf.task_time_limit) == (3, None)
    assert app.celery_app is real


def test_the_real_celery_app_needs_celery_and_a_broker(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match=r"celery_enabled = true .*: needs a broker"):
        app.worker_main(["worker"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(DefinitionError, match=r"millstream\[celery\]"):
        _ = app.celery_app


def test_what_only_workers_can_be_told_says_so_where_there_are_none(app: Celery) -> None:
    with pytest.raises(AttributeError, match="celery_enabled is off"):
        app.control.pool_grow(1)
