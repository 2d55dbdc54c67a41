"""What `bind=True` means for a task's definition, and what one that is called directly can do."""

import inspect
import pickle
from typing import Any

import pytest

from millstream import task
from millstream.authoring.growth import Grown
from millstream.authoring.members import OWN
from millstream.engine.program import GATHER, MEMBERS
from millstream.engine.retry import delay_before, is_requeued
from millstream.errors import DefinitionError, Ignore, MaxRetriesExceededError, Reject, Retry, Skip
from millstream.model.failure import record_failure
from millstream.model.policy import Policy


@task(bind=True)
def scale(self: Any, x: int, by: int = 2) -> tuple[str, int]:
    return self.name, x * by


@task(bind=True)
async def replaces(self: Any) -> None:
    self.replace(scale.s(1))


def test_self_is_none_of_a_bound_task_s_inputs() -> None:
    assert str(inspect.signature(scale.fn)) == "(x: int, by: int = 2) -> tuple[str, int]"
    assert scale.inputs.bind((3,), {}) == {"x": 3, "by": 2}
    assert scale.version == task(name="other", bind=True)(scale.function).version


def test_a_bound_task_can_be_called_like_any_function() -> None:
    assert scale(3, by=5) == (scale.name, 15)


def test_a_bound_task_without_a_place_for_itself_is_refused() -> None:
    def nothing(*, x: int) -> int:
        return x

    with pytest.raises(DefinitionError, match="must take the task first"):
        task(bind=True)(nothing)  # type: ignore[arg-type]


async def test_a_direct_call_cannot_be_replaced() -> None:
    with pytest.raises(DefinitionError, match="called directly"):
        await replaces()


def test_a_growth_comes_back_from_another_process() -> None:
    grown = pickle.loads(pickle.dumps(Grown(1, None, [scale.s(2)])))  # noqa: S301  what the line before wrote
    drawn = grown.draw({**OWN, scale.name: scale}.__getitem__)
    assert [node.task for node in drawn.shape.graph.nodes] == [scale.name, GATHER, MEMBERS]


# ------------------------------------------------------------------------------------- what exceptions ask for
def test_ignoring_is_skipping() -> None:
    assert issubclass(Ignore, Skip)


@pytest.mark.parametrize(
    ("error", "attempt", "delay"),
    [
        (Retry(limit=2, delay=1), 2, 1),
        (Retry(limit=2, delay=1), 3, None),
        (Retry(limit=float("inf"), delay=1), 999, 1),
        (Retry(delay=1), 5, 1),
        (Retry(delay=1), 6, None),
        (Reject("not mine"), 1, None),
        (Reject("not now", requeue=True), 99, 1.0),
        (MaxRetriesExceededError("no retry is left"), 1, None),
    ],
)
def test_what_an_exception_asks_for_decides_over_the_policy(
    error: Exception, attempt: int, delay: float | None
) -> None:
    assert delay_before(Policy(retries=5), attempt, record_failure(error)) == delay


def test_an_exception_whose_cause_is_that_no_retry_is_left_is_not_repeated() -> None:
    error = ValueError("closed")
    error.__cause__ = MaxRetriesExceededError("no retry is left")
    assert delay_before(Policy(retries=5), 1, record_failure(error)) is None


def test_only_a_rejection_that_asks_for_it_is_requeued() -> None:
    assert is_requeued(record_failure(Reject("not now", requeue=True)))
    assert not is_requeued(record_failure(Reject("not mine")))
    assert not is_requeued(record_failure(Retry(delay=1)))


@pytest.mark.parametrize("limit", [-1, float("nan")])
def test_a_retry_refuses_a_limit_that_is_none(limit: float) -> None:
    with pytest.raises(ValueError, match="limit is"):
        Retry(limit=limit)
