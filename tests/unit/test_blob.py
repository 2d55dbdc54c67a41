"""A plan that was written down and read again goes on as if nothing had happened."""

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.graph import blob
from millstream.graph.frame import DEFAULT_WINDOW, Frame, GraphFrame, ItemsFrame
from millstream.graph.plan import Plan, Steps, describe
from millstream.graph.shape import Shape
from millstream.model.graph import After, Graph, Map, Node, Slot
from millstream.model.job import NodeState
from tests.unit.plan_cases import LABELS, Play, Story, chain, feed, nested_story, stories

MILLION = 1_000_000
OK = NodeState.SUCCEEDED
RANDOM = st.randoms(use_true_random=True)
STORIES = stories() | st.just(nested_story())


def copy(plan: Plan, story: Story) -> Plan:
    return blob.load(blob.dump(plan), story.shapes().__getitem__)


def told(steps: Steps) -> tuple[list[str], list[tuple[str, NodeState]], list[str]]:
    return (
        [frame.name(i) for frame, i in steps.ready],
        [(frame.name(i), how) for frame, i, how in steps.ended],
        [frame.path for frame in steps.closed],
    )


def counts(frame: Frame) -> object:
    """Return all that a frame counts, so that what `load` works out again can be compared."""
    own: object = None
    if isinstance(frame, GraphFrame):
        own = (frame.left, frame.spoiled, frame.labels, frame.states, frame.shape.digest)
    elif isinstance(frame, ItemsFrame):
        own = (frame.next, frame.running, frame.done, frame.bad, frame.window)
    parent = frame.parent.path if frame.parent else None
    children = {index: sorted(child.path for child in some) for index, some in frame.children.items()}
    return (frame.path, parent, frame.index, frame.size, frame.todo, children, own)


@settings(max_examples=80)
@given(story=STORIES, random=RANDOM, steps=st.integers(0, 80))
def test_at_any_moment_a_plan_that_is_read_again_is_the_plan_that_was_written(
    story: Story, random: Random, steps: int
) -> None:
    play = Play(story, random)
    play.run(steps)
    again = copy(play.plan, story)
    assert blob.dump(again) == blob.dump(play.plan)
    assert {p: counts(f) for p, f in again.frames.items()} == {p: counts(f) for p, f in play.plan.frames.items()}
    assert [f.name(i) for f, i in again.open_nodes()] == [f.name(i) for f, i in play.plan.open_nodes()]
    assert describe(again) == describe(play.plan)


@settings(max_examples=60)
@given(story=STORIES, random=RANDOM)
def test_a_plan_that_is_read_again_before_every_fact_follows_as_the_one_that_never_was(
    story: Story, random: Random
) -> None:
    play = Play(story, random)
    play.run(10_000)
    kept, read = Plan(story.shape), Plan(story.shape)
    assert told(read.start()) == told(kept.start())
    for fact in play.facts:
        read = copy(read, story)
        assert told(feed(read, fact)) == told(feed(kept, fact))
    assert blob.dump(read) == blob.dump(kept) == blob.dump(play.plan)
    assert read.is_done
    assert read.outcome() is play.plan.outcome()


def test_a_cancelled_plan_can_be_read_again() -> None:
    shape = Shape(chain("a", "b"))
    plan = Plan(shape)
    plan.start()
    plan.cancel()
    again = blob.load(blob.dump(plan), {shape.digest: shape}.__getitem__)
    assert again.is_done
    assert describe(again) == {"a": "cancelled", "b": "cancelled"}


def test_what_a_router_chose_is_read_again() -> None:
    router = Node(id="way", kind="router", args=(Slot(0),), labels=LABELS)
    join = Node(id="join", task="t", after=(After(0, "left"), After(1)))
    shape = Shape(Graph((router, Node(id="a", task="t"), join), slots=1))
    plan = Plan(shape)
    plan.start()
    plan.end("way", OK, "right")
    again = blob.load(blob.dump(plan), {shape.digest: shape}.__getitem__)
    assert told(again.end("a", OK))[1] == [("join", NodeState.SKIPPED)]


def test_what_routers_chose_is_written_the_same_in_whatever_order_they_chose() -> None:
    routers = tuple(Node(id=name, kind="router", args=(Slot(0),), labels=LABELS) for name in "ab")
    shape = Shape(Graph((*routers, Node(id="z", task="t", after=(After(0, "left"), After(1, "left")))), slots=1))
    written = set()
    for order in ("ab", "ba"):
        plan = Plan(shape)
        plan.start()
        for name in order:
            plan.end(name, OK, "left")
        written.add(blob.dump(plan))
    assert len(written) == 1


def test_whoever_reads_a_plan_may_decide_how_nodes_end_with_their_frames() -> None:
    outer, inner = Shape(chain("report")), Shape(chain("join"))
    plan = Plan(outer)
    plan.start()
    plan.expand(plan.root, 0, "", inner)
    shapes = {shape.digest: shape for shape in (outer, inner)}
    again = blob.load(blob.dump(plan), shapes.__getitem__, lambda _: NodeState.FAILED)
    again.end("report/join", OK)
    assert describe(again) == {"report": "failed"}


def million_items() -> tuple[Shape, Plan, Frame]:
    """Return the plan of a map over a million items, none of which has ended."""
    shape = Shape(Graph((Node(id="m", task="t", args=(Slot(0),), map=Map(over=(0,))),), slots=1))
    plan = Plan(shape)
    plan.start()
    frame, steps = plan.expand(plan.root, 0, "", MILLION)
    assert len(steps.ready) == DEFAULT_WINDOW
    return shape, plan, frame


def test_a_map_over_a_million_items_is_a_small_blob_before_and_after_it_ran() -> None:
    _, plan, frame = million_items()
    assert len(blob.dump(plan)) < 200_000
    for index in range(2_000):
        frame.advance(index)
    assert len(blob.dump(plan)) < 200_000
    plan.cancel()
    assert len(blob.dump(plan)) < 1_000


def test_a_map_over_a_million_items_that_is_read_again_has_the_same_window_open() -> None:
    shape, plan, frame = million_items()
    for index in range(0, 600, 2):
        frame.advance(index)
    again = blob.load(blob.dump(plan), {shape.digest: shape}.__getitem__)
    open_now = [(f.path, i) for f, i in again.open_nodes()]
    assert len(open_now) == DEFAULT_WINDOW + 1
    assert open_now == [(f.path, i) for f, i in plan.open_nodes()]
    again_frame = again.frames["m"]
    assert again_frame.advance(1) == frame.advance(1) == [DEFAULT_WINDOW + 300]


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\xc1",
        b"nonsense",
        msgspec.msgpack.encode([]),
        msgspec.msgpack.encode([["i", "m", "", 0, 1, 1, 0, b"\0", {}]]),
    ],
    ids=["empty", "no MessagePack", "text", "no frames", "no root graph"],
)
def test_a_blob_that_is_none_is_refused(garbage: bytes) -> None:
    no_shapes: dict[str, Shape] = {}
    with pytest.raises(msgspec.DecodeError):
        blob.load(garbage, no_shapes.__getitem__)
