"""Drawing: the body of a flow runs once, and each call of a task in it adds a node instead of running."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import msgspec

from millstream.authoring.handle import Handle
from millstream.engine.program import Work
from millstream.errors import DrawingError, DuplicateNameError
from millstream.graph.shape import Shape
from millstream.graph.validate import validate
from millstream.model.graph import After, Arg, Failed, Graph, JoinRule, Keyed, Map, Node, NodeKind, Packed, Result, Slot
from millstream.model.policy import Policy

drawing: ContextVar[Drawing | None] = ContextVar("millstream_drawing", default=None)
"""The drawing that is going on here, if any."""

DEFAULT_MAX_NODES = 100_000


class Drawn(msgspec.Struct, frozen=True):
    """A graph with its values and its code, ready to be submitted.

    Attributes:
        shape: The compiled graph.
        bindings: The values of its slots.
        works: The tasks and flows that its nodes name.
    """

    shape: Shape
    bindings: Sequence[Any]
    works: Mapping[str, Any]


class Shapes:
    """Compiled graphs of one definition: most submissions draw the same shape again."""

    def __init__(self, limit: int = 64) -> None:
        """Keep at most `limit` shapes, the last ones made."""
        self._limit = limit
        self._shapes: dict[Graph, Shape] = {}

    def get(self, graph: Graph, max_nodes: int = DEFAULT_MAX_NODES) -> Shape:
        """Return the compiled form of a graph.

        Raises:
            GraphError: The graph is not valid.
        """
        shape = self._shapes.get(graph)
        if shape is None:
            validate(graph, max_nodes=max_nodes)
            if len(self._shapes) >= self._limit:
                self._shapes.pop(next(iter(self._shapes)))
            shape = self._shapes[graph] = Shape(graph)
        return shape


class NodeOptions(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a call of a task says about its node (see `Task.options`).

    Attributes:
        id: The node's id; else it is made of the task's name.
        join: When it starts, given how its predecessors ended.
        k: For the join rule `k_of_n`.
        product: For `map`: every combination of the mapped arguments.
        chunk: For `map`: items that share one attempt.
        in_flight: For `map`: attempts that may be open at once.
        policy: Replaces the task's policy.
    """

    id: str | None = None
    join: JoinRule = "all_success"
    k: int = 0
    product: bool = False
    chunk: int = 1
    in_flight: int = 0
    policy: Policy | None = None


NO_OPTIONS = NodeOptions()


class Fixed(msgspec.Struct, frozen=True):
    """An argument of `map` that is the same for every item (see `fixed`)."""

    value: Any


def fixed(value: Any) -> Any:
    """Mark an argument of `map` as the same for every item, instead of being mapped over.

    >>> from millstream import flow, task
    >>> @task
    ... def scale(x: int, by: int) -> int: return x * by
    >>> @flow
    ... def scaled():
    ...     return scale.map([1, 2, 3], fixed(10))
    >>> scaled.run()
    [10, 20, 30]
    """
    return Fixed(value)


class _Draft:
    """A node that may still get edges."""

    __slots__ = ("after", "args", "extra", "id", "kind", "kwargs", "options", "task")

    def __init__(self, node_id: str, kind: NodeKind, task: str, options: NodeOptions) -> None:
        self.id = node_id
        self.kind: NodeKind = kind
        self.task = task
        self.args: tuple[Arg, ...] = ()
        self.kwargs: tuple[tuple[str, Arg], ...] = ()
        self.after: dict[tuple[int, str | None], After] = {}
        self.options = options
        self.extra: dict[str, Any] = {}

    def node(self) -> Node:
        """Return the node as it now is."""
        options = self.options
        return Node(
            id=self.id,
            kind=self.kind,
            task=self.task,
            args=self.args,
            kwargs=self.kwargs,
            after=tuple(self.after.values()),
            join=options.join,
            k=options.k,
            policy=options.policy,
            **self.extra,
        )


