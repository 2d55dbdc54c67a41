"""Graphs are values: equal shapes have one digest, and what a graph says of its edges is read in one way.

Also here: positions in an event log, and the states of jobs.
"""

import collections
import dataclasses
from types import SimpleNamespace
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.errors import InvalidCursorError, StateTransitionError
from millstream.model.event import START, Cursor, Event
from millstream.model.graph import (
    After,
    Graph,
    Keyed,
    Map,
    Node,
    Packed,
    Result,
    Slot,
    arguments,
    digest,
    pick,
    predecessors,
    results_in,
    slots_in,
)
from millstream.model.job import JobState, NodeState, check_transition
from millstream.model.policy import Policy
from tests.unit.plan_cases import Case, cases

# -------------------------------------------------------------------------------------------------- digests
A = Node(id="a", task="t")
WHOLE = Graph((A, Node(id="b", task="u", args=(Result(0),), after=(After(0),))), slots=2, result=Result(1))


def changed(**fields: Any) -> Graph:
    """Return `WHOLE` with its second node changed."""
    return Graph((A, msgspec.structs.replace(WHOLE.nodes[1], **fields)), slots=2, result=Result(1))


OTHERS: list[Graph] = [
    changed(id="c"),
    changed(kind="flow"),
    changed(task="v"),
    changed(args=(Slot(0),)),
    changed(args=(Slot(1),)),
    changed(args=(Result(0, ("x",)),)),
    changed(args=(Result(0, ("0",)),)),
    changed(args=(Result(0, (0,)),)),
    changed(args=(Packed("list", (Result(0),)),)),
    changed(args=(Packed("tuple", (Result(0),)),)),
    changed(args=(Keyed(("x",), (Result(0),)),)),
    changed(args=(Keyed(("1",), (Result(0),)),)),
    changed(args=(Keyed((1,), (Result(0),)),)),
    changed(args=(), kwargs=(("x", Result(0)),)),
    changed(after=()),
    changed(after=(After(0, "x"),)),
    changed(join="all_done"),
    changed(join="k_of_n", k=1),
    changed(map=Map(over=(0,))),
    changed(map=Map(over=("0",))),
    changed(map=Map(over=(0,), chunk=2)),
    changed(policy=Policy()),
    changed(policy=Policy(retries=1)),
    changed(body=Graph((A,))),
    changed(body=Graph((A,)), max_turns=2),
    changed(labels=("x",)),
    Graph(WHOLE.nodes, slots=3, result=Result(1)),
    Graph(WHOLE.nodes, slots=2, result=Result(0)),
    Graph(WHOLE.nodes, slots=2),
    Graph(WHOLE.nodes[::-1], slots=2, result=Result(1)),
]


def test_graphs_that_differ_in_anything_have_different_digests() -> None:
    assert len({digest(graph) for graph in [WHOLE, *OTHERS]}) == len(OTHERS) + 1


@settings(max_examples=50)
@given(case=cases(), other=cases())
def test_digests_are_equal_exactly_where_graphs_are(case: Case, other: Case) -> None:
    assert (digest(case.graph) == digest(other.graph)) is (case.graph == other.graph)


@settings(max_examples=100)
@given(case=cases())
def test_a_graph_that_is_written_as_json_and_read_again_is_the_same_graph(case: Case) -> None:
    for graph in (case.graph, *OTHERS):
        again = msgspec.json.decode(msgspec.json.encode(graph), type=Graph)
        assert again == graph
        assert digest(again) == digest(graph)


# ---------------------------------------------------------------------------------------------------- edges
def test_results_and_slots_are_found_however_deep_they_lie() -> None:
    arg = Packed("list", (Result(1), Keyed(("x", "y"), (Packed("tuple", (Result(2), Slot(3))), Result(1))), Slot(0)))
    assert results_in(arg) == [1, 2, 1]
    assert slots_in(arg) == [3, 0]
    assert results_in(None) == slots_in(None) == []


def test_a_predecessor_is_named_once_however_often_its_result_is_used() -> None:
    node = Node(
        id="x",
        args=(Result(4), Packed("list", (Result(2), Result(4)))),
        kwargs=(("k", Result(1)),),
        after=(After(2), After(0)),
    )
    assert predecessors(node) == {4: None, 2: None, 1: None, 0: None}
    assert arguments(node) == [Result(4), Packed("list", (Result(2), Result(4))), Result(1)]


@pytest.mark.parametrize("after", [(After(0, "yes"),), (After(0, "yes"), After(0)), (After(0), After(0, "yes"))])
def test_an_edge_with_a_label_keeps_it_beside_edges_without(after: tuple[After, ...]) -> None:
    assert predecessors(Node(id="x", args=(Result(0),), after=after)) == {0: "yes"}


@settings(max_examples=50)
@given(case=cases())
def test_the_edges_of_a_graph_are_those_that_it_was_drawn_with(case: Case) -> None:
    assert [predecessors(node) for node in case.graph.nodes] == list(case.edges)


# ----------------------------------------------------------------------------------------------------- pick
class Row(NamedTuple):
    name: str
    count: int  # type: ignore[assignment]


@dataclasses.dataclass
class Order:
    rows: list[Row]
    _hidden: str = "h"

    def total(self) -> int:
        return sum(row.count for row in self.rows)


