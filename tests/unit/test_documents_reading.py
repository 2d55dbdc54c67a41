"""A document that is not valid says all that is wrong with it, each with its place."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from millstream.authoring.documents.flow import DocumentFlow
from millstream.authoring.documents.reading import MOST_EDGES, MOST_NODES, Find, read_document, subflows_in
from millstream.errors import DocumentError
from tests.documents import document, edge, node
from tests.integration.document_tasks import CATALOGUE, CHAT, FLOW_ID

OTHER_ID = "0190d5ae-7c3f-7b1e-9d3f-000000000002"


def problems(data: Any, find: Find | None = None) -> dict[str, str]:
    with pytest.raises(DocumentError) as caught:
        read_document(data, CATALOGUE, find, FLOW_ID)
    return dict(caught.value.problems)


def test_a_valid_document_is_read_with_what_renderers_need() -> None:
    data = {
        "nodes": [
            {
                **one,
                "type": "component",
                "position": {"x": 1, "y": -2.5},
                "measured": {"width": 10, "height": 20},
                "selected": False,
                "dragging": False,
                "width": 100,
                "parentId": None,
            }
            for one in CHAT["nodes"]
        ],
        "edges": [{**one, "id": f"e{at}", "animated": True} for at, one in enumerate(CHAT["edges"])],
        "viewport": {"x": 0, "y": 0, "zoom": 1},
    }
    assert read_document(data, CATALOGUE).digest == read_document(CHAT, CATALOGUE).digest


def test_all_problems_come_at_once() -> None:
    data = document(
        [
            node("a", "hoook"),
            node("b", "docs.add", a="x", c=1),
            node("b", "docs.add", a=1),
            node("../x", "docs.add", a=1),
            node("d", "docs.add"),
            {"id": "e", "data": {"component": "docs.add", "values": {"a": 1}, "policy": {"retries": -1}}, "code": "x"},
        ],
        ("b.result", "nobody.a"),
        ("b.sum", "d.a"),
    )
    data["edges"].append({"source": "b", "target": "d"})
    assert problems(data) == {
        "nodes[0].data.component": (
            "there is no component 'hoook'; did you mean 'hook'? GET /api/v1/all of a server lists them (node a)"
        ),
        "nodes[1].data.values.a": "'x' is not a whole number (node b)",
        "nodes[1].data.values.c": "docs.add has no input 'c'; it has 'a', 'b' (node b)",
        "nodes[2].id": "the id 'b' is used twice (node b)",
        "nodes[3].id": "'../x' is not an id: 1 to 100 letters, digits, '_' and '-', of which '-' does not come first",
        "nodes[5].code": "flow documents hold no code (node e)",
        "edges[0].target": "there is no node 'nobody' (edge b → nobody)",
        "edges[1].sourceHandle": "docs.add has no output 'sum'; it has 'result' (edge b → d)",
        "edges[2].sourceHandle": "it is missing; it must be a name (edge b → d)",
        "edges[2].targetHandle": "it is missing; it must be a name (edge b → d)",
    }


@pytest.mark.parametrize(
    ("link", "where"),
    [
        (("a.sum", "d.a"), "edges[0].sourceHandle"),
        (("a.result", "d.c"), "edges[0].targetHandle"),
        (("nobody.result", "d.a"), "edges[0].source"),
        (("wrong.result", "d.a"), "nodes[0].data.component"),
        (("up.result", "d.a"), "edges[0]"),
    ],
)
def test_an_input_at_which_a_wrong_edge_ends_is_no_second_problem(link: tuple[str, str], where: str) -> None:
    nodes = [node("a", "docs.add", a=1), node("d", "docs.add"), node("up", "docs.upper", text="x")]
    nodes = [node("wrong", "nothing.like.it"), *nodes] if link[0] == "wrong.result" else nodes
    assert list(problems(document(nodes, link))) == [where]


def test_an_input_without_an_edge_is_a_problem_beside_one_with_a_wrong_edge() -> None:
    found = problems(
        document([node("a", "docs.add", a=1), node("d", "docs.add"), node("e", "docs.add")], ("a.x", "d.a"))
    )
    assert found["nodes[2]"] == "its input a needs a value or an edge (node e)"
    assert "nodes[1]" not in found


@pytest.mark.parametrize(
    ("data", "where", "what"),
    [
        ([], "document", "a list is not an object"),
        ("{", "document", "it is no JSON"),
        ({"nodes": 1}, "nodes", "1 is not a list"),
        ({"nodes": [], "code": ""}, "code", "flow documents hold no code"),
        ({"nodes": [3]}, "nodes[0]", "3 is not an object"),
        ({"nodes": [{"id": "a"}]}, "nodes[0].data", "it is missing; it must be an object"),
        ({"nodes": [], "viewport": {"x": "1"}}, "viewport", "an object is not an object of the numbers"),
        (document([node("a" * 101, "docs.add", a=1)]), "nodes[0].id", "is not an id"),
        (document([node("a\0", "docs.add", a=1)]), "nodes[0].id", "is not an id"),
        (document([node("a", "docs.add", a=1, b=True)]), "nodes[0].data.values.b", "true is not a whole number"),
        (document([node("a", "docs.fill", template="", __class__=1)]), "nodes[0].data.values.__class__", "name"),
        (document([node("a", "docs.add", "l", a=1)]), "nodes[0].parentId", "there is no loop 'l'"),
        (document([node("b", "docs.add", a=1), node("a", "docs.add", "b", a=1)]), "nodes[1].parentId", "is no loop"),
        (document([node("a", "Loop", "a", value=1)]), "nodes[0].parentId", "or in themselves"),
        (document([node("l", "Loop", value=1, max_turns=0)]), "nodes[0].data.values.max_turns", "0 is not 1 or more"),
        (
            document([node("l", "Loop", value=1, next=1)]),
            "nodes[0].data.values.next",
            "an edge from a node in the loop",
        ),
        (document([node("s", "Subflow", flow=OTHER_ID)]), "nodes[0].data.values.flow", "there is no flow"),
        (document([node("s", "Subflow", flow="../x")]), "nodes[0].data.values.flow", "'../x' is not a UUID"),
        (
            document([node("s", "Subflow", flow=FLOW_ID)]),
            "nodes[0].data.values.flow",
            "cannot be a sub-flow of its own",
        ),
    ],
)
def test_a_problem_names_its_place(data: Any, where: str, what: str) -> None:
    found = problems(data)
    assert what in found[where], found


@pytest.mark.parametrize(
    ("policy", "what"),
    [
        ({"retries": "3"}, "retries is '3', but must be a whole number (node a)"),
        ({"timeout": "x", "retries": -1}, "timeout is 'x', but must be a number of seconds or null; retries is -1"),
        ({"timeout": 0}, "greater than 0"),
        ({"retry_for": ["os:system"]}, "documents cannot set 'retry_for'"),
        ({"run_in": "process"}, "documents cannot set 'run_in'"),
        ({"queue": "other"}, "documents cannot set 'queue'"),
    ],
)
def test_a_policy_that_cannot_be_set_is_a_problem(policy: dict[str, Any], what: str) -> None:
    data = document([node("a", "docs.add", a=1)])
    data["nodes"][0]["data"]["policy"] = policy
    assert what in problems(data)["nodes[0].data.policy"]
    data = document([node("m", "Merge", values=1)])
    data["nodes"][0]["data"]["policy"] = {"retries": 1}
    assert "no policy" in problems(data)["nodes[0].data.policy"]


NUMBERS = [node("a", "docs.add", a=1), node("b", "docs.add", a=1), node("up", "docs.upper"), node("in", "chat_input")]
LOOPS = [
    node("l", "Loop", value=1),
    node("x", "docs.add", "l"),
    node("k", "docs.is_over", "l", limit=1),
    node("o", "docs.add", a=1),
]
TURN = [("l.current", "x.a"), ("x.result", "l.next"), ("x.result", "k.value"), ("k.result", "l.done")]


@pytest.mark.parametrize(
    ("nodes", "edges", "where", "what"),
    [
        (NUMBERS, [("a.result", "b.a"), ("b.result", "a.a")], "edges", "the nodes a, b wait for each other"),
        (NUMBERS, [("a.result", "a.a")], "edges[0]", "wait for itself"),
        (NUMBERS, [("a.result", "up.text")], "edges[0]", "from result, which is number, to text, which is text"),
        (NUMBERS, [("in.message", "up.text")], "edges[0]", "from message, which is message, to text"),
        (NUMBERS, [("a.result", "b.a"), ("a.result", "b.a")], "edges[1].targetHandle", "there already"),
        (NUMBERS, [("a.result", "b.a"), ("b.result", "b.a")], "edges[1].targetHandle", "has one already"),
        (LOOPS, [*TURN, ("x.result", "o.a")], "edges[4]", "x is in a loop"),
        (LOOPS, [*TURN, ("l.current", "o.a")], "edges[4]", "for the nodes inside it"),
        (LOOPS, [*TURN, ("l.result", "x.b")], "edges[4]", "when the loop has ended"),
        (LOOPS, [*TURN, ("o.result", "x.b"), ("l.result", "o.a")], "edges", "the nodes l, o wait"),
        (LOOPS, [*TURN, ("o.result", "l.max_turns")], "edges[4].targetHandle", "takes no edge"),
        (LOOPS, TURN[:3], "nodes[0]", "its input done needs an edge"),
    ],
)
def test_an_edge_that_cannot_be_is_a_problem(
    nodes: list[dict[str, Any]], edges: list[tuple[str, str]], where: str, what: str
) -> None:
    assert what in problems(document(nodes, *edges)).get(where, ""), problems(document(nodes, *edges))


# ----------------------------------------------------------------------------------------------------------- sub-flows
def test_sub_flows_that_lie_in_themselves_are_a_problem() -> None:
    data = document([node("s", "Subflow", flow=OTHER_ID)])
    inner = document([node("t", "Subflow", flow=FLOW_ID.upper())])
    found = problems(data, {OTHER_ID: inner}.get)
    assert "at nodes[0].data.values.flow: a flow cannot be a sub-flow of its own" in found["nodes[0].data.values.flow"]


def test_sub_flows_lie_in_each_other_eight_deep_and_no_deeper() -> None:
    ids = [f"0190d5ae-7c3f-7b1e-9d3f-{index:012}" for index in range(10)]
    stored = {here: document([node("s", "Subflow", flow=inner)]) for here, inner in itertools.pairwise(ids)}
    stored[ids[-1]] = document([])
    assert read_document(stored[ids[1]], CATALOGUE, stored.get).depth == 8
    assert "more than 8 deep" in problems(stored[ids[0]], stored.get)["nodes[0].data.values.flow"]


def test_sub_flows_do_not_multiply_beyond_the_limit() -> None:
    ids = [f"0190d5ae-7c3f-7b1e-9d3f-{index:012}" for index in range(8)]
    many = 20
    stored = {
        here: document([node(f"s{index}", "Subflow", flow=inner) for index in range(many)])
        for here, inner in itertools.pairwise(ids)
    }
    stored[ids[-1]] = document([node("a", "docs.add", a=1)])
    assert "over 5,000 nodes" in str(problems(stored[ids[0]], stored.get))


def test_each_sub_flow_is_read_once_and_no_more_are_than_there_may_be_nodes() -> None:
    asked: list[str] = []
    large = document([node(f"n{index}", "docs.add") for index in range(2_000)])

    def find(flow_id: str) -> dict[str, Any]:
        asked.append(flow_id)
        return large

    same = document([node(f"s{index}", "Subflow", flow=OTHER_ID) for index in range(200)])
    assert "in that flow" in problems(same, find)["nodes[0].data.values.flow"]
    assert asked == [OTHER_ID]

    large = document([node(f"n{index}", "docs.add", a=1) for index in range(2_000)])
    ids = [f"0190d5ae-7c3f-7b1e-9d3f-{index:012}" for index in range(60)]
    found = problems(document([node(f"s{index}", "Subflow", flow=ids[index]) for index in range(60)]), find)
    assert "over 5,000 nodes" in found["nodes[59].data.values.flow"]


_OF_SUBFLOW = "in that flow, at nodes[0]: its input a needs a value or an edge (node a) (node s)"


def test_the_problems_of_a_sub_flow_are_problems_of_whoever_names_it() -> None:
    data = document([node("s", "Subflow", flow=OTHER_ID)])
    found = problems(data, {OTHER_ID: document([node("a", "docs.add")])}.get)
    assert found == {"nodes[0].data.values.flow": _OF_SUBFLOW}
    assert subflows_in(data) == {OTHER_ID}
    strange: Any
    for strange in ([], {"nodes": 3}, {"nodes": [3, {"data": 3}]}, document([node("s", "Subflow", flow=[1])])):
        assert subflows_in(strange) == set()


# -------------------------------------------------------------------------------------------------------------- limits
def test_a_document_has_so_many_nodes_and_edges_and_no_more() -> None:
    nodes = [node(f"n{index}", "docs.add", a=1) for index in range(MOST_NODES)]
    assert read_document(document(nodes), CATALOGUE).size == MOST_NODES
    assert "there may be 5,000" in problems(document([*nodes, node("x", "docs.add", a=1)]))["nodes"]
    edges = [edge("n0.result", "n1.a")] * (MOST_EDGES + 1)
    assert "there may be 20,000" in problems({"nodes": nodes, "edges": edges})["edges"]


def test_a_text_has_a_mebibyte_and_no_more() -> None:
    limit = 1 << 20
    assert read_document(document([node("u", "docs.upper", text="a" * limit)]), CATALOGUE).size == 1
    found = problems(document([node("u", "docs.upper", text="ä" * (limit // 2) + "a")]))
    assert "1,048,577 bytes, but may have 1,048,576" in found["nodes[0].data.values.text"]
    assert "surrogate" in problems(document([node("u", "docs.upper", text="\ud800")]))["nodes[0].data.values.text"]


def test_a_document_holds_so_many_values_and_no_more() -> None:
    parts = [1] * 500_000
    assert "there are more than 500,000 values" in str(problems(document([node("j", "docs.join_many", parts=parts)])))


def test_a_document_with_all_that_it_may_hold_is_read_and_drawn_in_time() -> None:
    nodes = [node(f"n{index}", "docs.fill", template="x") for index in range(MOST_NODES)]
    data = document(nodes, *((f"n{at % 40}.result", f"n{4000 + at % 1000}.v{at}") for at in range(MOST_EDGES)))
    flow = DocumentFlow(FLOW_ID, data, CATALOGUE)
    begin = time.process_time()
    assert flow.draw(flow.inputs.bind((), {})).shape.size == MOST_NODES
    assert time.process_time() - begin < 60  # what grows with the square of the edges takes minutes


def test_no_more_than_a_hundred_problems_are_told() -> None:
    assert len(problems({"nodes": [{"x": 1}] * 300})) == 100
