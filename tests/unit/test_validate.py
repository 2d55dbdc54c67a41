"""A graph that cannot run is refused, and every reason is said with its place."""

import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.errors import GraphError
from millstream.graph.validate import validate
from millstream.model.graph import After, Arg, Failed, Graph, Keyed, Map, Node, Packed, Result, Slot
from tests.unit.plan_cases import Case, cases, chain

A = Node(id="a", task="t")
ROUTER = Node(id="r", kind="router", args=(Slot(0),), labels=("yes", "no"))
TURN = Graph((A,), slots=1, result=Packed("list", (Packed("list", (Result(0),)), Slot(0))))
LOOP = Node(id="l", kind="loop", args=(Slot(0),), body=TURN, max_turns=3)


def problems(graph: Graph, *, max_nodes: int = 100_000) -> list[str]:
    try:
        validate(graph, max_nodes=max_nodes)
    except GraphError as error:
        return list(error.problems)
    return []


def of(*nodes: Node, slots: int = 1, result: Arg | None = None) -> list[str]:
    return problems(Graph(nodes, slots=slots, result=result))


# ---------------------------------------------------------------------------------------------- what is valid
@settings(max_examples=100)
@given(case=cases())
def test_graphs_made_by_the_rules_pass(case: Case) -> None:
    assert problems(case.graph) == []


def test_a_graph_with_every_kind_of_node_passes() -> None:
    nodes = (
        A,
        Node(id="sub.flow-1", kind="flow", task="f", kwargs=(("x", Result(0, ("rows", 0))), ("y", Slot(1)))),
        ROUTER,
        Node(id="yes", task="t", after=(After(2, "yes"), After(0)), args=(Packed("tuple", (Result(0), Slot(0))),)),
        Node(id="no", task="t", after=(After(2, "no"),), args=(Result(2),)),
        Node(id="either", kind="merge", args=(Result(3), Result(4)), join="none_failed_min_one_success"),
        LOOP,
        Node(id="nap", kind="sleep", args=(Slot(0),)),
        Node(id="ask", kind="approval"),
        Node(id="spread", task="t", args=(Slot(0),), kwargs=(("y", Result(6)),), map=Map(over=(0, "y"), chunk=10)),
        Node(id="two", task="t", after=(After(0), After(3), After(4)), join="k_of_n", k=2),
        Node(id="clean", task="t", after=(After(0),), join="always"),
    )
    assert of(*nodes, slots=2, result=Keyed(("rows", 7), (Result(9), Slot(1)))) == []


def test_the_error_says_every_problem() -> None:
    with pytest.raises(
        GraphError, match=r"^node x: a task node .*; node x: this id is used twice; node x: a merge needs"
    ):
        validate(Graph((Node(id="x"), Node(id="x", kind="merge"))))


def test_a_graph_without_nodes_passes() -> None:
    assert of() == []


# --------------------------------------------------------------------------------------- one problem, one line
ID_RULE = "an id consists of 1 to 200 letters, digits, '_', '-' and '.', and does not begin with '-' or '.'"


@pytest.mark.parametrize("name", ["", "-a", ".a", "a/b", "a[0]", "a#0", "a b", "a\n", "ä", "a" * 201])
def test_an_id_that_a_path_could_not_hold_is_refused(name: str) -> None:
    assert of(Node(id=name, task="t")) == [f"node {name!r}: {ID_RULE}"]


def test_an_id_that_is_used_twice_is_refused() -> None:
    assert of(A, Node(id="a", task="other")) == ["node a: this id is used twice"]


def body_of(node: Node) -> Graph:
    """Return a graph whose only problem can be in the body of its loop."""
    body = Graph((node,), slots=1, result=Packed("list", (Packed("list", ()), Slot(0))))
    return Graph((msgspec.structs.replace(LOOP, body=body),), slots=1)


