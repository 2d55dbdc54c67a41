"""Results of canvases and of several tasks at once, in memory and with a ledger on disk."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections import Counter
from typing import Any

import pytest

from millstream import (
    AsyncResult,
    GroupResult,
    Millstream,
    ResultSet,
    ResultTimeoutError,
    chain,
    chord,
    group,
)
from millstream.clock import new_id
from millstream.errors import DefinitionError, IncompleteResultsError
from millstream.ledger.base import IdempotencyConflictError
from tests.integration.results_tasks import (
    SECONDS,
    add,
    add_soon,
    fail,
    gate,
    pair,
    pass_third,
    sleep_long,
    total,
    until,
    wait_at,
)

pytestmark = pytest.mark.usefixtures("app")


def test_a_chain_gives_its_last_result_with_the_others_behind_it() -> None:
    result = chain(add.s(1, 2), add_soon.s(10), add.s(y=100)).apply_async()

    assert result.get(timeout=SECONDS) == 113
    assert result.parent.get(timeout=SECONDS) == 13
    first = result.parent.parent
    assert (first.get(timeout=SECONDS), first.parent) == (3, None)
    assert (result.args, result.kwargs) == ((13,), {"y": 100})
    assert [(node.id, value) for node, value in first.collect()] == [
        (first.id, 3),
        (result.parent.id, 13),
        (result.id, 113),
    ]
    assert list(first.graph.items()) == [(first, [result.parent]), (result.parent, [result]), (result, [])]
    assert list(first.iterdeps()) == [(None, first), (first, result.parent), (result.parent, result)]


def test_what_cannot_run_any_more_raises_at_once(name: str) -> None:
    """The other member still runs, so the job has not ended."""
    result = group(chain(fail.s("milk"), add.s(1), add.s(1)), wait_at.s(name)).apply_async()

    with pytest.raises(ValueError, match="no milk"):
        result[0].get(timeout=SECONDS)
    assert result[0].state == result[0].parent.state == "FAILURE"
    assert "no milk" in (result[0].traceback or "")
    with pytest.raises(ValueError, match="no milk"):
        result.get(timeout=SECONDS)
    assert not result[1].ready()


def test_a_chords_body_raises_what_failed_its_header() -> None:
    result = chord([add.s(1, 1), fail.s("salt")])(total.s())

    with pytest.raises(ValueError, match="no salt"):
        result.get(timeout=SECONDS)
    assert isinstance(result.parent, GroupResult)
    until(result.parent.ready)
    assert result.parent.get(propagate=False)[0] == 2
    assert result.parent.completed_count() == 1
    assert result.parent.failed()


def test_a_header_gives_its_results_in_order_whatever_is_repeated() -> None:
    result = chord([pass_third.s(0), add.s(0, 1), pass_third.s(2), add_soon.s(1, 2)])(total.s())

    assert result.get(timeout=SECONDS) == 6
    assert result.parent.get(timeout=SECONDS) == [0, 1, 2, 3]
    assert result.parent[1].children == [result]


def test_a_group_is_watched_while_it_runs(name: str) -> None:
    second = f"{name}-2"
    result = group(add.s(1, 1), wait_at.s(name, "a"), wait_at.s(second, "b")).apply_async()

    coming = result.iterate(timeout=SECONDS)
    assert next(coming) == 2
    assert (result.completed_count(), result.waiting(), result.ready()) == (1, True, False)
    with pytest.raises(ResultTimeoutError):
        result.join(timeout=0.01)
    gate(second).set()
    assert next(coming) == "b"
    gate(name).set()
    assert list(coming) == ["a"]
    assert result.join(timeout=SECONDS) == [2, "a", "b"]
    assert (result.completed_count(), result.successful(), len(result)) == (3, True, 3)
    told = dict(result.iter_native(timeout=SECONDS))
    assert told[result[2].id] == {"task_id": result[2].id, "status": "SUCCESS", "result": "b", "traceback": None}


def test_a_nested_group_gives_nested_lists() -> None:
    result = group(add.s(1, 1), group(add.s(2, 2), add.s(3, 3)) | total.s()).apply_async()

    assert result.get(timeout=SECONDS) == [2, 10]
    assert result.completed_count() == 2


def test_a_thousand_results_cost_a_bounded_number_of_reads(app: Millstream, monkeypatch: pytest.MonkeyPatch) -> None:
    result = group(add_soon.s(number, number) for number in range(1000)).apply_async()
    asked: Counter[str] = Counter()
    kind = type(app.ledger)
    for asks in ("get", "graph", "events", "history", "node_result", "node_results", "alias"):
        monkeypatch.setattr(kind, asks, counting(asked, asks, getattr(kind, asks)))

    assert result.get(timeout=SECONDS) == [2 * number for number in range(1000)]
    until(lambda: AsyncResult(result.id).ready())
    assert result.successful()
    assert result.completed_count() == 1000
    assert all(member.ready() for member in result)
    again = GroupResult.restore(result.id)
    assert again == result
    assert again is not None
    assert again.get(timeout=SECONDS) == result.get()

    assert asked
    assert sum(asked.values()) < 60, asked


def counting(asked: Counter[str], asks: str, real: Any) -> Any:
    """Return a method that counts how often it is called."""

    def count(self: Any, *args: Any) -> Any:
        asked[asks] += 1
        return real(self, *args)

    return count


def test_results_of_several_submissions_are_awaited_together(name: str) -> None:
    results = ResultSet([add.delay(1, 1), wait_at.delay(name, 5)])
    results.add(results[0])
    results.update([add.delay(2, 2)])

    assert len(results) == 3
    assert not results.ready()
    gate(name).set()
    assert results.get(timeout=SECONDS) == [2, 5, 4]
    results.remove(results[1].id)
    results.discard("nothing")
    with pytest.raises(KeyError):
        results.remove("nothing")
    assert results.join() == [2, 4]
    results.forget()
    assert not results.ready()
    results.clear()
    assert results.get() == []


def test_a_failure_among_several_submissions_does_not_wait_for_the_others(name: str) -> None:
    results = ResultSet([wait_at.delay(name), fail.delay("oil")])

    with pytest.raises(ValueError, match="no oil"):
        results.get(timeout=SECONDS)
    assert not results[0].ready()
    with pytest.raises(ValueError, match="no oil"):
        results.maybe_throw()


def test_a_group_is_restored_by_its_id_and_a_made_up_one_when_it_was_saved() -> None:
    submitted = group(add.s(1, 1), add.s(2, 2)).apply_async()
    made = GroupResult("mine", [add.delay(3, 3), *submitted])

    assert GroupResult.restore(submitted.id) == submitted
    assert GroupResult.restore("mine") is None
    assert made.save().id == "mine"
    assert GroupResult.restore("mine") == made
    made.add(add.delay(4, 4))
    until(lambda: AsyncResult("group:mine").ready())
    made.save()
    restored = GroupResult.restore("mine")
    assert restored is not None
    assert restored.get(timeout=SECONDS) == [6, 2, 4, 8]
    assert pickle.loads(pickle.dumps(made)) == made  # noqa: S301  our own
    until(lambda: AsyncResult("group:mine").ready())
    made.delete()
    assert GroupResult.restore("mine") is None
    assert GroupResult.restore(add.delay(1, 1).root_id or "") is None


@pytest.mark.parametrize("is_group", [False, True])
def test_what_was_awaited_may_be_forgotten_though_its_job_ends_a_moment_later(
    app: Millstream, name: str, *, is_group: bool
) -> None:
    one = add.s(1, 2).set(link=wait_at.si(name))
    result = (group(one, add.s(1, 1)) if is_group else one).apply_async()
    result.get(timeout=SECONDS)

    moment_later = threading.Timer(0.1, gate(name).set)
    moment_later.start()
    result.forget()

    assert asyncio.run(app.jobs()) == []
    moment_later.join()


def test_a_saved_group_is_gone_when_it_was_deleted_and_may_be_saved_again() -> None:
    done = add.delay(1, 2)
    for _ in range(20):
        saved = GroupResult("mine", [done]).save()

        assert GroupResult.restore("mine") == saved
        saved.delete()

        assert GroupResult.restore("mine") is None


def test_a_group_is_revoked_as_a_whole() -> None:
    result = group(sleep_long.s(), sleep_long.s()).apply_async()

    result.revoke()

    until(result.ready)
    assert [member.state for member in result] == ["REVOKED", "REVOKED"]
    assert not result.successful()


def test_a_task_id_of_ones_own_names_the_result_and_no_other(app: Millstream) -> None:
    mine = f"mine-{new_id()}"
    result = add.apply_async((1, 2), task_id=mine)

    assert AsyncResult(mine).get(timeout=SECONDS) == 3
    assert AsyncResult(mine).root_id == result.root_id
    with pytest.raises(IdempotencyConflictError, match=mine):
        add.apply_async((3, 4), task_id=mine)
    assert len(asyncio.run(app.jobs())) == 1


def test_a_task_id_of_ones_own_never_stands_for_another_task() -> None:
    other = add.delay(1, 2)
    assert other.get(timeout=SECONDS) == 3

    with pytest.raises(IdempotencyConflictError, match="give another one"):
        add.apply_async((50, 50), task_id=other.root_id)
    assert add.apply_async((50, 50), task_id=(mine := new_id())).get(timeout=SECONDS) == 100
    assert AsyncResult(mine).get(timeout=SECONDS) == 100
    for canvas in (add.s(1, 1), group(add.s(1, 1), add.s(2, 2))):
        with pytest.raises(DefinitionError, match="give one of another form"):
            canvas.apply_async(task_id=other.id)


def test_walking_through_results_stops_where_one_is_not_there(name: str) -> None:
    result = (wait_at.s(name, 1) | add.s(1)).apply_async()

    with pytest.raises(IncompleteResultsError):
        list(result.parent.iterdeps())
    assert list(result.parent.iterdeps(intermediate=True)) == [(None, result.parent)]


def test_a_chain_may_be_longer_than_calls_may_be_deep(app: Millstream) -> None:
    result = chain(add_soon.s(0, 1), *(add_soon.s(1) for _ in range(1500))).apply_async()

    assert result.get(timeout=SECONDS) == 1501
    assert len(result.as_list()) == 1501
    assert asyncio.run(app.record(str(result.root_id))).flow == add_soon.name


def test_a_result_can_be_an_argument(app: Millstream) -> None:
    done = add.delay(1, 2)
    done.get(timeout=SECONDS)

    assert pair.delay(done).get(timeout=SECONDS)[0].get(timeout=SECONDS) == 3
    assert pair.delay(GroupResult("g", [done], app=app)).get(timeout=SECONDS)[0].get(timeout=SECONDS) == [3]


def test_callbacks_are_children_and_what_only_waits_or_joins_is_not() -> None:
    result = chain(add.s(1, 2).on_error(total.si([1])), add.s(3).set(countdown=0.001)).apply_async()

    assert result.get(timeout=SECONDS) == 6
    assert [child.name for child in result.parent.children] == [add.name, total.name]
