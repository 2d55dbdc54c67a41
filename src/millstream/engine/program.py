"""A compiled graph with the code that stands at its nodes: what the runner reads, node by node, from flat lists."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any, Literal, Protocol

import msgspec

from millstream.errors import DefinitionError, UnknownNameError
from millstream.graph.shape import Shape
from millstream.model.graph import Graph, Node, Result, Slot, takes_failure
from millstream.model.policy import DEFAULT_QUEUE, Policy


class Work(Protocol):
    """A task or flow as the engine needs it; what `@task` and `@flow` return is one.

    A flow that draws has a coroutine function as `fn`, whose result is the `Drawn` to put in the node's place.
    """

    @property
    def name(self) -> str:
        """The registered name."""

    @property
    def version(self) -> str:
        """Digest of its definition."""

    @property
    def fn(self) -> Callable[..., Any]:
        """What to call."""

    @property
    def policy(self) -> Policy:
        """How to run it, unless the node says otherwise."""

    @property
    def form(self) -> Literal["plain", "coroutine", "drawing"]:
        """Whether it is a plain function, a coroutine function, or a flow that draws."""

    @property
    def is_bound(self) -> bool:
        """Whether its function may give a `Growth` instead of a value, as tasks with `bind=True` do."""


class Drawn(Protocol):
    """A graph with its values and its code: what becomes a frame of the plan."""

    @property
    def shape(self) -> Shape:
        """The compiled graph."""

    @property
    def bindings(self) -> Sequence[Any]:
        """The values of its slots."""

    @property
    def works(self) -> Mapping[str, Work]:
        """The tasks and flows that its nodes name."""


class Growth(ABC):
    """What a bound task gives in place of a value: a graph that is to stand at its node.

    The graph is recorded, so that a job which goes on from its record does not run the task again. The node's result is
    the graph's. A growth can be pickled: it may come back from another process.
    """

    @abstractmethod
    def draw(self, find: Callable[[str], Work]) -> Drawn:
        """Return the graph with its values and its code.

        Args:
            find: Gives a task or flow by its name.

        Raises:
            DefinitionError: It cannot be drawn.
            UnknownNameError: A task or flow is not known here.
        """


class Members(msgspec.Struct, frozen=True):
    """The value of a node that added to its chord.

    Attributes:
        own: What its task returned: its result, for whoever waits for it.
        extras: The results of what it added; the chord's body gets them after those of the header.
    """

    own: Any
    extras: list[Any]


INTERNAL = "millstream.authoring.members."
"""How the names of the tasks begin that canvases themselves put into graphs."""

GATHER = f"{INTERNAL}gather"
"""Name of the task that joins the header of a chord to which its members may add."""


MEMBERS = f"{INTERNAL}members"
"""Name of the task that joins what another returned with the results of what that added to its chord."""

OWN_VALUE = f"{INTERNAL}own_value"
"""Name of the task that stands before the callback of a task that may add to its chord."""

COLLECTED = f"{INTERNAL}collected"
"""Name of the task that stands for a sub-flow of a flow document, behind the nodes of that."""


class Recalled:
    """A graph with its values from the record, and the code that its names have here.

    Attributes:
        shape: The compiled graph.
        bindings: The values of its slots.
        works: The tasks and flows that its nodes name.
    """

    __slots__ = ("bindings", "shape", "works")

    def __init__(self, graph: Graph, bindings: Sequence[Any], find: Callable[[str], Work]) -> None:
        """Find the code.

        Raises:
            UnknownNameError: A task or flow is not known here.
        """
        self.shape = Shape(graph)
        self.bindings = bindings
        self.works: Mapping[str, Work] = {name: find(name) for name in names_in(graph)}


def names_in(graph: Graph) -> set[str]:
    """Return the names of the tasks and flows in a graph, and in the bodies of its loops."""
    names = {node.task for node in graph.nodes if node.task}
    return names.union(*(names_in(node.body) for node in graph.nodes if node.body is not None))


class Mode(IntEnum):
    """Where a node runs. `LOOP` is 0, so that the hot path asks one truth value."""

    LOOP = 0
    INLINE = 1
    THREAD = 2
    PROCESS = 3
    DRAW = 4
    MAP = 5
    CONTROL = 6


_BY_RUN_IN: dict[str, Mode] = {"process": Mode.PROCESS, "worker": Mode.PROCESS, "thread": Mode.THREAD}


class Program:
    """The code of one graph.

    Attributes:
        shape: The compiled graph.
        works: The tasks and flows by name; bodies of loops use them too.
        modes: Per node, where it runs.
        fns: Per node, what to call; `None` where the engine itself acts.
        policies: Per node, its policy; `None` where the engine itself acts.
        guards: Per node, its policy where that or the task has a say before or during an attempt, else `None`.
        sources: Per node, indexes into the frame's values when its arguments are just these, else `None`.
        is_prioritised: Whether any node has a priority.
        has_errbacks: Whether any node takes what failed.
    """

    __slots__ = (
        "_bodies",
        "fns",
        "guards",
        "has_errbacks",
        "is_prioritised",
        "modes",
        "policies",
        "shape",
        "sources",
        "works",
    )

    def __init__(self, shape: Shape, works: Mapping[str, Work]) -> None:
        """Put code to a graph.

        Raises:
            UnknownNameError: A node names a task that is not among `works`.
            DefinitionError: A task cannot run where its policy wants it.
        """
        self.shape = shape
        self.works = works
        self._bodies: dict[int, Program] = {}
        nodes = shape.graph.nodes
        found = [_work(node, works) for node in nodes]
        self.policies = [
            node.policy or (work.policy if work else None) for node, work in zip(nodes, found, strict=True)
        ]
        self.modes: Sequence[Mode] = [
            Mode.MAP if node.map else base_mode(node, work, policy)
            for node, work, policy in zip(nodes, found, self.policies, strict=True)
        ]
        self.fns: Sequence[Callable[..., Any] | None] = [work.fn if work else None for work in found]
        handlers = [takes_failure(node) for node in nodes]
        self.has_errbacks = any(handlers)
        specials = [
            is_handler or (work is not None and work.is_bound) for work, is_handler in zip(found, handlers, strict=True)
        ]
        self.guards: Sequence[Policy | None] = [
            None if node.map else guard(policy, is_special=is_special)
            for policy, node, is_special in zip(self.policies, nodes, specials, strict=True)
        ]
        self.sources: Sequence[Sequence[int] | None] = [_source(node, len(nodes)) for node in nodes]
        self.is_prioritised = any(policy.priority for policy in self.policies if policy)

    def body(self, index: int) -> Program:
        """Return the program of a loop's body, which is the same for every turn.

        Raises:
            LookupError: The node has no body.
        """
        known = self._bodies.get(index)
        if known is None:
            graph = self.shape.graph.nodes[index].body
            if graph is None:
                raise LookupError(f"node {self.shape.graph.nodes[index].id} has no body")
            known = self._bodies[index] = Program(Shape(graph), self.works)
        return known

    def work(self, name: str) -> Work:
        """Return a task or flow by name."""
        return self.works[name]


def _work(node: Node, works: Mapping[str, Work]) -> Work | None:
    if not node.task:
        return None
    try:
        return works[node.task]
    except KeyError:
        raise UnknownNameError(f"node {node.id} names {node.task!r}, which is not known here") from None


def base_mode(node: Node, work: Work | None, policy: Policy | None) -> Mode:
    """Return where one attempt of a node runs, leaving aside that it may be mapped.

    Raises:
        DefinitionError: It cannot run where its policy wants it.
    """
    if work is None or policy is None:
        return Mode.CONTROL
    if work.form == "drawing":
        return Mode.DRAW
    mode = _BY_RUN_IN.get(policy.run_in)
    if mode is Mode.PROCESS and ("<" in work.fn.__qualname__ or node.kind == "flow"):
        raise DefinitionError(
            f"{work.name} cannot run in a process: only functions at the top level of a module can be found there"
        )
    if mode is not None:
        return mode
    if work.form == "coroutine":
        return Mode.LOOP
    return Mode.INLINE if policy.run_in == "loop" else Mode.THREAD


def mode_in_worker(work: Work) -> Mode:
    """Return where an attempt of a task with `run_in="worker"` runs in a process that is a worker."""
    return Mode.LOOP if work.form == "coroutine" else Mode.THREAD


def guard(policy: Policy | None, *, is_special: bool) -> Policy | None:
    """Return a policy that, or whose task, has a say before or during an attempt, not only after it; else `None`."""
    if policy is None:
        return None
    matters = (
        is_special
        or policy.timeout
        or policy.soft_timeout
        or policy.expires
        or policy.cache_ttl
        or policy.effect == "once"
        or policy.queue != DEFAULT_QUEUE
    )
    return policy if matters else None


def _source(node: Node, size: int) -> Sequence[int] | None:
    """Return the arguments as indexes into the values of nodes followed by bindings, where they are that simple."""
    if node.kwargs or node.map or not node.task:
        return None
    found = []
    for arg in node.args:
        match arg:
            case Result(index, ()):
                found.append(index)
            case Slot(index, ()):
                found.append(size + index)
            case _:
                return None
    return tuple(found)
