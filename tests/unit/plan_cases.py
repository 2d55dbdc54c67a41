"""Made-up graphs and jobs for the planner's tests, with how each node will end.

A `Case` is one graph; a `Story` nests them: sub-flows, maps, loops and conducted calls inside each other. `Play` runs a
story as an engine would, in a random order, and writes down the facts.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import NamedTuple, get_args

import msgspec
from hypothesis import strategies as st

from millstream.graph.frame import Frame
from millstream.graph.plan import Place, Plan, Steps
from millstream.graph.shape import Shape
from millstream.model.graph import After, Arg, Failed, Graph, JoinRule, Map, Node, Result, Slot
from millstream.model.job import NodeState

RULES: tuple[JoinRule, ...] = get_args(JoinRule)
RULES_OF_ERRBACKS = ("one_failed", "all_failed", "all_done", "one_done")
LABELS = ("left", "right")

_FATES = (*[NodeState.SUCCEEDED] * 4, NodeState.FAILED, NodeState.SKIPPED, NodeState.CANCELLED)
_MOST_BEFORE = 4


class Case(NamedTuple):
    """A graph, and what will happen in it.

    `edges` says for each node which nodes come before it, with the label of the edge. It is kept beside the graph, so
    that whoever checks the planner need not read the graph in the way the planner does.
    """

    graph: Graph
    edges: tuple[dict[int, str | None], ...]
    fates: tuple[NodeState, ...]
    labels: tuple[str | None, ...]


def chain(*ids: str) -> Graph:
    """Return a graph of tasks, each after the one before."""
    return Graph(tuple(Node(id=name, task="t", after=(After(i - 1),) if i else ()) for i, name in enumerate(ids)))


@st.composite
def cases(draw: st.DrawFn, max_nodes: int = 8) -> Case:
    """Draw a valid graph and the fate of each of its nodes."""
    nodes: list[Node] = []
    edges: list[dict[int, str | None]] = []
    for index in range(draw(st.integers(1, max_nodes))):
        few = min(index, _MOST_BEFORE)
        sources = draw(st.lists(st.sampled_from(range(index)), unique=True, max_size=few)) if index else []
        ways = {i: draw(st.sampled_from((None, *LABELS))) if nodes[i].kind == "router" else None for i in sources}
        nodes.append(_node(draw, index, ways))
        edges.append(ways)
    fates = [draw(st.sampled_from(_FATES)) for _ in nodes]
    labels = [draw(st.sampled_from(LABELS)) if node.kind == "router" else None for node in nodes]
    return Case(Graph(tuple(nodes), slots=1), tuple(edges), tuple(fates), tuple(labels))


def _node(draw: st.DrawFn, index: int, ways: dict[int, str | None]) -> Node:
    rule: JoinRule = draw(st.sampled_from(("all_success", "all_success", *(RULES if ways else RULES[:-1]))))
    is_router = draw(st.sampled_from((False, False, True)))
    takes_data = not is_router and rule != "always"
    data = {i for i in ways if takes_data and draw(st.booleans())}
    args: tuple[Arg, ...] = (Slot(0),) if is_router else tuple(Result(i) for i in sorted(data))
    if data and rule in RULES_OF_ERRBACKS and draw(st.booleans()):
        args = (Failed(tuple(sorted(data)), "error"),)
    return Node(
        id=f"n{index}",
        kind="router" if is_router else "task",
        task="" if is_router else "t",
        args=args,
        after=tuple(After(i, label) for i, label in ways.items() if label is not None or i not in data),
        join=rule,
        k=draw(st.integers(1, len(ways))) if rule == "k_of_n" else 0,
        labels=LABELS if is_router else (),
    )


def take(plan: Plan, place: Place, state: NodeState, label: str | None = None, *, hot: bool = True) -> Steps:
    """Tell a plan that a node ended; `hot` takes the short way for successes, as the engine does."""
    frame, index = place
    ready = frame.advance(index) if hot and state is NodeState.SUCCEEDED else None
    if ready is None:
        return plan.ended(frame, index, state, label)
    steps = Steps() if frame.todo else plan.close(frame)
    steps.ready[:0] = [(frame, i) for i in ready]
    return steps


# ------------------------------------------------------------------------------------------------------- stories
@dataclass(frozen=True)
class Leaf:
    """Ends by itself."""

    state: NodeState
    label: str | None = None


@dataclass(frozen=True)
class Inside:
    """A sub-flow."""

    story: Story


@dataclass(frozen=True)
class Items:
    """A map."""

    each: tuple[Act, ...]


@dataclass(frozen=True)
class Turns:
    """A loop: one story after the other, then its own end."""

    stories: tuple[Story, ...]
    state: NodeState


@dataclass(frozen=True)
class Calls:
    """A conducting flow: all stories at once, and its own end when some of them are over."""

    stories: tuple[Story, ...]
    awaited: int
    state: NodeState


Act = Leaf | Inside | Items | Turns | Calls


@dataclass(frozen=True)
class Story:
    """A graph, and what each of its nodes does."""

    shape: Shape
    acts: tuple[Act, ...]

    def shapes(self) -> dict[str, Shape]:
        """Return every compiled graph in it by its digest."""
        found = {self.shape.digest: self.shape}
        for act in self.acts:
            found.update(_shapes_in(act))
        return found


def _shapes_in(act: Act) -> dict[str, Shape]:
    found: dict[str, Shape] = {}
    match act:
        case Inside(story):
            found.update(story.shapes())
        case Turns(stories) | Calls(stories):
            for story in stories:
                found.update(story.shapes())
        case Items(each):
            for item in each:
                found.update(_shapes_in(item))
        case Leaf():
            pass
    return found


@st.composite
def stories(draw: st.DrawFn, depth: int = 3) -> Story:
    """Draw a story whose frames are nested at most `depth` deep."""
    case = draw(cases(max_nodes=4))
    nodes, acts = [], []
    for node, state, label in zip(case.graph.nodes, case.fates, case.labels, strict=True):
        act: Act = Leaf(state, label)
        if depth and node.kind == "task":
            act = draw(_acts(depth, state))
        is_map = isinstance(act, Items)
        window = draw(st.integers(0, 3))
        nodes.append(msgspec.structs.replace(node, map=Map(over=(0,), in_flight=window)) if is_map else node)
        acts.append(act)
    return Story(Shape(msgspec.structs.replace(case.graph, nodes=tuple(nodes))), tuple(acts))


@st.composite
def _acts(draw: st.DrawFn, depth: int, state: NodeState, *, is_item: bool = False) -> Act:
    within = stories(depth - 1)
    kinds: list[str] = ["leaf", "leaf", "flow", "calls", "turns"]
    match draw(st.sampled_from(kinds if is_item else [*kinds, "items"])):
        case "flow":
            return Inside(draw(within))
        case "items":
            each = _acts(depth - 1, NodeState.SUCCEEDED, is_item=True) if depth > 1 else _LEAVES
            return Items(tuple(draw(st.lists(each, max_size=5))))
        case "turns":
            return Turns(tuple(draw(st.lists(within, min_size=1, max_size=2))), state)
        case "calls":
            made = tuple(draw(st.lists(within, max_size=2)))
            return Calls(made, draw(st.integers(0, len(made))), state)
        case _:
            return draw(_LEAVES) if is_item else Leaf(state)


_LEAVES: st.SearchStrategy[Act] = st.sampled_from(_FATES).map(Leaf)


def nested_story() -> Story:
    """Return a map over a sub-flow that loops over conducted calls and a map, where some of it goes wrong."""
    fine, bad = Leaf(NodeState.SUCCEEDED), Leaf(NodeState.FAILED)
    call = Story(Shape(chain("think", "act")), (fine, fine))
    failed = Story(Shape(chain("think", "act")), (fine, bad))
    rows = Node(id="rows", task="t", map=Map(over=(0,), in_flight=2), args=(Slot(0),))
    body = Graph((Node(id="agent", task="t"), rows, Node(id="end", task="t", after=(After(0), After(1)))), slots=1)
    turn = Story(Shape(body), (Calls((call, failed), 1, NodeState.SUCCEEDED), Items((fine, fine, fine, fine)), fine))
    item = Story(Shape(chain("read", "refine")), (fine, Turns((turn, turn), NodeState.SUCCEEDED)))
    way = Node(id="way", kind="router", args=(Slot(0),), labels=LABELS)
    train = Node(id="train", task="t", map=Map(over=(0,), in_flight=2), args=(Slot(0),), after=(After(0, "left"),))
    other = Node(id="other", task="t", after=(After(0, "right"),))
    report = Node(id="report", task="t", after=(After(1), After(2)), join="all_done")
    items = Items((Inside(item), bad, Inside(item), Leaf(NodeState.SKIPPED), fine))
    graph = Graph((way, train, other, report), slots=1)
    return Story(Shape(graph), (Leaf(NodeState.SUCCEEDED, "left"), items, fine, fine))


class Fact(NamedTuple):
    """What would be recorded: that a frame stands in a node's place (`inside`), or that a node ended (`state`)."""

    frame: str
    path: str
    key: str = ""
    inside: Shape | int | None = None
    state: NodeState = NodeState.PENDING
    label: str | None = None