@pytest.mark.parametrize(
    ("value", "path", "found"),
    [
        ({"rows": [3, 4]}, (), {"rows": [3, 4]}),
        ({"rows": [3, 4]}, ("rows", 1), 4),
        ([1, [2, 3]], (1, -1), 3),
        (("a", "b"), (1,), "b"),
        ({1: "one", "1": "text"}, (1,), "one"),
        ({1: "one", "1": "text"}, ("1",), "text"),
        (Order([Row("x", 2)]), ("rows", 0, "count"), 2),
        (Order([Row("x", 2)]), ("rows", 0, 0), "x"),
        (SimpleNamespace(items=7), ("items",), 7),
        ({"items": 1}, ("items",), 1),
        (collections.defaultdict(int, x=1), ("x",), 1),
    ],
)
def test_a_path_picks_keys_then_positions_then_attributes(value: Any, path: tuple[str | int, ...], found: Any) -> None:
    assert pick(value, path) == found


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ({"a": 1}, ("b",)),
        ({"a": 1}, ("items",)),
        (collections.OrderedDict(a=1), ("keys",)),
        ([1], (1,)),
        ([1], ("append",)),
        ([1], ("0",)),
        ("text", ("upper",)),
        (3, ("real",)),
        (None, ("x",)),
        (Order([]), ("none",)),
        (Order([]), ("_hidden",)),
        (Order([]), ("__class__",)),
        (Order([]), ("__class__", "__init__", "__globals__")),
        (Order([]), (0,)),
    ],
)
def test_where_there_is_nothing_the_error_names_the_value_and_the_whole_path(
    value: Any, path: tuple[str | int, ...]
) -> None:
    with pytest.raises(LookupError) as caught:
        pick(value, path)
    assert f"a {type(value).__name__} has nothing at {path[0]!r}" in str(caught.value)
    assert "".join(f"[{key!r}]" for key in path) in str(caught.value)


# -------------------------------------------------------------------------------------------------- cursors
@given(seq=st.integers(0, 10**18 - 1), k=st.integers(0, 10**18 - 1))
def test_a_cursor_that_is_written_is_read_again(seq: int, k: int) -> None:
    assert Cursor.parse(str(Cursor(seq, k))) == Cursor(seq, k)


CURSOR_LIKE = st.from_regex(r"[0-9\-+ _.]{0,8}", fullmatch=True) | st.text(max_size=8)


@given(text=CURSOR_LIKE)
def test_whatever_is_read_as_a_cursor_is_written_back_as_it_was(text: str) -> None:
    try:
        cursor = Cursor.parse(text)
    except InvalidCursorError:
        return
    assert str(cursor) == text


GARBAGE = [
    "",
    "-",
    "1",
    "1-",
    "-1",
    "1-2-3",
    "+1-0",
    "-1-0",
    "01-0",
    "1-00",
    "1 -0",
    " 1-0",
    "1-0\n",
    "1_0-0",
    "a-b",
    "$",
]


@pytest.mark.parametrize("text", [*GARBAGE, "1.0-0", "٣-0", "0x1-0", f"1{'0' * 18}-0", f"0-{'9' * 19}"])
def test_what_is_no_cursor_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(InvalidCursorError) as caught:
        Cursor.parse(text)
    assert str(caught.value) == f"{text!r} is not a cursor; one looks like '12-0'"


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=2))
def test_cursors_are_ordered_as_the_log_is_and_all_fit_the_integers_of_databases(pairs: list[tuple[int, int]]) -> None:
    assert sorted(Cursor(*pair) for pair in pairs) == [Cursor(*pair) for pair in sorted(pairs)]
    assert min(Cursor(*pair) for pair in pairs) >= START
    assert Cursor.parse(f"{'9' * 18}-0").seq < 2**63


def test_an_event_is_durable_where_it_has_no_second_number() -> None:
    durable, volatile = Event(4, 0, "node_succeeded", 0.0, "a"), Event(4, 2, "progress", 0.0, "a")
    assert (durable.is_durable, volatile.is_durable) == (True, False)
    assert durable.cursor < volatile.cursor == Cursor(4, 2) < Cursor(5)


# --------------------------------------------------------------------------------------------------- states
def refused(now: JobState, then: JobState) -> bool:
    try:
        check_transition(now, then)
    except StateTransitionError as error:
        return str(error) == f"a job that is {now} cannot become {then}"
    return False


@pytest.mark.parametrize("final", [state for state in JobState if state.is_final])
def test_a_job_stays_in_a_final_state(final: JobState) -> None:
    assert all(refused(final, state) for state in JobState)


@pytest.mark.parametrize("state", [state for state in JobState if not state.is_final])
def test_any_other_job_can_fail_or_be_cancelled_and_does_not_follow_itself(state: JobState) -> None:
    assert not refused(state, JobState.FAILED)
    assert not refused(state, JobState.CANCELLED)
    assert refused(state, state)


def test_a_job_that_waits_for_a_slot_cannot_have_succeeded() -> None:
    assert refused(JobState.QUEUED, JobState.SUCCEEDED)
    assert refused(JobState.QUEUED, JobState.WAITING)


def test_node_states_say_whether_a_node_has_ended_by_their_order() -> None:
    ended = {state.label for state in NodeState if state >= NodeState.SUCCEEDED}
    assert ended == {"succeeded", "failed", "skipped", "upstream_failed", "cancelled"}
