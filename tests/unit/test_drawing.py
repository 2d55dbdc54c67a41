"""What a flow's body may say while it is drawn, and what it is told when it says something else."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from millstream import (
    DefinitionError,
    DrawingError,
    Flow,
    GraphError,
    InvalidInputError,
    Retry,
    branch,
    fixed,
    flow,
    loop,
    short_circuit,
    sleep,
    task,
)
from millstream.authoring.handle import Handle
from millstream.errors import DrawingTimeoutError, DuplicateNameError, HandleUsedAsValueError
from millstream.graph.shape import Shape
from millstream.model.graph import predecessors


@task
def one() -> int:
    return 1


@task
def add(a: Any, b: int = 1) -> Any:
    return a + b


def shape_of(definition: Flow, **inputs: Any) -> Shape:
    return definition.draw(definition.inputs.bind((), inputs)).shape


def edges_of(definition: Flow, **inputs: Any) -> dict[str, set[str]]:
    """Return each node's predecessors by id."""
    nodes = shape_of(definition, **inputs).graph.nodes
    return {node.id: {nodes[i].id for i in predecessors(node)} for node in nodes}


def test_a_call_of_a_task_adds_a_node_and_its_handle_an_edge() -> None:
    @flow
    def diamond() -> Any:
        first = one()
        return add(add(first), add(first))

    assert edges_of(diamond) == {"one": set(), "add": {"one"}, "add-2": {"one"}, "add-3": {"add", "add-2"}}


def test_loops_and_conditions_over_the_inputs_are_plain_python() -> None:
    @flow
    def chain(length: int) -> Any:
        last = one()
        for _ in range(length):
            last = add(last)
        return last

    assert shape_of(chain, length=3).size == 4
    assert shape_of(chain, length=0).size == 1


def test_inputs_of_other_values_but_one_shape_share_one_compiled_graph() -> None:
    @flow
    def adding(a: int) -> Any:
        return add(a, 5)

    first, second = shape_of(adding, a=1), shape_of(adding, a=2)
    assert first is second
    assert adding.draw({"a": 2}).bindings == (2, 5)


def test_outside_of_a_flow_a_task_is_its_function() -> None:
    assert add(2, b=3) == 5


@pytest.mark.parametrize(
    ("use", "hint"),
    [
        (lambda h: 1 if h else 2, "branch"),
        (lambda h: [x for x in h], "map"),  # noqa: C416  the iteration is the point
        (len, "task.map"),
        (lambda h: h + 1, "a task that calculates"),
        (lambda h: 1 - h, "a task that calculates"),
        (lambda h: h > 3, "branch"),
        (lambda h: h == 3, "branch"),
        (lambda h: 3 in h, "branch"),
        (lambda h: f"{h}", "a task that does it"),
        (int, "a task that does it"),
        (lambda h: h.total, r"\['total'\]"),
        (lambda h: h(), "a task that calls it"),
    ],
)
def test_a_handle_used_as_a_value_is_one_clear_error_that_says_what_to_use(
    use: Callable[[Any], Any], hint: str
) -> None:
    @flow
    def wrong() -> Any:
        return use(one())

    with pytest.raises(HandleUsedAsValueError, match=f"the result of one is .*{hint}"):
        wrong.draw({})


def test_a_handle_inside_containers_is_an_edge_too() -> None:
    @flow
    def nested() -> Any:
        return add({"rows": [one(), (2, one())]}, 3)

    assert edges_of(nested)["add"] == {"one", "one-2"}


def test_order_without_data_is_written_with_arrows() -> None:
    with Flow("etl") as etl:
        a, b, c, d = (one.options(id=name)() for name in "abcd")
        a >> [b, c] >> d
    assert edges_of(etl) == {"a": set(), "b": {"a"}, "c": {"a"}, "d": {"b", "c"}}


def test_arrows_may_point_to_the_left() -> None:
    with Flow("etl") as etl:
        a, b, c = (one.options(id=name)() for name in "abc")
        c << [a, b]
        assert isinstance(c << a, Handle)
    assert edges_of(etl)["c"] == {"a", "b"}


def test_a_cycle_is_refused_with_the_nodes_on_it() -> None:
    def draw() -> None:
        with Flow("etl"):
            a, b = one.options(id="a")(), one.options(id="b")()
            a >> b >> a

    with pytest.raises(GraphError, match=r"a -> b -> a|b -> a -> b"):
        draw()


def test_a_body_that_raises_is_an_error_that_names_flow_and_cause() -> None:
    @flow(name="broken")
    def broken() -> None:
        raise KeyError("missing")

    with pytest.raises(DrawingError, match="flow broken raised KeyError: 'missing'") as caught:
        broken.draw({})
    assert isinstance(caught.value.__cause__, KeyError)


async def test_a_body_that_takes_too_long_is_given_up() -> None:
    @flow(name="endless")
    def endless() -> None:
        time.sleep(0.5)  # longer than the bound given below, short enough to end with the test

    with pytest.raises(DrawingTimeoutError, match=r"endless took over 0\.01 s"):
        await endless.draw_in_time({}, seconds=0.01)


def test_inputs_that_do_not_fit_are_one_line_with_the_signature() -> None:
    @flow(name="sized")
    def sized(size: int) -> Any:
        return add(size)

    with pytest.raises(InvalidInputError, match=r"sized: missing a required argument: 'size'; it takes \(size: int\)"):
        sized.inputs.bind((), {})
    with pytest.raises(InvalidInputError, match="there is no input 'sise'; it takes"):
        sized.inputs.bind((), {"sise": 1})


