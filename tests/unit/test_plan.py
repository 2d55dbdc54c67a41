"""What a plan does with frames inside frames, how it finds nodes by path, and that it touches each edge once."""

import time
from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.errors import UnknownNameError
from millstream.graph.frame import DEFAULT_WINDOW, Frame, GraphFrame, ItemsFrame
from millstream.graph.plan import Plan, Steps, describe
from millstream.graph.shape import Shape
from millstream.model.graph import After, Failed, Graph, Map, Node, Packed, Result, Slot
from millstream.model.job import JobState, NodeState
from tests.unit.plan_cases import Case, Play, Story, cases, chain, nested_story, stories, take

OK, FAILED, SKIPPED = NodeState.SUCCEEDED, NodeState.FAILED, NodeState.SKIPPED
MILLION = 1_000_000
ERRBACK = Node(id="e", task="t", args=(Failed((0,), "error"),), join="one_failed")


def started(graph: Graph) -> Plan:
    plan = Plan(Shape(graph))
    plan.start()
    return plan


def mapped(in_flight: int = 0) -> Graph:
    """Return a graph in which `m` is mapped and `after` follows it."""
    spread = Node(id="m", task="t", args=(Slot(0),), map=Map(over=(0,), in_flight=in_flight))
    return Graph((spread, Node(id="after", task="t", args=(Result(0),))), slots=1)


def ready(steps: Steps) -> list[str]:
    return [frame.name(index) for frame, index in steps.ready]


def closed(steps: Steps) -> list[str]:
    return [frame.path for frame in steps.closed]


def open_paths(plan: Plan) -> list[str]:
    return [frame.name(index) for frame, index in plan.open_nodes()]


def expand(plan: Plan, path: str, inside: Shape | int, key: str = "") -> tuple[Frame, Steps]:
    place = plan.find(path)
    assert place is not None
    return plan.expand(*place, key, inside)


# --------------------------------------------------------------------------------------------- one graph
def test_a_graph_without_nodes_is_done_when_it_starts() -> None:
    plan = Plan(Shape(Graph(())))
    assert closed(plan.start()) == [""]
    assert plan.is_done
    assert plan.outcome() is JobState.SUCCEEDED


def test_starting_twice_releases_nothing_twice() -> None:
    plan = Plan(Shape(chain("a", "b")))
    assert ready(plan.start()) == ["a"]
    assert ready(plan.start()) == []


def test_a_job_fails_only_where_a_node_that_decides_failed() -> None:
    handled = Graph((Node(id="a", task="t"), Node(id="b", task="t", after=(After(0),), join="all_done")))
    for graph, outcome in ((handled, JobState.SUCCEEDED), (chain("a", "b"), JobState.FAILED)):
        plan = started(graph)
        plan.end("a", FAILED)
        plan.end("b", OK)
        assert plan.outcome() is outcome


@pytest.mark.parametrize(
    ("of_a", "of_errback", "outcome"),
    [(FAILED, OK, JobState.FAILED), (FAILED, FAILED, JobState.FAILED), (OK, None, JobState.SUCCEEDED)],
)
def test_an_errback_makes_nothing_good(of_a: NodeState, of_errback: NodeState | None, outcome: JobState) -> None:
    plan = started(Graph((Node(id="a", task="t"), ERRBACK, Node(id="c", task="t", args=(Result(1),)))))
    plan.end("a", of_a)
    if of_errback is not None:
        plan.end("e", of_errback)
        plan.end("c", OK)
    assert plan.is_done
    assert plan.outcome() is outcome


@given(case=cases())
def test_a_node_decides_where_nothing_but_errbacks_follows_it(case: Case) -> None:
    nodes = case.graph.nodes
    errbacks = {i for i, node in enumerate(nodes) if any(isinstance(arg, Failed) for arg in node.args)}
    followers = [
        {j for j, before in enumerate(case.edges) if i in before and nodes[j].join != "always"}
        for i in range(len(nodes))
    ]
    assert Shape(case.graph).deciding == tuple(i for i, after in enumerate(followers) if after <= errbacks)


