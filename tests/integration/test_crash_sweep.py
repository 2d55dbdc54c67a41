"""`crash_sweep` kills flows everywhere, and tells what did not go on as promised."""

import pytest

from millstream import flow, task
from millstream.testing.sweep import Sweep, SweepError, crash_sweep
from tests.integration import swept_flows


@pytest.mark.parametrize(
    ("swept", "inputs"),
    [(swept_flows.order, {"count": 21}), (swept_flows.haggle, {"offer": 4}), (swept_flows.replaced, {"count": 3})],
)
def test_a_flow_survives_a_kill_anywhere(swept: object, inputs: dict[str, int]) -> None:
    sweep = crash_sweep(swept, **inputs)  # type: ignore[arg-type]  # flows and tasks
    assert {"after-claim", "before-effect", "after-effect", "in-commit", "after-commit"} <= set(sweep.reached)
    assert {one.point for one in sweep.tries if one.is_killed} >= {"before-effect", "in-commit", "before-settle"}
    assert not sweep.left_out


def test_a_flow_that_always_fails_is_to_fail_each_time() -> None:
    assert not crash_sweep(swept_flows.broken).problems


def test_a_result_that_depends_on_the_process_is_told() -> None:
    with pytest.raises(SweepError, match=r"killed at before-effect, time 1: it succeeded with \d+"):
        crash_sweep(swept_flows.moody)


def test_a_flow_that_another_process_cannot_import_is_refused() -> None:
    @task
    def here() -> None: ...

    @flow
    def local() -> object:
        return here()

    with pytest.raises(ValueError, match="top level of a module"):
        crash_sweep(local)


def test_a_flow_that_cannot_run_at_all_is_told_so() -> None:
    with pytest.raises(RuntimeError, match="there is no input 'colour'"):
        crash_sweep(swept_flows.order, colour="red")


def test_a_report_has_a_row_for_each_point() -> None:
    sweep = Sweep("shop.order", "'paid 2'", {"after-claim": 1, "in-commit": 7})
    assert str(sweep).splitlines() == [
        "shop.order returned 'paid 2'",
        "crash point          reached killed as promised",
        "after-claim                1      0           0",
        "in-commit                  7      0           0",
    ]