def test_written_inputs_are_converted_to_their_types_and_all_problems_are_named() -> None:
    @flow(name="typed")
    def typed(sizes: list[int], name: str = "x", ratio: float = 1.0) -> Any:
        return [add(value) for value in (sizes, name, ratio)]

    assert typed.inputs.parse({"sizes": "[1, 2]", "name": "7", "ratio": "2"}) == {
        "sizes": [1, 2],
        "name": "7",
        "ratio": 2.0,
    }
    with pytest.raises(InvalidInputError, match=r"there is no input 'other'.*sizes='x'"):
        typed.inputs.parse({"sizes": "x", "other": "1"})


def test_map_takes_items_from_every_argument_that_is_not_fixed() -> None:
    @flow
    def mapped() -> Any:
        return add.options(product=True, chunk=2, in_flight=3).map([1, 2], b=fixed(5))

    (node,) = shape_of(mapped).graph.nodes
    assert node.map is not None
    assert (node.map.over, node.map.product, node.map.chunk, node.map.in_flight) == ((0,), True, 2, 3)


def test_map_with_nothing_to_map_over_is_refused() -> None:
    @flow
    def mapped() -> Any:
        return add.map(fixed(1))

    with pytest.raises(DrawingError, match="needs an argument to map over"):
        mapped.draw({})


def test_what_draws_or_waits_is_refused_outside_of_a_flow() -> None:
    for what in (
        lambda: branch(1, one),
        lambda: short_circuit(1),
        lambda: loop(add, 1, until=one),
        lambda: sleep(1),
        lambda: add.map([1, 2], [3, 4]),
        lambda: add.options(retries=1)(1),
        lambda: add.options(chunk=2).map([1, 2]),
        Flow("f", one.fn),
    ):
        with pytest.raises(DefinitionError):
            what()


def test_a_map_outside_of_a_flow_is_a_signature() -> None:
    assert one.map([1, 2]) == one.xmap([1, 2])


def test_a_loop_whose_body_returns_another_number_of_values_is_refused() -> None:
    @flow
    def looping() -> Any:
        return loop(lambda *state: state[0], 1, 2, until=add)

    with pytest.raises(DefinitionError, match="state is 2 values, but its body returned 1"):
        looping.draw({})


def test_a_loop_cannot_reach_for_handles_outside_of_it() -> None:
    @flow
    def looping() -> Any:
        outside = one()
        return loop(lambda a: add(a, outside), 1, until=one)

    with pytest.raises(DrawingError, match="belongs to another drawing"):
        looping.draw({})


def test_two_tasks_of_one_name_in_one_flow_are_refused() -> None:
    first, second = task(name="same")(lambda: 1), task(name="same")(lambda: 2)

    @flow
    def both() -> Any:
        return [first(), second()]

    with pytest.raises(DuplicateNameError, match="'same'"):
        both.draw({})


def test_an_id_that_is_given_twice_is_refused() -> None:
    @flow
    def twice() -> Any:
        return [one.options(id="a")(), one.options(id="a")()]

    with pytest.raises(DrawingError, match="'a' is given twice"):
        twice.draw({})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"retires": 3}, "no policy retires"),
        ({"retries": -1}, "retries is -1"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": 1, "soft_timeout": 2}, "soft_timeout .* must be shorter"),
        ({"priority": 10}, "priority is 10"),
        ({"run_in": "cloud"}, "run_in"),
        ({"effect": "twice"}, "effect"),
    ],
)
def test_a_wrong_policy_is_refused_where_it_is_written(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(DefinitionError, match=message):
        task(bind=False, **wrong)(one.fn)


def test_a_flow_refuses_policies_that_only_its_tasks_can_have() -> None:
    with pytest.raises(DefinitionError, match="flow f cannot have retries, timeout"):
        Flow("f", one.fn, retries=3, timeout=5)


def test_generators_and_classes_are_no_tasks() -> None:
    def generator() -> Any:
        yield 1

    wrong: Any
    for wrong in (generator, int, 3):
        with pytest.raises(DefinitionError):
            task(wrong)


def test_a_version_names_the_source_not_the_drawing() -> None:
    @flow
    def first(n: int) -> Any:
        return add(n)

    before = first.version
    first.draw({"n": 1})
    assert first.version == before
    assert first.version != one.version


def test_a_retry_is_asked_for_with_a_delay() -> None:
    assert Retry("not yet", delay=3.0).delay == 3.0


@pytest.mark.parametrize("wrap", [lambda h: {h}, lambda h: frozenset([h]), lambda h: {h: 1}, lambda h: Pair(h, 1)])
def test_a_handle_where_its_result_cannot_be_put_is_refused(wrap: Callable[[Any], Any]) -> None:
    @flow
    def wrapped() -> Any:
        return add(wrap(one()))

    with pytest.raises(DrawingError, match=r"handle of one> is in .*use a list, tuple or dict value"):
        wrapped.draw({})


def test_fixed_outside_of_map_is_refused() -> None:
    @flow
    def wrong() -> Any:
        return add(fixed(1))

    with pytest.raises(DrawingError, match="marks an argument of map"):
        wrong.draw({})


class Pair(NamedTuple):
    first: Any
    second: int