def test_a_node_whose_result_the_graph_returns_decides_even_where_others_follow_it() -> None:
    nodes = (Node(id="a", task="t"), Node(id="b", task="t", after=(After(0),), join="all_done"))
    plan = started(Graph(nodes, result=Packed("list", (Result(0),))))
    plan.end("a", FAILED)
    plan.end("b", OK)
    assert plan.outcome() is JobState.FAILED


def test_a_skipped_last_node_fails_no_job() -> None:
    plan = started(chain("a", "b"))
    plan.end("a", SKIPPED)
    assert plan.is_done
    assert describe(plan) == {"a": "skipped", "b": "skipped"}
    assert plan.outcome() is JobState.SUCCEEDED


def test_a_node_that_was_cancelled_by_itself_counts_as_failed_to_those_behind_it() -> None:
    plan = started(chain("a", "b"))
    plan.end("a", NodeState.CANCELLED)
    assert describe(plan) == {"a": "cancelled", "b": "upstream_failed"}


def test_a_success_in_a_frame_where_something_failed_takes_the_long_way_to_the_same_end() -> None:
    nodes = [Node(id=name, task="t") for name in "ab"]
    plan = started(Graph((*nodes, *(Node(id=f"{n.id}2", task="t", after=(After(i),)) for i, n in enumerate(nodes)))))
    plan.end("a", FAILED)
    assert plan.root.advance(1) is None
    assert ready(plan.end("b", OK)) == ["b2"]


# ------------------------------------------------------------------------------------------ counting edges
class CountingList(list[int]):
    """A list that remembers what was written where."""

    writes: list[tuple[int, int]]

    def __init__(self, values: Iterable[int]) -> None:
        super().__init__(values)
        self.writes = []

    def __setitem__(self, index: object, value: object) -> None:
        assert isinstance(index, int)
        assert isinstance(value, int)
        self.writes.append((index, self[index] - value))
        super().__setitem__(index, value)


@settings(max_examples=100)
@given(case=cases(), order=st.permutations(range(8)), hot=st.booleans())
def test_each_edge_is_touched_once(case: Case, order: list[int], *, hot: bool) -> None:
    plan = Plan(Shape(case.graph))
    counts = plan.root.left = CountingList(plan.root.left)
    waiting = [i for _, i in plan.start().ready]
    while waiting:
        index = min(waiting, key=order.index)
        waiting.remove(index)
        steps = take(plan, (plan.root, index), case.fates[index], case.labels[index], hot=hot)
        waiting += [i for _, i in steps.ready]
    edges = [len(before) for node, before in zip(case.graph.nodes, case.edges, strict=True) if node.join != "always"]
    assert [by for _, by in counts.writes] == [1] * sum(edges)
    assert not any(counts)


def test_where_all_goes_well_nothing_but_one_count_a_node_is_kept() -> None:
    plan = started(chain(*(f"n{i}" for i in range(100))))
    for index in range(100):
        assert plan.root.advance(index) is not None
    assert plan.root.spoiled == {}
    assert plan.is_done


# ---------------------------------------------------------------------------------------- frames in frames
def test_a_node_ends_with_the_sub_flow_in_its_place_and_inner_frames_close_first() -> None:
    plan = started(chain("report", "mail"))
    expand(plan, "report", Shape(chain("join")))
    _, steps = expand(plan, "report/join", Shape(chain("sort")))
    assert ready(steps) == ["report/join/sort"]
    steps = plan.end("report/join/sort", OK)
    assert closed(steps) == ["report/join", "report"]
    assert ready(steps) == ["mail"]
    assert list(plan.frames) == [""]


def test_a_sub_flow_that_fails_fails_its_node() -> None:
    plan = started(chain("report", "mail"))
    expand(plan, "report", Shape(chain("join")))
    steps = plan.end("report/join", FAILED)
    assert [(frame.name(i), how) for frame, i, how in steps.ended] == [("mail", NodeState.UPSTREAM_FAILED)]
    assert plan.outcome() is JobState.FAILED


def test_whoever_drives_the_plan_may_decide_how_a_node_ends_with_its_frame() -> None:
    plan = Plan(Shape(chain("report", "mail")), settle=lambda frame: FAILED if frame.path == "report" else OK)
    plan.start()
    expand(plan, "report", Shape(chain("join")))
    plan.end("report/join", OK)
    assert describe(plan) == {"report": "failed", "mail": "upstream_failed"}


