"""The result of one task, of an app with durability off and of one with a ledger on disk."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from millstream import (
    AsyncResult,
    JobFailedError,
    JobNotFoundError,
    ResultSet,
    ResultTimeoutError,
    TaskRevokedError,
    group,
    result_from_tuple,
)
from millstream.clock import new_id
from millstream.errors import Reject
from tests.integration.results_tasks import (
    SECONDS,
    add,
    block,
    claim_state,
    claim_state_and_ignore,
    expire,
    fail,
    fail_and_wait,
    gate,
    ignore,
    loop_until_cancelled,
    pair,
    pass_third,
    reject,
    sleep_long,
    tell,
    until,
    wait_at,
)

pytestmark = pytest.mark.usefixtures("app")


def test_a_tasks_result_is_to_be_had_by_its_id() -> None:
    submitted = add.delay(2, 3)

    result = AsyncResult(submitted.id)

    assert result.get(timeout=SECONDS) == 5
    assert (result.state, result.result, result.traceback) == ("SUCCESS", 5, None)
    assert result.ready()
    assert result.successful()
    assert not result.failed()
    assert (result.name, result.args, result.kwargs) == (add.name, (2, 3), {})
    assert submitted.id == f"{result.root_id}.add"
    assert result.date_done is not None


def test_a_task_gives_its_results_by_their_ids() -> None:
    submitted = add.delay(1, 2)
    assert add.AsyncResult(submitted.id) == submitted
    assert add.AsyncResult(submitted.id).get(timeout=SECONDS) == 3


def test_a_jobs_id_stands_for_what_it_returns() -> None:
    submitted = (add.s(1, 2) | add.s(10)).apply_async()

    assert AsyncResult(submitted.root_id).get(timeout=SECONDS) == 13
    assert AsyncResult(submitted.root_id).state == "SUCCESS"


def test_a_value_comes_back_exactly() -> None:
    large = {"x": (1, "y" * 20_000)}

    assert pair.delay(large).get(timeout=SECONDS) == (large, {1, 2})


def test_an_id_that_was_never_submitted_is_told_apart() -> None:
    for unknown in ("nothing", new_id(), f"{new_id()}.add"):
        result = AsyncResult(unknown)

        assert result.state is None
        assert not result.ready()
        assert not result.exists()
        with pytest.raises(JobNotFoundError):
            result.get(timeout=SECONDS)


def test_a_node_that_a_job_does_not_have_is_not_waited_for() -> None:
    root = add.delay(1, 2).root_id

    with pytest.raises(JobNotFoundError):
        AsyncResult(f"{root}.other").get(timeout=SECONDS)


def test_a_failure_is_raised_or_returned() -> None:
    result = fail.delay("bread")

    with pytest.raises(ValueError, match="no bread"):
        result.get(timeout=SECONDS)
    error = result.get(propagate=False)
    assert isinstance(error, ValueError)
    assert isinstance(result.result, ValueError)
    assert (result.state, result.failed()) == ("FAILURE", True)
    assert 'raise ValueError(f"no {x}")' in (result.traceback or "")
    with pytest.raises(ValueError, match="no bread"):
        result.maybe_throw()


def test_a_task_that_waits_is_pending_then_started_then_done(name: str) -> None:
    later = add.apply_async((1, 2), countdown=3600)
    result = wait_at.delay(name, 7)

    until(lambda: result.state == "STARTED")
    assert later.state == "PENDING"
    with pytest.raises(ResultTimeoutError):
        result.get(timeout=0.01)
    with pytest.raises(TimeoutError):
        later.get(timeout=0)
    gate(name).set()

    assert result.get(timeout=SECONDS) == 7
    assert later.revoke()


def test_a_state_of_its_own_shows_until_a_task_ends(name: str) -> None:
    result = tell.delay(name, {"done": 1, "of": "many" * 5000})

    until(lambda: result.state == "PROGRESS")
    assert result.info == {"done": 1, "of": "many" * 5000}
    assert AsyncResult(result.root_id).state == "PROGRESS"
    gate(name).set()

    assert result.get(timeout=SECONDS) == "told"
    assert (result.state, result.info) == ("SUCCESS", "told")


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED", "IGNORED"])
def test_a_state_that_a_task_says_of_itself_ends_no_wait(name: str, state: str) -> None:
    result = claim_state.delay(name, state)
    both = group(add.s(1, 2), claim_state.s(name, state)).apply_async()
    until(lambda: result.state == both[1].state == state)

    assert not any((result.ready(), result.successful(), result.failed(), both.failed(), both.ready()))
    assert result.info == {"said": state}
    with pytest.raises(ResultTimeoutError):
        result.get(timeout=0.01)
    with pytest.raises(ResultTimeoutError):
        both.get(timeout=0.01)
    gate(name).set()

    assert result.get(timeout=SECONDS) == "really"
    assert both.get(timeout=SECONDS) == [3, "really"]


def test_what_a_task_says_of_itself_stays_where_it_is_then_ignored() -> None:
    done, failed, revoked = (claim_state_and_ignore.delay(state) for state in ("DONE", "FAILURE", "REVOKED"))

    assert done.get(timeout=SECONDS) == {"said": "DONE"}
    with pytest.raises(JobFailedError, match=r"ignored after it had said FAILURE: \{'said': 'FAILURE'\}"):
        failed.get(timeout=SECONDS)
    with pytest.raises(TaskRevokedError):
        revoked.get(timeout=SECONDS)
    assert (done.state, failed.state, revoked.state) == ("DONE", "FAILURE", "REVOKED")
    assert done.ready()
    assert failed.failed()
    assert failed.traceback is None
    until(AsyncResult(failed.root_id).ready)
    assert AsyncResult(failed.root_id).state == "FAILURE"


def test_what_has_ended_is_had_without_waiting() -> None:
    one, both = add.delay(1, 2), group(add.s(1, 1), add.s(2, 2)).apply_async()
    until(lambda: AsyncResult(one.id).ready() and AsyncResult(both[1].id).ready() and AsyncResult(both[0].id).ready())

    assert AsyncResult(one.id).get(timeout=0) == 3
    assert ResultSet([AsyncResult(member.id) for member in both]).get(timeout=0) == [2, 4]


def test_retries_show() -> None:
    passed, waits = pass_third.delay(4), fail_and_wait.delay()

    assert passed.get(timeout=SECONDS) == 4
    assert passed.retries == 2
    until(lambda: waits.state == "RETRY")
    assert waits.revoke()


def test_what_is_ignored_rejected_or_expired_is_told_apart() -> None:
    ignored, rejected = ignore.delay(), reject.delay()

    assert ignored.get(timeout=SECONDS) is None
    assert ignored.state == "IGNORED"
    with pytest.raises(Reject):
        rejected.get(timeout=SECONDS)
    assert rejected.state == "REJECTED"
    late = (add.si(1, 2).set(countdown=0.05) | expire.si()).apply_async()
    with pytest.raises(TaskRevokedError, match="before it expired"):
        late.get(timeout=SECONDS)
    assert late.state == "REVOKED"


@pytest.mark.parametrize("work", [sleep_long, loop_until_cancelled, block], ids=["coroutine", "thread", "process"])
def test_what_runs_is_revoked_and_says_so(work: Any, tmp_path: Path) -> None:
    mark = tmp_path / "began"
    result = work.delay(str(mark)) if work is block else work.delay()
    until(lambda: mark.exists() if work is block else result.state == "STARTED")

    assert result.revoke(terminate=True)

    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError, match="was cancelled"):
        result.get(timeout=SECONDS)
    assert not add_and_revoke_late()


def add_and_revoke_late() -> bool:
    """Return whether a task that has succeeded says that it was cancelled."""
    done = add.delay(1, 2)
    assert done.get(timeout=SECONDS) == 3
    revoked: bool = done.revoke()
    assert done.state == "SUCCESS"
    return revoked


@pytest.mark.parametrize("nothing", [None, 5, ""])
def test_what_is_no_id_is_refused_at_once(nothing: Any) -> None:
    with pytest.raises(ValueError, match="id of its task, a text"):
        AsyncResult(nothing)


def test_a_result_tells_which_process_had_the_task() -> None:
    result, later = add.delay(1, 2), add.apply_async((1, 2), countdown=3600)
    assert result.get(timeout=SECONDS) == 3

    assert result.worker
    assert later.worker is None
    assert not result.ignored
    assert later.revoke()


def test_a_result_is_forgotten_with_its_job(name: str) -> None:
    result, other = add.delay(1, 2), wait_at.delay(name)
    result.get(timeout=SECONDS)

    result.forget()

    assert result.state is None
    with pytest.raises(JobNotFoundError):
        result.get(timeout=SECONDS)
    with pytest.raises(Exception, match="has not ended"):
        other.forget()


def test_a_result_is_a_value() -> None:
    result = (add.s(1, 2) | add.s(10)).apply_async()
    result.get(timeout=SECONDS)

    assert result.as_tuple() == ((result.id, ((result.parent.id, None), None)), None)
    assert result.as_list() == [result.id, result.parent.id]
    for copy in (result_from_tuple(result.as_tuple()), pickle.loads(pickle.dumps(result))):  # noqa: S301  our own
        assert copy == result
        assert copy.parent == result.parent
        assert copy.get(timeout=SECONDS) == 13
    assert {result: 1}[AsyncResult(result.id)] == 1
    assert str(result) == result.task_id == result.id
    with pytest.raises(ValueError, match="told as"):
        result_from_tuple("nothing")


def test_a_callback_gets_the_id_and_the_value() -> None:
    got: list[tuple[str, Any]] = []
    one = add.delay(1, 2)
    both = group(add.s(1, 1), add.s(2, 2)).apply_async()

    one.get(timeout=SECONDS, callback=lambda task_id, value: got.append((task_id, value)))
    both.join(timeout=SECONDS, callback=lambda task_id, value: got.append((task_id, value)))

    assert got == [(one.id, 3), (both[0].id, 2), (both[1].id, 4)]


def test_celerys_arguments_for_messages_are_taken_and_others_refused() -> None:
    result = add.delay(1, 2)

    assert result.get(timeout=SECONDS, interval=0.1, no_ack=True) == 3
    assert not result.revoke(terminate=True, signal="SIGKILL")
    with pytest.raises(TypeError, match="takes no intervall"):
        result.get(intervall=0.1)
    with pytest.raises(TypeError, match="takes no sgnal"):
        result.revoke(sgnal="SIGKILL")
