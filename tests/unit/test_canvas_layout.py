"""Canvases drawn: the graph that each becomes, and the shape of its results."""

from __future__ import annotations

import time
from typing import Any

import pytest

from millstream import DefinitionError, Flow, InvalidInputError
from millstream.authoring.canvas.layout import draw_canvas, lay_out
from millstream.authoring.canvas.primitives import chain, chord, group
from millstream.authoring.canvas.signature import Signature, signature
from millstream.errors import GraphTooLargeError, UnknownNameError
from tests.unit.canvas_cases import (
    add,
    answer,
    both,
    doubled,
    drawn,
    find,
    given,
    grow,
    layout,
    of,
    returned,
    same,
    tell,
    total,
)


# ------------------------------------------------------------------------------------------- chains and groups
def test_one_task_is_a_graph_of_one_node() -> None:
    assert drawn(add.s(2, y=3)) == ["add(2, y=3)"]
    assert layout(add.s(2, 3)).spine == of("add")


def test_a_chain_hands_on_results_in_front_of_the_arguments() -> None:
    canvas = chain(add.s(2, 2), add.s(4), given.si("alone"), given.s("last", k=1))
    assert drawn(canvas) == [
        "add(2, 2)",
        "add-2(<add>, 4)",
        "given('alone') after add-2",
        "given-2(<given>, 'last', k=1)",
    ]
    assert returned(canvas) == "<given-2>"
    assert layout(canvas).spine == of("given-2", of("given", of("add-2", of("add"))))


def test_a_group_gives_the_list_of_its_results() -> None:
    canvas = group(add.s(2, 2), add.s(4, 4))
    assert drawn(canvas) == ["add(2, 2)", "add-2(4, 4)"]
    assert returned(canvas) == "[<add>, <add-2>]"
    assert layout(canvas).spine == both(of("add"), of("add-2"))


def test_a_group_behind_a_task_shares_its_result() -> None:
    canvas = add.s(1, 1) | group(add.s(1), add.s(2))
    assert drawn(canvas) == ["add(1, 1)", "add-2(<add>, 1)", "add-3(<add>, 2)"]
    assert layout(canvas).spine == both(of("add-2"), of("add-3"), parent=of("add"))


def test_groups_that_stand_directly_in_a_group_are_unrolled_and_chains_are_not() -> None:
    nested = group(add.s(0), group(add.s(1), group(add.s(2))), add.s(3))
    assert drawn(nested) == ["add(0)", "add-2(1)", "add-3(2)", "add-4(3)"]
    chained = group(add.s(1) | group(add.s(1), add.s(2)), add.s(5))
    assert returned(chained) == "[[<add-2>, <add-3>], <add-4>]"
    assert layout(chained).spine == both(both(of("add-2"), of("add-3"), parent=of("add")), of("add-4"))


def test_a_group_of_one_chain_that_ends_in_a_group_is_that_group() -> None:
    canvas = group(add.s(1) | group(add.s(1), add.s(2)))
    assert returned(canvas) == "[<add-2>, <add-3>]"
    assert layout(canvas).spine == both(of("add-2"), of("add-3"), parent=of("add"))


def test_nothing_is_nothing() -> None:
    assert chain()() is None
    with pytest.raises(DefinitionError, match="a chain of nothing"):
        layout(chain())
    assert layout(group([])).spine == both()
    assert drawn(group(chain(), add.s(1))) == ["add(1)"]


# ------------------------------------------------------------------------------------------------------ chords
def test_a_chords_body_gets_the_list_of_its_headers_results() -> None:
    canvas = chord([add.s(1, 1), add.s(2, 2)], total.s())
    assert drawn(canvas) == ["add(1, 1)", "add-2(2, 2)", "total([<add>, <add-2>])"]
    assert layout(canvas).spine == of("total", both(of("add"), of("add-2")))


def test_an_empty_header_gives_its_body_an_empty_list() -> None:
    assert drawn(chord([], total.s())) == ["total([])"]
    assert layout(chord([], total.s())).spine == of("total", both())
    assert drawn(add.s(1) | chord([], total.s())) == ["add(1)", "total([]) after add"]


def test_an_immutable_body_starts_after_the_header_all_the_same() -> None:
    assert drawn(chord([add.s(1), add.s(2)], given.si())) == ["add(1)", "add-2(2)", "given() after add, add-2"]


def test_what_takes_a_groups_results_more_than_once_takes_them_from_one_node() -> None:
    canvas = group(add.s(1), add.s(2)) | group(total.s(), same.s())
    assert drawn(canvas) == ["add(1)", "add-2(2)", "gather([<add>, <add-2>])", "total(<gather>)", "same(<gather>)"]
    assert layout(canvas).spine == both(of("total"), of("same"), parent=both(of("add"), of("add-2")))