class Drawing:
    """A graph that is being drawn.

    Attributes:
        nodes: The nodes so far.
        bindings: The values so far.
        works: The tasks and flows so far.
    """

    def __init__(self) -> None:
        """Start with an empty graph."""
        self.nodes: list[_Draft] = []
        self.bindings: list[Any] = []
        self.works: dict[str, Any] = {}
        self._ids: dict[str, int] = {}
        self._conditions: list[After] = []

    @contextmanager
    def opened(self) -> Iterator[Drawing]:
        """Make this the drawing that calls of tasks add to."""
        token = drawing.set(self)
        try:
            yield self
        finally:
            drawing.reset(token)

    # ------------------------------------------------------------------------------------------------- nodes
    def add_work(
        self,
        kind: NodeKind,
        work: Work,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        options: NodeOptions = NO_OPTIONS,
    ) -> Handle:
        """Add a node at which a task or flow stands."""
        self._know(work)
        return self.add(kind, _short(work.name), args, kwargs, options, task=work.name)

    def add_map(
        self, kind: NodeKind, work: Work, args: Sequence[Any], kwargs: Mapping[str, Any], options: NodeOptions
    ) -> Handle:
        """Add a node that runs a task or flow once for each item of its arguments (but those that are `fixed`)."""
        over: list[int | str] = [i for i, arg in enumerate(args) if not isinstance(arg, Fixed)]
        over += [name for name, arg in kwargs.items() if not isinstance(arg, Fixed)]
        if not over:
            raise DrawingError(f"{work.name}.map needs an argument to map over; all that it got are fixed")
        handle = self.add_work(
            kind,
            work,
            [arg.value if isinstance(arg, Fixed) else arg for arg in args],
            {name: arg.value if isinstance(arg, Fixed) else arg for name, arg in kwargs.items()},
            options,
        )
        self.nodes[-1].extra["map"] = Map(tuple(over), options.product, options.chunk, options.in_flight)
        return handle

    def add(
        self,
        kind: NodeKind,
        name: str,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: NodeOptions = NO_OPTIONS,
        *,
        task: str = "",
    ) -> Handle:
        """Add a node of any kind; its id is made of `name` unless the options give one."""
        draft = _Draft(self._new_id(options.id or name, is_given=options.id is not None), kind, task, options)
        draft.args = tuple(self.template(arg) for arg in args)
        if kwargs:
            draft.kwargs = tuple((key, self.template(arg)) for key, arg in sorted(kwargs.items()))
        for condition in self._conditions:
            draft.after[condition.node, condition.when] = condition
        self.nodes.append(draft)
        return Handle(self, len(self.nodes) - 1)

    def add_router(self, name: str, value: Any, labels: tuple[str, ...]) -> Handle:
        """Add a router that chooses among labels by a value."""
        handle = self.add("router", name, (value,))
        self.nodes[-1].extra["labels"] = labels
        return handle

    def parameters(self, count: int) -> list[Handle]:
        """Make the first `count` slots parameters, and return handles of them: the state of a loop's turn."""
        self.bindings.extend([None] * count)
        return [Handle(self, -1 - slot) for slot in range(count)]

    def order(self, before: Handle, after: Handle) -> None:
        """Let one node start after another."""
        when = before._when  # noqa: SLF001  handles and drawings are one mechanism
        edge = After(self._index(before), when)
        self.nodes[self._index(after)].after[edge.node, when] = edge

    @contextmanager
    def only_if(self, router: Handle, label: str) -> Iterator[None]:
        """Let the nodes that are added meanwhile start only if a router chooses a label."""
        self._conditions.append(After(self._index(router), label))
        try:
            yield
        finally:
            self._conditions.pop()

    # ------------------------------------------------------------------------------------------------ values
    def template(self, value: Any) -> Arg:
        """Return the argument template of a value: a handle's result, a container with handles, else a slot."""
        if isinstance(value, Handle):
            return self._reference(self._index(value), value._path)  # noqa: SLF001  see `order`
        if isinstance(value, list | tuple | dict | set | frozenset) and _holds_handle(value):
            if isinstance(value, dict):
                return Keyed(tuple(value), tuple(self.template(item) for item in value.values()))
            kind = "list" if isinstance(value, list) else "tuple"
            return Packed(kind, tuple(self.template(item) for item in value))  # type: ignore[arg-type]
        if isinstance(value, Fixed):
            raise DrawingError("fixed(...) marks an argument of map; pass the value itself to a call")
        if isinstance(value, Failed):
            return value
        self.bindings.append(value)
        return Slot(len(self.bindings) - 1)

    def finish(self, result: Any, shapes: Shapes, max_nodes: int = DEFAULT_MAX_NODES) -> Drawn:
        """Return the finished graph; `result` is what the flow's body returned.

        Raises:
            GraphError: The graph is not valid.
        """
        returned = None if result is None else self.template(result)
        graph = Graph(tuple(draft.node() for draft in self.nodes), len(self.bindings), returned)
        return Drawn(shapes.get(graph, max_nodes), tuple(self.bindings), self.works)

    def leaves(self) -> list[Handle]:
        """Return the nodes that no other waits for."""
        graph = self.finish(None, Shapes(1)).shape
        return [Handle(self, i) for i in range(graph.size) if not (graph.fast[i] or graph.slow[i])]

    def adopt(self, works: Mapping[str, Any]) -> None:
        """Take over the tasks of a loop's body."""
        for work in works.values():
            self._know(work)

    # ------------------------------------------------------------------------------------------------ inside
    def _know(self, work: Work) -> None:
        known = self.works.setdefault(work.name, work)
        if known is not work:
            raise DuplicateNameError(
                f"two different tasks of this flow are named {work.name!r}; give one of them another with name=..."
            )

    def _reference(self, index: int, path: tuple[str | int, ...]) -> Arg:
        if index >= 0:
            return Result(index, path)
        return Slot(-1 - index, path)

    def _index(self, handle: Handle) -> int:
        if handle._drawing is not self:  # noqa: SLF001  see `order`
            raise DrawingError(
                f"{handle!r} belongs to another drawing; give a loop's body what it needs as state, and a flow as input"
            )
        return handle._index  # noqa: SLF001  see `order`

    def _new_id(self, name: str, *, is_given: bool) -> str:
        seen = self._ids.get(name, 0) + 1
        self._ids[name] = seen
        if seen == 1:
            return name
        if is_given:
            raise DrawingError(f"the node id {name!r} is given twice in one flow")
        return self._new_id(f"{name}-{seen}", is_given=False)


def _holds_handle(value: Any) -> bool:
    if isinstance(value, Handle):
        return True
    if isinstance(value, dict):
        _refuse_inside("keys of a dict", value)
        return any(_holds_handle(item) for item in value.values())
    if isinstance(value, set | frozenset):
        _refuse_inside("a set", value)
    if isinstance(value, tuple) and type(value) is not tuple:
        _refuse_inside(f"a {type(value).__name__}", value)
    return isinstance(value, list | tuple) and any(_holds_handle(item) for item in value)


def _refuse_inside(place: str, values: Iterable[Any]) -> None:
    for value in values:
        if isinstance(value, Handle):
            raise DrawingError(
                f"{value!r} is in {place}, where its result cannot be put; use a list, tuple or dict value"
            )


def _short(name: str) -> str:
    """Return a node id made of a registered name: its last part."""
    short = name.rpartition(".")[2]
    return "".join(c if (c.isalnum() and c.isascii()) or c in "_-" else "_" for c in short) or "node"