def test_whoever_drives_the_plan_decides_how_the_job_ends_and_is_asked_once_for_each_frame() -> None:
    asked: list[str] = []

    def settle(frame: Frame) -> NodeState:
        asked.append(frame.path)
        return frame.outcome() if frame.parent else FAILED

    plan = Plan(Shape(chain("report", "mail")), settle)
    plan.start()
    expand(plan, "report", Shape(chain("join")))
    for path in ("report/join", "report/join", "mail", "mail"):
        plan.end(path, OK)
    assert asked == ["report", ""]
    assert describe(plan) == {"report": "succeeded", "mail": "succeeded"}
    assert plan.outcome() is JobState.FAILED


def test_closing_a_frame_again_asks_nobody_and_changes_nothing() -> None:
    asked: list[str] = []

    def settle(frame: Frame) -> NodeState:
        asked.append(frame.path)
        return frame.outcome()

    plan = Plan(Shape(chain("report", "mail")), settle)
    plan.start()
    frame, _ = expand(plan, "report", Shape(chain("join")))
    plan.end("report/join", OK)
    again = plan.close(frame)
    assert (again.ready, again.ended) == ([], [])
    assert asked == ["report"]


def test_a_frame_that_was_put_in_place_already_is_given_again_and_releases_nothing() -> None:
    plan = started(chain("report"))
    first, steps = expand(plan, "report", Shape(chain("join")))
    assert ready(steps) == ["report/join"]
    again, steps = expand(plan, "report", Shape(chain("join")))
    assert again is first
    assert ready(steps) == []


@pytest.mark.parametrize("inside", [Shape(Graph(())), 0], ids=["graph", "map"])
def test_an_empty_frame_ends_its_node_at_once(inside: Shape | int) -> None:
    plan = started(mapped())
    _, steps = expand(plan, "m", inside)
    assert closed(steps) == ["m"]
    assert ready(steps) == ["after"]


@pytest.mark.parametrize("key", ["[0]", "#0"])
def test_the_node_of_a_loop_or_of_a_conducting_flow_does_not_end_with_a_frame_of_it(key: str) -> None:
    plan = started(chain("agent", "mail"))
    frame, _ = expand(plan, "agent", Shape(chain("think")), key)
    assert closed(plan.end(f"agent{key}/think", FAILED)) == [f"agent{key}"]
    assert not frame.ends_its_node
    assert open_paths(plan) == ["agent"]
    assert ready(plan.end("agent", OK)) == ["mail"]


def test_a_node_with_frames_never_ends_by_the_short_way_which_would_forget_to_drop_them() -> None:
    plan = started(chain("agent", "mail"))
    expand(plan, "agent", Shape(chain("think")), "#0")
    assert plan.root.advance(0) is None
    plan.end("agent", OK)
    assert list(plan.frames) == [""]


def test_an_item_with_frames_never_ends_by_the_short_way_either() -> None:
    plan = started(mapped())
    items, _ = expand(plan, "m", 2)
    expand(plan, "m[0]", Shape(chain("think")), "#0")
    assert items.advance(0) is None
    plan.end("m[0]", OK)
    assert sorted(plan.frames) == ["", "m"]


def test_what_comes_late_from_a_frame_whose_node_has_ended_changes_nothing() -> None:
    plan = started(chain("agent", "mail"))
    frame, _ = expand(plan, "agent", Shape(chain("think", "act")), "#0")
    plan.end("agent", FAILED)
    assert frame.advance(0) is None
    late = plan.ended(frame, 0, OK)
    assert (late.ready, late.ended, late.closed) == ([], [], [])


def test_a_frame_put_in_the_place_of_a_node_that_has_ended_is_not_kept() -> None:
    plan = started(chain("agent", "mail"))
    plan.end("agent", OK)
    for inside in (Shape(chain("think")), 3):
        frame, steps = plan.expand(plan.root, 0, "#0", inside, content="values")
        assert (steps.ready, steps.ended, steps.closed) == ([], [], [])
        assert frame.content == "values"
        assert frame.todo == 0
        assert list(frame.open()) == []
        assert {frame.state(i) for i in range(frame.size)} == {NodeState.CANCELLED}
    assert list(plan.frames) == [""]
    assert plan.root.children == {}