def test_a_header_whose_tasks_may_add_to_it_is_joined_by_a_node() -> None:
    assert drawn(chord([grow.s(1)], total.s())) == ["grow(1)", "gather([<grow>])", "total(<gather>)"]
    linked = grow.s(1)
    linked.link(same.s())
    header = ["grow(1)", "gather([<grow>])", "total(<gather>)"]
    assert drawn(chord([linked], total.s())) == [*header, "own_value(<grow>)", "same(<own_value>)"]
    assert drawn(linked) == ["grow(1)", "same(<grow>)"]


def test_chords_stand_in_headers_and_bodies() -> None:
    inner = chord([add.s(1), add.s(2)], total.s())
    assert drawn(chord([inner, add.s(3)], total.s())) == [
        "add(1)",
        "add-2(2)",
        "total([<add>, <add-2>])",
        "add-3(3)",
        "total-2([<total>, <add-3>])",
    ]


# ------------------------------------------------------------------------------------------------------- maps
def test_a_map_is_one_node_that_runs_for_each_item() -> None:
    assert drawn(total.map([[1], [2]])) == ["total([[1], [2]]) each 0"]
    assert drawn(add.starmap([(1, 2), (3, 4)])) == ["add([1, 3], [2, 4]) each 0, 1"]
    assert drawn(add.s(1) | total.map([[1]])) == ["add(1)", "total([[1]]) each 0 after add"]


def test_chunks_are_a_group_of_such_nodes() -> None:
    canvas = add.chunks([(1, 2), (3, 4), (5, 6)], 2)
    assert drawn(canvas) == ["add([1, 3], [2, 4]) each 0, 1", "add-2([5], [6]) each 0, 1"]
    assert layout(canvas).spine == both(of("add"), of("add-2"))


# -------------------------------------------------------------------------------------------------- callbacks
def with_link(canvas: Any, callback: Any) -> Any:
    canvas.link(callback)
    return canvas


@pytest.mark.parametrize(
    ("canvas", "nodes"),
    [
        (with_link(add.s(1), tell.s()), ["add(1)", "tell(<add>)"]),
        (with_link(add.s(1), tell.si("done")), ["add(1)", "tell('done') after add"]),
        (with_link(add.s(1), add.s(2) | tell.s()), ["add(1)", "add-2(<add>, 2)", "tell(<add-2>)"]),
        (with_link(add.s(1), group(tell.s(), same.s())), ["add(1)", "tell(<add>)", "same(<add>)"]),
        (with_link(add.s(1) | add.s(2), tell.s()), ["add(1)", "add-2(<add>, 2)", "tell(<add-2>)"]),
        (with_link(group(add.s(1), add.s(2)), tell.s("x")), ["add(1)", "add-2(2)", "tell('x') after add"]),
        (with_link(chord([add.s(1)], total.s()), tell.s()), ["add(1)", "total([<add>])", "tell(<total>)"]),
        (chord([add.s(1)], total.s()).set(link=tell.s()), ["add(1)", "total([<add>])", "tell(<total>)"]),
    ],
    ids=str,
)
def test_a_callback_follows_with_the_result_and_is_no_part_of_it(canvas: Signature, nodes: list[str]) -> None:
    assert drawn(canvas) == nodes
    assert not any(f"<{name}>" in returned(canvas) for name in ("tell", "same"))


def test_a_group_takes_no_callbacks_of_its_own() -> None:
    for refused in (group(add.s(1)).set(link=tell.s()), add.s(1) | group(add.s(1), add.s(2)).set(link=tell.s())):
        with pytest.raises(DefinitionError, match="use a chord"):
            layout(refused)
    with pytest.raises(DefinitionError, match="use a chord"):
        group(add.s(1)).apply_async(link=tell.s())


@pytest.mark.parametrize(
    ("canvas", "errbacks"),
    [
        (add.s(1).on_error(tell.s()), ["tell(id of add) if one_failed"]),
        (
            add.s(1).on_error(answer.s()),
            ["answer(request of add, error of add, traceback of add) if one_failed"],
        ),
        (add.s(1).on_error(tell.si("x")), ["failed_task(id of add) if one_failed", "tell('x') after failed_task"]),
        (
            add.s(1).on_error(same.s() | tell.s()),
            ["failed_task(id of add) if one_failed", "same(<failed_task>)", "tell(<same>)"],
        ),
        ((add.s(1) | add.s(2).on_error(tell.s())), ["tell(id of add-2) if one_failed"]),
        (chain(add.s(1), add.s(2)).on_error(tell.s()), ["tell(id of add|add-2) if one_failed"]),
        (
            group(add.s(1), add.s(2)).on_error(tell.s()),
            ["tell(id of add) if one_failed", "tell-2(id of add-2) if one_failed"],
        ),
        (chord([add.s(1), add.s(2)], total.s()).on_error(tell.s()), ["tell(id of add|add-2|total) if one_failed"]),
        (
            chord([add.s(1), add.s(2).on_error(tell.s())], total.s()),
            ["tell(id of add-2) if one_failed"],
        ),
        (
            chord([add.s(1)], total.s() | add.s(1)).on_error(tell.s()),
            ["tell(id of add|total|add-2) if one_failed"],
        ),
        (
            chord([add.s(1)], group(total.s(), same.s())).on_error(tell.s()),
            ["tell(id of add|total) if one_failed", "tell-2(id of add|same) if one_failed"],
        ),
        (
            (add.s(1) | group(add.s(2), add.s(3))).on_error(tell.s()),
            [
                "tell(id of add) if one_failed",
                "tell-2(id of add-2) if one_failed",
                "tell-3(id of add-3) if one_failed",
            ],
        ),
    ],
    ids=str,
)
def test_an_errback_answers_for_what_may_fail_itself(canvas: Signature, errbacks: list[str]) -> None:
    lines = drawn(canvas)
    found = [line for line in lines if line.startswith(("tell", "answer", "failed_task", "same(<failed_task"))]
    assert sorted(found) == sorted(errbacks)