K = Node(id="x", task="t", join="k_of_n")
WRONG_NODES: list[tuple[Node, str]] = [
    (Node(id="x", task="t", args=(Result(7),)), "it waits for node 7, but there are 3"),
    (Node(id="x", task="t", after=(After(-1),)), "it waits for node -1, but there are 3"),
    (Node(id="x", task="t", kwargs=(("k", Keyed(("k",), (Result(9),))),)), "it waits for node 9, but there are 3"),
    (Node(id="x", task="t", after=(After(2),)), "it waits for itself"),
    (Node(id="x", task="t", args=(Slot(4),)), "an argument names slot 4, but there are 1"),
    (
        Node(id="x", task="t", kwargs=(("k", Packed("list", (Slot(-1),))),)),
        "an argument names slot -1, but there are 1",
    ),
    (Node(id="x", task="t", kwargs=(("k", Slot(0)), ("k", Result(0)))), "its argument 'k' is given twice"),
    (Node(id="x", task="t", args=(Packed("list", (Keyed(("k",), ()),)),)), "a dict in it has 1 keys, but 0 values"),
    (Node(id="x", task="t", after=(After(0, "yes"),)), "its edge from a has the label 'yes', but a is no router"),
    (
        Node(id="x", task="t", after=(After(1, "perhaps"),)),
        "its edge from r has the label 'perhaps', which is not among 'yes', 'no'",
    ),
    (
        Node(id="x", task="t", after=(After(1, "yes"), After(1, "no"))),
        "its edges from r have the labels 'yes', 'no', but a node follows one of them",
    ),
    (Node(id="x"), "a task node needs the name of its task"),
    (Node(id="x", kind="flow"), "a flow node needs the name of its flow"),
    (Node(id="x", kind="router", labels=("yes",)), "a router needs one argument and at least one label"),
    (Node(id="x", kind="router", args=(Slot(0),)), "a router needs one argument and at least one label"),
    (Node(id="x", kind="merge"), "a merge needs at least one argument"),
    (Node(id="x", kind="sleep"), "a sleep needs one argument: how long, or until when"),
    (Node(id="x", kind="approval", args=(Slot(0), Slot(0))), "an approval takes one argument at most"),
    (Node(id="x", kind="loop", max_turns=1), "a loop needs a body"),
    (Node(id="x", kind="loop", body=TURN, max_turns=1), "its body takes 1 values, but the loop starts with 0"),
    (
        Node(id="x", kind="loop", body=Graph((A,)), max_turns=1),
        "its body has no result: the pair of the next state and whether that was the last turn",
    ),
    (Node(id="x", kind="loop", args=(Slot(0),), body=TURN), "max_turns is 0, but must be 1 or more"),
    (Node(id="x", task="t", body=TURN), "only a loop has a body, and this is a task"),
    (K, "k is 0, but must be 1 to 0, the number of its predecessors"),
    (
        msgspec.structs.replace(K, after=(After(0), After(1)), k=3),
        "k is 3, but must be 1 to 2, the number of its predecessors",
    ),
    (
        Node(id="x", task="t", join="always", args=(Result(0),)),
        "it starts at once (join rule always), so it cannot take another node's result",
    ),
    (
        Node(id="x", kind="merge", args=(Result(0),), map=Map(over=(0,))),
        "only tasks and flows can be mapped, and this is a merge",
    ),
    (Node(id="x", task="t", map=Map(over=())), "it maps over [], which are not all arguments of it"),
    (
        Node(id="x", task="t", args=(Slot(0),), map=Map(over=(1,))),
        "it maps over [1], which are not all arguments of it",
    ),
    (
        Node(id="x", task="t", args=(Slot(0),), map=Map(over=(0, "y"))),
        "it maps over [0, 'y'], which are not all arguments of it",
    ),
    (
        Node(id="x", task="t", args=(Slot(0),), map=Map(over=(0,), chunk=0)),
        "chunk must be 1 or more, and in_flight 0 or more",
    ),
    (
        Node(id="x", task="t", args=(Slot(0),), map=Map(over=(0,), in_flight=-1)),
        "chunk must be 1 or more, and in_flight 0 or more",
    ),
]


