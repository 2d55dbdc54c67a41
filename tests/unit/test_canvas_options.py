"""The options of canvases: what they do to the nodes, what goes to the job, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millstream import DefinitionError
from millstream.authoring.canvas.layout import GroupSpine
from millstream.authoring.canvas.primitives import chain, chord, group
from millstream.authoring.canvas.signature import Signature
from millstream.model.policy import Policy
from tests.unit.canvas_cases import add, doubled, drawn, layout, of, same, shown, total


def policies(canvas: Signature) -> dict[str, Policy | None]:
    return {node.id: node.policy for node in layout(canvas).drawn.shape.graph.nodes}


def test_options_become_the_nodes_policy() -> None:
    sig = add.s(1).set(queue="slow", time_limit=9, soft_time_limit=5, max_retries=3, run_in="process")
    expected = Policy(queue="slow", timeout=9, soft_timeout=5, retries=3, run_in="process")
    assert policies(sig | same.s()) == {"add": expected, "same": None}


def test_options_of_a_canvas_reach_the_tasks_that_celery_gives_them_to() -> None:
    slow = Policy(queue="slow")
    assert policies(chain(add.s(1), add.s(2)).set(queue="slow")) == {"add": slow, "add-2": None}
    assert policies(group(add.s(1), add.s(2)).set(queue="slow")) == {"add": slow, "add-2": slow}
    assert policies(chord([add.s(1)], total.s()).set(queue="slow")) == {"add": slow, "total": slow}
    assert policies(group(group(add.s(1)).set(queue="slow"))) == {"add": slow}


def test_what_the_whole_canvas_says_of_its_start_is_for_its_job() -> None:
    options = {"countdown": 5, "expires": 60, "priority": 7}
    made = layout((add.s(1) | add.s(2)).set(**options))
    assert made.options == options
    assert [node.kind for node in made.drawn.shape.graph.nodes] == ["task", "task"]


def test_what_an_inner_signature_says_of_its_start_holds_for_its_node() -> None:
    waiting = ["add(1)", "sleep(3) after add", "add-2(<add>, 2) after sleep"]
    assert drawn(add.s(1) | add.s(2).set(countdown=3)) == waiting
    assert drawn(add.s(1) | group(add.s(2), add.s(3)).set(countdown=3)) == [*waiting, "add-3(<add>, 3) after sleep"]
    delayed = add.s(1) | chord([add.s(2)], total.s()).set(countdown=3)
    assert drawn(delayed)[1:] == ["sleep(3) after add", "add-2(<add>, 2) after sleep", "total([<add-2>])"]
    assert policies(same.s() | add.s(2).set(priority=4, expires=30))["add"] == Policy(priority=4, expires=30)


def test_points_in_time_may_be_written_as_text() -> None:
    eta = datetime(2030, 1, 1, tzinfo=UTC)
    for written in (eta, eta.isoformat(), eta.replace(tzinfo=None)):
        made = layout(add.s(1) | add.s(2).set(eta=written)).drawn
        assert eta in made.bindings
    soon = policies(add.s(1) | add.s(2).set(expires=datetime.now(UTC) + timedelta(seconds=60)))["add-2"]
    assert soon is not None
    assert soon.expires == pytest.approx(60, abs=5)


def test_headers_are_for_the_node() -> None:
    made = layout(add.s(1).set(headers={"tenant": "a"})).drawn
    (node,) = made.shape.graph.nodes
    assert shown(node.headers, made) == "{'tenant': 'a'}"


def test_task_ids_are_aliases_of_the_nodes_that_have_the_result() -> None:
    assert layout((add.s(1) | add.s(2)).set(task_id="mine")).aliases == {"mine": "add-2"}
    assert layout(chord([add.s(1, 1).set(task_id="one")], total.s()).set(task_id="sum")).aliases == {
        "one": "add",
        "sum": "total",
    }
    assert layout(group(add.s(1)).set(task_id="both")).spine == GroupSpine((of("add"),), id="both")
    with pytest.raises(DefinitionError, match="'mine' is given twice"):
        layout(group(add.s(1).set(task_id="mine"), add.s(2).set(task_id="mine")))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"serializer": "json"}, "serializer has no meaning without a broker"),
        ({"countdwn": 3}, "there is no option countdwn; known are"),
        ({"priority": 12}, "priority is 12, but must be 0 to 9"),
        ({"time_limit": 5, "soft_time_limit": 9}, "soft_timeout"),
    ],
)
def test_a_wrong_option_is_one_clear_error(options: dict[str, Any], message: str) -> None:
    for canvas in (same.s() | add.s(1).set(**options), group(add.s(1), group(add.s(1).set(**options)))):
        with pytest.raises(DefinitionError, match=message):
            layout(canvas)
    with pytest.raises(DefinitionError, match=message):
        layout(chord([add.s(1)], total.s().set(**options)))


def test_a_drawing_flow_refuses_policies_that_it_cannot_keep() -> None:
    with pytest.raises(DefinitionError, match="flow doubled cannot have retries"):
        layout(same.s() | doubled.s().set(max_retries=3))


@pytest.mark.parametrize(
    ("options", "told"),
    [({"countdown": "3"}, "countdown is '3', but must be a number"), ({"eta": "soon"}, "'soon' is no point in time")],
)
def test_a_delay_that_is_none_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(DefinitionError, match=told):
        layout(add.s(1) | add.s(2).set(**options))