# --------------------------------------------------------------------------------------------- names and arguments
def test_names_are_looked_up_when_it_is_laid_out() -> None:
    assert drawn(signature("add", (1, 2)) | signature("total", immutable=True, args=([],))) == [
        "add(1, 2)",
        "total([]) after add",
    ]
    with pytest.raises(UnknownNameError, match=r"'shop\.add'"):
        layout(signature("shop.add", (1,)))


def test_arguments_that_cannot_fit_are_refused_before_anything_runs() -> None:
    for wrong in (add.s(), add.s(1, 2) | add.s(3, 4), group(add.s(1, z=3)), total.starmap([([], 1)])):
        with pytest.raises(InvalidInputError, match="it takes"):
            layout(wrong)


def test_flows_are_nodes_of_their_own_kind() -> None:
    kinds = [node.kind for node in layout(add.s(1, 1) | doubled.s()).drawn.shape.graph.nodes]
    assert kinds == ["task", "flow"]
    assert isinstance(doubled, Flow)


def test_a_layout_says_what_it_is_of() -> None:
    made = layout(group(add.s(i, "x" * 500) for i in range(1000)) | total.s())
    assert made.flow == "add"
    assert made.text.startswith("chord([add(0, 'xxx")
    assert "... 996 more" in made.text
    assert len(made.text) <= 500


def test_a_canvas_inside_a_graph_keeps_what_would_be_for_its_job() -> None:
    made = draw_canvas(add.s(1).set(countdown=2), find)
    assert [node.kind for node in made.shape.graph.nodes] == ["sleep", "task"]


def test_a_graph_of_a_canvas_is_limited_like_any_other() -> None:
    canvas = group(add.s(1) for _ in range(6))
    assert lay_out(canvas, find, max_nodes=6).drawn.shape.size == 6
    with pytest.raises(GraphTooLargeError, match=r"has 6 nodes, but may have 5 \(setting max_graph_nodes\)"):
        lay_out(canvas, find, max_nodes=5)


@pytest.mark.parametrize("make", [group, lambda members: chord(members, total.s()), chain])
def test_a_thousand_nodes_are_drawn_in_tens_of_microseconds_each(make: Any) -> None:
    canvas = make([add.s(1, 1), *(add.s(1) for _ in range(999))])

    def seconds() -> float:
        start = time.perf_counter()
        layout(canvas)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) / 1000 < 250e-6  # some 28 on the machine it was written on


# ------------------------------------------------------------------------------------------------------- depth
def alternating(turns: int) -> chain:
    """A chain in which tasks and groups take turns: each group nests what follows it."""
    steps = [step for _ in range(turns) for step in (total.s(), group(add.s(), add.s()))]
    return chain(add.s(1, 1), *steps[1:])


def test_a_hundred_groups_may_follow_one_another() -> None:
    composed = add.s(1, 1)
    for _ in range(100):
        composed = composed | group(add.s(), add.s()) | total.s()
    for canvas, tasks in ((alternating(100), 300), (composed, 301)):
        nodes = layout(canvas).drawn.shape.graph.nodes
        assert sum(node.task in ("add", "total") for node in nodes) == tasks


def test_a_long_chain_is_no_deep_one() -> None:
    made = layout(chain(add.s(1, 1), *(add.s(1) for _ in range(5000))))
    assert made.drawn.shape.size == 5001


def test_a_canvas_that_is_nested_too_deep_is_refused_in_words() -> None:
    turns = 300
    with pytest.raises(DefinitionError, match=r"nested too deep for Python's recursion limit of \d+: .* in parts"):
        layout(alternating(turns) | add.s(1))

    def compose() -> None:
        canvas = add.s(1, 1)
        for _ in range(turns):
            canvas = canvas | group(add.s(), add.s()) | total.s()
        layout(canvas)

    with pytest.raises(DefinitionError, match="nested too deep"):
        compose()
    with pytest.raises(DefinitionError, match="nested too deep"):
        alternating(turns).apply_async()