@pytest.mark.parametrize(("node", "problem"), WRONG_NODES, ids=[problem for _, problem in WRONG_NODES])
def test_a_problem_of_a_node_is_one_line_that_names_the_node(node: Node, problem: str) -> None:
    assert of(A, ROUTER, node) == [f"node x: {problem}"]


def test_a_problem_inside_a_loop_is_named_by_the_path_to_it() -> None:
    assert problems(body_of(Node(id="x"))) == ["node l/x: a task node needs the name of its task"]
    nested = body_of(msgspec.structs.replace(LOOP, id="inner", body=body_of(Node(id="x")).nodes[0].body))
    assert problems(nested) == ["node l/inner/x: a task node needs the name of its task"]


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (Result(1), "the result names node 1, but there are 1"),
        (Packed("list", (Result(-1),)), "the result names node -1, but there are 1"),
        (Slot(3), "the result names slot 3, but there are 1"),
        (Keyed(("a", "b"), (Slot(0),)), "a dict in it has 2 keys, but 1 values"),
    ],
)
def test_a_problem_of_the_result_names_its_graph(result: Arg, problem: str) -> None:
    assert of(A, result=result) == [f"graph: {problem}"]
    loop = msgspec.structs.replace(LOOP, body=Graph((A,), slots=1, result=result))
    assert of(loop) == [f"the body of node l: {problem}"]


# ------------------------------------------------------------------------------------------- cycles and sizes
def ring(*ids: str) -> tuple[Node, ...]:
    """Return nodes that wait for each other, each for the one before it and the first for the last."""
    return tuple(Node(id=name, task="t", after=(After((i or len(ids)) - 1),)) for i, name in enumerate(ids))


def test_a_cycle_is_named_by_its_nodes_in_the_order_in_which_they_would_run() -> None:
    says = "graph: the nodes a -> b -> c -> a wait for each other; write a cycle as a loop"
    assert of(*ring("a", "b", "c")) == [says]


def test_nodes_before_and_behind_a_cycle_are_not_named_with_it() -> None:
    behind = Node(id="behind", task="t", args=(Result(1),))
    into = Node(id="into", task="t")
    first, second = ring("a", "b")
    entered = msgspec.structs.replace(second, after=(*second.after, After(3)))
    says = "graph: the nodes a -> b -> a wait for each other; write a cycle as a loop"
    assert of(first, entered, behind, into) == [says]
    swapped = tuple(Node(id=n, task="t", after=(After(i),)) for n, i in (("behind", 1), ("a", 2), ("b", 1)))
    assert of(*swapped) == [says]


def test_a_cycle_inside_a_loop_is_named_with_the_loop() -> None:
    body = Graph(ring("a", "b"), slots=1, result=Packed("list", (Packed("list", ()), Slot(0))))
    says = "the body of node l: the nodes a -> b -> a wait for each other; write a cycle as a loop"
    assert of(msgspec.structs.replace(LOOP, body=body)) == [says]


def test_a_long_cycle_is_found_as_fast_as_a_short_one() -> None:
    began = time.process_time()
    (says,) = of(*ring(*(f"n{i}" for i in range(20_000))))
    assert says.startswith("graph: the nodes n0 -> n1 -> n2 -> ")
    assert time.process_time() - began < 2


@settings(max_examples=100)
@given(case=cases(), ends=st.lists(st.integers(0, 7), min_size=2, max_size=2, unique=True))
def test_any_edge_that_closes_a_circle_is_found(case: Case, ends: list[int]) -> None:
    early, late = sorted(end % len(case.graph.nodes) for end in ends)
    nodes = list(case.graph.nodes)
    if early == late:
        return
    nodes[late] = msgspec.structs.replace(nodes[late], after=(*nodes[late].after, After(early)))
    nodes[early] = msgspec.structs.replace(nodes[early], after=(*nodes[early].after, After(late)))
    assert any("wait for each other" in problem for problem in of(*nodes))


