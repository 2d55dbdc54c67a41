"""The async pool: what a Celery worker with it promises to its users' own tasks. One worker serves all these tests."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import chain, chord, group
from celery.exceptions import TaskRevokedError, TimeLimitExceeded, WorkerLostError

from tests.integration.pool_worker import SECONDS, Side, pool_worker, wait_for
from tests.lifeline import is_gone
from tests.valkey import ValkeyServer

LOOP = "millstream-loop"


@pytest.fixture(scope="module")
def side(shared_valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    log: Path = tmp_path_factory.mktemp("pool") / "worker.log"
    with (
        shared_valkey.database() as broker,
        shared_valkey.database() as store,
        pool_worker(log, broker, store) as side,
    ):
        yield side


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def test_coroutine_tasks_run_on_the_one_loop_of_the_worker(side: Side) -> None:
    results = [side.send("awhere") for _ in range(3)]
    assert [result.get(timeout=SECONDS) for result in results] == [[LOOP, side.worker.pid]] * 3


def test_plain_tasks_run_in_threads_of_the_worker_and_not_on_the_loop(side: Side) -> None:
    thread, pid = side.run("where")
    assert thread.startswith("millstream-")
    assert thread != LOOP
    assert pid == side.worker.pid


def test_a_task_may_ask_for_a_process(side: Side) -> None:
    thread, pid = side.run("where_process")
    assert (thread, pid != side.worker.pid) == ("MainThread", True)


def test_a_thousand_coroutines_run_at_once(side: Side, name: str) -> None:
    results = [side.send("meets", name, 1000) for _ in range(1000)]
    assert {result.get(timeout=SECONDS) for result in results} == {1000}
    assert side.pool()["limits"] == {"coroutines": 1000, "threads": 8, "processes": 2}


def test_each_coroutine_keeps_its_own_request_and_so_does_what_it_starts(side: Side) -> None:
    results = [side.send("who", str(number), headers={"custom": number}) for number in range(20)]
    for number, result in enumerate(results):
        said = result.get(timeout=SECONDS)
        assert set(said["ids"]) == {result.id}
        assert len(said["ids"]) == 6
        assert (said["mark"], said["args"]) == (str(number), [str(number)])
        assert said["task"].endswith(".who")


def test_a_coroutine_retries_itself(side: Side) -> None:
    retries, threads = side.run("retries_itself", 2)
    assert (retries, threads) == (2, [LOOP])


def test_a_coroutine_that_runs_out_of_retries_fails_with_its_error(side: Side) -> None:
    with pytest.raises(OSError, match="not yet"):
        side.run("retries_itself", 3)


def test_autoretry_for_holds_for_coroutines(side: Side) -> None:
    assert side.run("autoretried", 2) == 2
    with pytest.raises(OSError, match="not yet"):
        side.run("autoretried", 3)


def test_a_retry_shows_as_the_state_retry_until_it_is_due(side: Side) -> None:
    result = side.send("retries_itself", 1)
    wait_for(lambda: result.state in ("RETRY", "SUCCESS"))
    assert result.get(timeout=SECONDS)[0] == 1


def test_what_a_coroutine_raises_is_its_failure(side: Side) -> None:
    result = side.send("fails", "value")
    with pytest.raises(ValueError, match="wrong"):
        result.get(timeout=SECONDS)
    assert "pool_tasks.py" in result.traceback


def test_a_cancelled_error_of_the_task_itself_is_a_failure(side: Side) -> None:
    result = side.send("fails", "cancelled")
    with pytest.raises(Exception, match="I stop"):
        result.get(timeout=SECONDS)
    assert result.state == "FAILURE"


def test_system_exit_in_a_coroutine_fails_the_task_and_not_the_worker(side: Side) -> None:
    with pytest.raises(WorkerLostError, match="exited prematurely: exitcode 3"):
        side.run("fails", "exit")
    assert side.run("double", 2) == 4


def test_a_task_that_raises_ignore_leaves_no_result(side: Side) -> None:
    result = side.send("fails", "ignore")
    assert side.run("double", 2) == 4
    wait_for(side.idle)
    assert result.state == "PENDING"


def test_a_task_that_rejects_its_message_fails(side: Side) -> None:
    result = side.send("fails", "reject")
    wait_for(lambda: result.state == "FAILURE")


def test_a_task_that_ignores_its_result_stores_none(side: Side) -> None:
    result = side.send("forgets")
    assert side.run("double", 2) == 4
    wait_for(side.idle)
    assert result.state == "PENDING"


def test_chains_groups_and_chords_mix_coroutines_and_plain_functions(side: Side) -> None:
    steps = chain(side.sign("double", 1), side.sign("add", 10), side.sign("double"), app=side.app)
    assert steps.apply_async().get(timeout=SECONDS) == 24
    both = group([side.sign("double", 1), side.sign("add", 1, 2)], app=side.app)
    assert both.apply_async().get(timeout=SECONDS) == [2, 3]
    header = [side.sign("double", number) for number in range(10)]
    assert chord(header, app=side.app)(side.sign("atotal")).get(timeout=SECONDS) == 90
    assert chord(header, app=side.app)(side.sign("total")).get(timeout=SECONDS) == 90


def test_a_coroutine_is_replaced_by_another_task(side: Side) -> None:
    assert side.run("replaced", 4) == 5


def test_a_coroutine_tells_how_far_it_is(side: Side, name: str) -> None:
    result = side.send("progresses", name)
    wait_for(lambda: result.state == "PROGRESS")
    assert result.info == {"done": 1}
    side.go(name)
    assert result.get(timeout=SECONDS) == "done"


def test_a_call_of_the_tasks_class_stands_around_its_coroutine(side: Side) -> None:
    assert side.run("in_context", False) == "returned"  # noqa: FBT003
    assert side.run("in_context", True) == "KeyError was taken care of"  # noqa: FBT003


def test_tasks_call_each_other_as_the_functions_that_they_are(side: Side) -> None:
    assert side.run("calls", 3) == [6, 4]


def test_shared_coroutine_tasks_are_found(side: Side) -> None:
    assert side.run("shared") == "shared"


def test_tasks_that_are_registered_while_the_worker_runs_are_found(side: Side, name: str) -> None:
    side.run("registers", name)
    assert side.run(f"{name}.late") == LOOP
    assert side.run(f"{name}.plain") != LOOP


def test_the_soft_limit_is_raised_inside_a_coroutine(side: Side) -> None:
    assert side.run("softly", True) == "cleaned up"  # noqa: FBT003
    with pytest.raises(Exception, match=r"SoftTimeLimitExceeded"):
        side.run("softly", False)  # noqa: FBT003


def test_the_soft_limit_is_raised_inside_a_thread(side: Side) -> None:
    assert side.run("softly_in_thread") == "cleaned up"


def test_the_soft_limit_is_raised_inside_a_process(side: Side) -> None:
    said, pid = side.run("softly_in_process")
    assert (said, pid != side.worker.pid) == ("cleaned up", True)


def test_the_hard_limit_ends_a_coroutine(side: Side, name: str) -> None:
    with pytest.raises(TimeLimitExceeded):
        side.run("hardly", name)
    assert side.noted(name) == ["cancelled"]
    wait_for(side.idle)


def test_the_hard_limit_of_a_plain_task_kills_its_process(side: Side, name: str) -> None:
    with pytest.raises(TimeLimitExceeded):
        side.run("hardly_in_process", name)
    (pid,) = side.noted(name)
    assert int(pid) != side.worker.pid
    wait_for(lambda: is_gone(int(pid)))


def test_the_hard_limit_of_a_thread_frees_its_slot_and_ends_the_function_at_its_next_line(
    side: Side, name: str
) -> None:
    with pytest.raises(TimeLimitExceeded):
        side.run("hardly_in_thread", name)
    assert side.noted(name, 2) == ["began", "ended"]
    wait_for(side.idle)


def test_limits_can_be_given_with_the_call(side: Side, name: str) -> None:
    with pytest.raises(TimeLimitExceeded):
        side.run("waits", name, time_limit=0.2)


def test_terminating_a_coroutine_revokes_it_at_once_and_frees_its_slot(side: Side, name: str) -> None:
    result = side.send("waits", name)
    side.noted(name)
    result.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=SECONDS)
    assert side.noted(name, 2) == ["began", f"cancelled {result.id}"]
    wait_for(side.idle)
    assert result.state == "REVOKED"


def test_terminating_a_task_in_a_process_kills_it(side: Side, name: str) -> None:
    result = side.send("killable", name)
    (pid,) = side.noted(name)
    result.revoke(terminate=True)
    wait_for(lambda: is_gone(int(pid)))
    wait_for(lambda: result.state == "REVOKED")


def test_a_process_that_dies_fails_its_task_as_lost(side: Side) -> None:
    with pytest.raises(WorkerLostError, match="exit code 9"):
        side.run("dies")


def test_a_task_in_a_process_retries_itself(side: Side) -> None:
    assert side.run("retried_in_process") == 1


def test_a_plain_task_that_waits_for_a_thread_is_revoked_without_having_begun(side: Side, name: str) -> None:
    held = [side.send("until_in_thread", name) for _ in range(8)]
    side.noted(f"{name}:began", 8)
    waiting = side.send("where")
    wait_for(lambda: side.pool()["waiting"]["threads"] == 1)
    waiting.revoke(terminate=True)
    wait_for(lambda: waiting.state == "REVOKED")
    wait_for(lambda: side.pool()["waiting"]["threads"] == 0)
    side.go(name, 8)
    assert {result.get(timeout=SECONDS) for result in held} == {"went"}


def test_a_task_waits_for_its_eta(side: Side) -> None:
    begin = time.time()
    assert side.run("double", 1, countdown=1) == 2
    assert time.time() - begin >= 0.9


def test_a_tasks_rate_limit_holds(side: Side) -> None:
    results = [side.send("limited") for _ in range(8)]
    times = sorted(result.get(timeout=SECONDS) for result in results)
    assert times[-1] - times[0] >= 0.5


def test_inspect_tells_what_is_active(side: Side, name: str) -> None:
    result = side.send("until", name)
    side.noted(f"{name}:began")
    (active,) = [task for task in side.active() if task["id"] == result.id]
    assert active["worker_pid"] == side.worker.pid
    pool = side.pool()
    assert pool["running"]["coroutines"] == 1
    assert pool["processes"] == [side.worker.pid]
    side.go(name)
    assert result.get(timeout=SECONDS) == "went"
    wait_for(side.idle)


def test_the_worker_takes_no_more_messages_than_it_can_run(side: Side) -> None:
    (stats,) = side.app.control.inspect(timeout=SECONDS, limit=1).stats().values()
    assert (stats["prefetch_count"], stats["pool"]["max-concurrency"]) == (1000, 1000)


def test_the_pool_grows_and_shrinks(side: Side) -> None:
    control = side.app.control
    control.pool_grow(5, reply=True, timeout=SECONDS, limit=1)
    assert side.pool()["max-concurrency"] == 1005
    control.pool_shrink(5, reply=True, timeout=SECONDS, limit=1)
    assert side.pool()["max-concurrency"] == 1000
    (refused,) = control.pool_shrink(1000, reply=True, timeout=SECONDS, limit=1)
    assert "would leave none" in str(refused)