def feed(plan: Plan, fact: Fact) -> Steps:
    """Tell a plan a recorded fact."""
    if fact.inside is None:
        return plan.end(fact.path, fact.state, fact.label)
    place = plan.find(fact.path)
    return Steps() if place is None else plan.expand(*place, fact.key, fact.inside)[1]


class Play:
    """One run of a story.

    Attributes:
        plan: Its plan.
        facts: What has happened so far.
        released: The paths of the nodes that were released, in order.
        open: What may end next.
    """

    def __init__(self, story: Story, random: Random) -> None:
        self.plan = Plan(story.shape)
        self.facts: list[Fact] = []
        self.released: list[str] = []
        self.open: list[tuple[Place, NodeState, str | None]] = []
        self._random = random
        self._answered: dict[str, int] = {}
        self.plan.root.content = story
        self._follow(self.plan.start())

    def step(self) -> Steps:
        """Let a random open node end; it may be one whose surroundings have ended before it."""
        place, state, label = self.open.pop(self._random.randrange(len(self.open)))
        frame, index = place
        self.facts.append(Fact(frame.path, frame.name(index), state=state, label=label))
        steps = take(self.plan, place, state, label, hot=self._random.random() < 0.8)
        self._follow(steps)
        return steps

    def run(self, steps: int) -> None:
        """Take that many steps, if there are."""
        while steps and self.open:
            self.step()
            steps -= 1

    def _follow(self, steps: Steps) -> None:
        for frame, index in steps.ready:
            self.released.append(frame.name(index))
            self._release(frame, index)
        for frame in steps.closed:
            if frame.parent is not None and not frame.ends_its_node:
                self._over(frame, frame.parent)

    def _release(self, frame: Frame, index: int) -> None:
        place = (frame, index)
        match _act(frame, index):
            case Leaf(state, label):
                self.open.append((place, state, label))
            case Inside(story):
                self._expand(place, "", story)
            case Items() as items:
                self._expand(place, "", items)
            case Turns(bodies):
                self._expand(place, "[0]", bodies[0])
            case Calls(made, awaited, state):
                self._answered[frame.name(index)] = 0
                if not awaited:
                    self.open.append((place, state, None))
                for number, story in enumerate(made):
                    self._expand(place, f"#{number}", story)

    def _over(self, frame: Frame, parent: Frame) -> None:
        place = (parent, frame.index)
        name = parent.name(frame.index)
        match _act(parent, frame.index):
            case Turns(bodies, state):
                turn = int(frame.path.rpartition("[")[2][:-1]) + 1
                if turn < len(bodies):
                    self._expand(place, f"[{turn}]", bodies[turn])
                else:
                    self.open.append((place, state, None))
            case Calls(_, awaited, state):
                self._answered[name] += 1
                if self._answered[name] == awaited:
                    self.open.append((place, state, None))
            case _:
                message = f"{name} should have ended with {frame.path}"
                raise AssertionError(message)

    def _expand(self, place: Place, key: str, content: Story | Items) -> None:
        frame, index = place
        inside = content.shape if isinstance(content, Story) else len(content.each)
        self.facts.append(Fact(frame.path, frame.name(index), key=key, inside=inside))
        self._follow(self.plan.expand(frame, index, key, inside, content)[1])


def _act(frame: Frame, index: int) -> Act:
    act: Act = frame.content.each[index] if isinstance(frame.content, Items) else frame.content.acts[index]
    return act