def test_a_graph_may_have_as_many_nodes_as_the_setting_says_with_the_bodies_of_loops() -> None:
    graph = Graph((LOOP, A), slots=1)
    assert problems(graph, max_nodes=3) == []
    assert problems(graph, max_nodes=2) == ["the graph has 3 nodes, but may have 2 (setting max_graph_nodes)"]


def test_arguments_that_are_nested_without_end_are_a_problem_of_the_graph_and_no_crash() -> None:
    arg: Arg = Slot(0)
    for _ in range(5_000):
        arg = Packed("list", (arg,))
    says = ["graph: its arguments or the bodies of its loops are nested too deeply"]
    assert of(Node(id="x", task="t", args=(arg,))) == says


def test_all_problems_are_listed_at_once() -> None:
    nodes = (*ring("a", "b"), Node(id="a", kind="merge"), Node(id="c d"), msgspec.structs.replace(LOOP, max_turns=0))
    assert problems(Graph(nodes, slots=1, result=Result(9)), max_nodes=5) == [
        "node a: this id is used twice",
        "node a: a merge needs at least one argument",
        f"node 'c d': {ID_RULE}",
        "node 'c d': a task node needs the name of its task",
        "node l: max_turns is 0, but must be 1 or more",
        "graph: the result names node 9, but there are 5",
        "graph: the nodes a -> b -> a wait for each other; write a cycle as a loop",
        "the graph has 6 nodes, but may have 5 (setting max_graph_nodes)",
    ]


def test_a_problem_stays_one_line_whatever_the_graph_holds() -> None:
    bad = "a\nb"
    ways = Node(id=bad, kind="router", args=(Slot(0),), labels=(bad,), after=(After(0),))
    found = of(
        ways, Node(id="x", task="t", after=(After(0, "c\n"), After(0, bad)), kwargs=((bad, Slot(0)),) * 2), *ring(bad)
    )
    assert len(found) == 7
    assert [problem for problem in found if "\n" in problem] == []


def test_a_chain_of_many_nodes_is_validated_in_the_time_that_a_submit_may_take() -> None:
    began = time.process_time()
    assert problems(chain(*(f"n{i}" for i in range(10_000)))) == []
    assert time.process_time() - began < 2


# -------------------------------------------------------------------------------------------------- what failed
ERRBACK = Node(id="e", task="t", args=(Failed((0,), "error"),), join="one_failed")


def test_a_node_that_takes_what_failed_passes() -> None:
    assert of(A, ERRBACK) == []


@pytest.mark.parametrize("join", ["all_success", "none_failed", "none_failed_min_one_success", "all_skipped"])
def test_a_node_that_takes_what_failed_must_be_able_to_run_then(join: str) -> None:
    (problem,) = of(A, msgspec.structs.replace(ERRBACK, join=join))
    assert (
        problem == f"node e: it takes what failed, but never runs behind a failure (join rule {join}); try one_failed"
    )


def test_a_node_that_takes_what_failed_says_of_which_nodes() -> None:
    assert of(A, Node(id="e", task="t", args=(Failed((), "id"),), after=(After(0),), join="one_failed")) == [
        "node e: it takes what failed, but names no node"
    ]
    assert of(A, Node(id="e", task="t", args=(Failed((7,), "id"),), join="one_failed")) == [
        "node e: it waits for node 7, but there are 2"
    ]


def test_what_failed_is_no_result_of_a_graph() -> None:
    assert of(A, result=Packed("list", (Failed((0,), "id"),))) == [
        "graph: the result is what failed, which only a node can take"
    ]


def test_headers_name_a_slot_that_there_is() -> None:
    assert of(Node(id="a", task="t", headers=Slot(3))) == ["node a: an argument names slot 3, but there are 1"]