def test_a_conducting_item_of_a_map_keeps_its_calls_apart_from_other_items() -> None:
    plan = started(mapped())
    expand(plan, "m", 3)
    for item in range(2):
        expand(plan, f"m[{item}]", Shape(chain("think")), "#0")
    assert open_paths(plan) == ["m", "m[0]", "m[1]", "m[2]", "m[0]#0/think", "m[1]#0/think"]
    plan.end("m[1]", OK)
    assert sorted(plan.frames) == ["", "m", "m[0]#0"]


# ---------------------------------------------------------------------------------------------------- maps
def test_a_map_ends_when_its_items_have_and_passes_over_skipped_ones() -> None:
    plan = started(mapped())
    expand(plan, "m", 3)
    plan.end("m[0]", OK)
    plan.end("m[2]", SKIPPED)
    assert ready(plan.end("m[1]", OK)) == ["after"]


def test_a_map_with_a_failed_item_fails_but_not_before_the_others_have_ended() -> None:
    plan = started(mapped())
    expand(plan, "m", 2)
    plan.end("m[0]", FAILED)
    assert open_paths(plan) == ["m", "m[1]"]
    plan.end("m[1]", OK)
    assert describe(plan) == {"m": "failed", "after": "upstream_failed"}


def test_a_map_with_a_cancelled_item_is_cancelled() -> None:
    plan = started(mapped())
    expand(plan, "m", 1)
    plan.end("m[0]", NodeState.CANCELLED)
    assert plan.root.state(0) == NodeState.CANCELLED


@given(size=st.integers(0, 30), in_flight=st.integers(1, 8), random=st.randoms(use_true_random=True), hot=st.booleans())
def test_a_map_keeps_exactly_its_window_open_while_it_has_items_and_takes_them_in_order(
    size: int, in_flight: int, random: Random, *, hot: bool
) -> None:
    plan = started(mapped(in_flight))
    frame, steps = expand(plan, "m", size)
    released = [i for at, i in steps.ready if at is frame]
    open_now = list(released)
    for done in range(size):
        assert len(open_now) == min(in_flight, size - done)
        index = open_now.pop(random.randrange(len(open_now)))
        steps = take(plan, (frame, index), random.choice((OK, FAILED, SKIPPED)), hot=hot)
        fresh = [i for at, i in steps.ready if at is frame]
        open_now += fresh
        released += fresh
    assert released == list(range(size))
    assert plan.root.state(0) >= OK


def test_a_map_over_a_million_items_releases_a_window_and_costs_no_time_before_it_ran() -> None:
    plan = started(mapped())
    began = time.process_time()
    frame, steps = expand(plan, "m", MILLION)
    assert isinstance(frame, ItemsFrame)
    assert [i for _, i in steps.ready] == list(range(DEFAULT_WINDOW))
    plan.cancel()
    assert plan.is_done
    assert open_paths(plan) == []
    assert time.process_time() - began < 0.1


# ------------------------------------------------------------------------------------------ finding by path
def planned_paths() -> Plan:
    """Return a plan in which there is a node of every kind."""
    plan = started(Graph(tuple(Node(id=name, task="t") for name in ("a", "a.b-c", "m", "loop", "agent"))))
    expand(plan, "a", Shape(chain("x", "y")))
    expand(plan, "m", 12)
    expand(plan, "m[3]", Shape(chain("x")))
    expand(plan, "loop", Shape(chain("x")), "[0]")
    expand(plan, "loop", Shape(chain("x")), "[1]")
    expand(plan, "loop[1]/x", 2)
    expand(plan, "agent", Shape(chain("x")), "#0")
    expand(plan, "agent", Shape(chain("x")), "#1/0")
    expand(plan, "m[4]", Shape(chain("x")), "#0")
    return plan


@pytest.mark.parametrize(
    ("path", "frame", "index"),
    [
        ("a", "", 0),
        ("a.b-c", "", 1),
        ("a/y", "a", 1),
        ("m", "", 2),
        ("m[0]", "m", 0),
        ("m[11]", "m", 11),
        ("m[3]", "m", 3),
        ("m[3]/x", "m[3]", 0),
        ("loop[0]/x", "loop[0]", 0),
        ("loop[1]/x", "loop[1]", 0),
        ("loop[1]/x[1]", "loop[1]/x", 1),
        ("agent#0/x", "agent#0", 0),
        ("agent#1/0/x", "agent#1/0", 0),
        ("m[4]#0/x", "m[4]#0", 0),
    ],
)
def test_a_path_leads_to_its_node(path: str, frame: str, index: int) -> None:
    place = planned_paths().find(path)
    assert place is not None
    assert (place[0].path, place[1]) == (frame, index)
    assert place[0].name(index) == path


NOWHERE = """/ z /a a/ a/z ay a[0] a//x a/x/y m[12] m[-1] m[01] m[] m[3 m3 m/x m[3]/x/z m[5]/x loop[0] loop[2]/x
loop[0]x agent#0 agent#2/x agent#0x m[1]#0/x M"""


@pytest.mark.parametrize("path", ["", "a\n", *NOWHERE.split()])
def test_a_path_that_leads_nowhere_is_an_error_that_names_it(path: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        planned_paths().find(path)
    assert repr(path) in str(caught.value)


@pytest.mark.parametrize(
    "path", ["a/x", "a/y", "m[0]", "m[3]/x", "loop[0]/x", "loop[1]/x[1]", "agent#0/x", "agent#1/0/x"]
)
def test_a_path_into_something_that_has_ended_leads_to_nothing_and_is_no_error(path: str) -> None:
    plan = planned_paths()
    for name in ("a", "m", "loop", "agent"):
        plan.end(name, OK)
    assert plan.find(path) is None
    steps = plan.end(path, OK)
    assert (steps.ready, steps.ended, steps.closed) == ([], [], [])


def test_a_path_into_an_item_that_has_ended_leads_to_nothing_while_its_map_goes_on() -> None:
    plan = planned_paths()
    plan.end("m[3]", OK)
    assert plan.find("m[3]/x") is None
    assert plan.find("m[3]") is not None


@settings(max_examples=50)
@given(story=stories() | st.just(nested_story()), random=st.randoms(use_true_random=True), steps=st.integers(0, 40))
def test_every_node_of_a_plan_is_found_by_the_name_that_it_has(story: Story, random: Random, steps: int) -> None:
    play = Play(story, random)
    play.run(steps)
    for path, frame in play.plan.frames.items():
        assert frame.path == path
        for index in range(frame.size):
            assert play.plan.find(frame.name(index)) == (frame, index)


# -------------------------------------------------------------------------------------------------- cancel
def test_cancelling_ends_every_node_that_has_not_ended_and_keeps_the_others() -> None:
    plan = started(chain("a", "m", "z"))
    plan.end("a", OK)
    expand(plan, "m", 2)
    plan.end("m[0]", OK)
    plan.cancel()
    assert describe(plan) == {"a": "succeeded", "m": "cancelled", "z": "cancelled"}
    assert plan.outcome() is JobState.CANCELLED


def test_after_a_cancel_whoever_still_holds_an_inner_frame_finds_it_ended() -> None:
    plan = started(mapped(in_flight=2))
    frame, _ = expand(plan, "m", 5)
    inner, _ = expand(plan, "m[0]", Shape(chain("x", "y")))
    plan.end("m[1]", OK)
    plan.cancel()
    assert isinstance(inner, GraphFrame)
    assert [NodeState(frame.state(i)) for i in range(5)] == [NodeState.CANCELLED, OK, *[NodeState.CANCELLED] * 3]
    assert [NodeState(state) for state in inner.states] == [NodeState.CANCELLED] * 2
    for place in ((frame, 2), (inner, 0)):
        late = take(plan, place, OK)
        assert (late.ready, late.ended, late.closed) == ([], [], [])
    assert frame.outcome() is inner.outcome() is NodeState.CANCELLED
