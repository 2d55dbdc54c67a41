"""The same facts end in the same plan, in whatever order and however often they arrive: on this every resume rests."""

from collections import Counter
from collections.abc import Sequence
from random import Random

from hypothesis import given, note, settings
from hypothesis import strategies as st

from millstream.graph import blob
from millstream.graph.plan import Plan
from millstream.graph.shape import Shape
from millstream.model.graph import After, Graph, Map, Node, Slot
from millstream.model.job import JobState, NodeState
from tests.unit.plan_cases import Fact, Items, Leaf, Play, Story, chain, feed, nested_story, stories

RANDOM = st.randoms(use_true_random=True)
STEPS = st.integers(0, 80)
STORIES = stories() | st.just(nested_story())


def open_paths(plan: Plan) -> list[str]:
    return [frame.name(index) for frame, index in plan.open_nodes()]


def told_in_any_order(story: Story, facts: Sequence[Fact], random: Random, *, causal: bool) -> Plan:
    """Return a fresh plan that has heard all facts, in a random order in which a frame comes before its nodes.

    With `causal`, a node's end also waits until this plan has released the node.
    """
    plan = Plan(story.shape)
    plan.start()
    frames = {""}
    left = list(facts)
    while left:
        random.shuffle(left)
        fact = next(f for f in left if f.frame in frames and (not causal or is_due(plan, f)))
        left.remove(fact)
        feed(plan, fact)
        if fact.inside is not None:
            frames.add(fact.path + fact.key)
    return plan


def is_due(plan: Plan, fact: Fact) -> bool:
    place = plan.find(fact.path)
    return place is None or place[0].state(place[1]) != NodeState.PENDING


def played(story: Story, random: Random, steps: int) -> Play:
    play = Play(story, random)
    play.run(steps)
    note("\n".join(str(fact) for fact in play.facts))
    return play


@settings(max_examples=70)
@given(story=STORIES, random=RANDOM, steps=STEPS)
def test_any_causal_order_of_the_same_facts_ends_in_the_same_plan(story: Story, random: Random, steps: int) -> None:
    play = played(story, random, steps)
    other = told_in_any_order(story, play.facts, random, causal=True)
    assert blob.dump(other) == blob.dump(play.plan)
    assert open_paths(other) == open_paths(play.plan)


@settings(max_examples=70)
@given(story=STORIES, random=RANDOM, steps=STEPS)
def test_recorded_facts_told_in_any_order_at_all_end_in_the_same_plan(story: Story, random: Random, steps: int) -> None:
    play = played(story, random, steps)
    other = told_in_any_order(story, play.facts, random, causal=False)
    assert blob.dump(other) == blob.dump(play.plan)
    assert open_paths(other) == open_paths(play.plan)


@settings(max_examples=70)
@given(story=STORIES, random=RANDOM, steps=STEPS, causal=st.booleans())
def test_facts_told_twice_change_nothing(story: Story, random: Random, steps: int, *, causal: bool) -> None:
    play = played(story, random, steps)
    before = blob.dump(play.plan)
    for fact in play.facts:
        again = feed(play.plan, fact)
        assert (again.ready, again.ended, again.closed) == ([], [], [])
    assert blob.dump(play.plan) == before
    other = told_in_any_order(story, [*play.facts, *play.facts], random, causal=causal)
    assert blob.dump(other) == before


@settings(max_examples=60)
@given(size=st.integers(0, 30), in_flight=st.integers(1, 4), random=RANDOM, steps=st.integers(0, 30))
def test_items_told_out_of_order_leave_the_same_ones_open(
    size: int, in_flight: int, random: Random, steps: int
) -> None:
    node = Node(id="m", task="t", args=(Slot(0),), map=Map(over=(0,), in_flight=in_flight))
    items = Items(tuple(Leaf(random.choice((NodeState.SUCCEEDED, NodeState.FAILED))) for _ in range(size)))
    story = Story(Shape(Graph((node,), slots=1)), (items,))
    play = played(story, random, steps)
    other = told_in_any_order(story, play.facts, random, causal=False)
    assert blob.dump(other) == blob.dump(play.plan)
    assert len(open_paths(other)) == (1 + min(in_flight, size - steps) if steps < size else 0)


def test_a_node_that_ended_before_its_turn_is_not_released_by_what_comes_before_it() -> None:
    plan = Plan(Shape(chain("a", "b")))
    plan.start()
    plan.end("b", NodeState.SUCCEEDED)
    assert plan.root.advance(0) == []
    assert plan.is_done


def test_a_node_that_runs_no_more_when_what_released_it_is_repeated_takes_its_frames_with_it() -> None:
    join = Node(id="join", task="t", after=(After(0), After(1)), join="one_success")
    plan = Plan(Shape(Graph((Node(id="a", task="t"), Node(id="b", task="t"), join))))
    plan.start()
    plan.expand(plan.root, 2, "", Shape(chain("x")))
    plan.end("a", NodeState.FAILED)
    plan.end("b", NodeState.FAILED)
    assert plan.is_done
    assert open_paths(plan) == []
    assert list(plan.frames) == [""]


@settings(max_examples=70)
@given(story=STORIES, random=RANDOM)
def test_a_job_comes_to_its_end_with_each_node_released_at_most_once(story: Story, random: Random) -> None:
    play = Play(story, random)
    play.run(10_000)
    assert play.plan.is_done
    assert open_paths(play.plan) == []
    assert list(play.plan.frames) == [""]
    assert [path for path, times in Counter(play.released).items() if times > 1] == []


@settings(max_examples=70)
@given(story=STORIES, random=RANDOM, steps=STEPS)
def test_a_cancelled_plan_is_done_and_nothing_that_comes_later_changes_it(
    story: Story, random: Random, steps: int
) -> None:
    whole = played(story, Random(steps), 10_000).facts  # noqa: S311  another run of the story, for its facts
    play = played(story, random, steps)
    was_done = play.plan.is_done
    play.plan.cancel()
    cancelled = blob.dump(play.plan)
    assert play.plan.is_done
    assert open_paths(play.plan) == []
    assert was_done or play.plan.root.size == 0 or NodeState.CANCELLED in play.plan.root.states
    while play.open:
        late = play.step()
        assert (late.ready, late.ended, late.closed) == ([], [], [])
    for fact in whole:
        late = feed(play.plan, fact)
        assert (late.ready, late.ended, late.closed) == ([], [], [])
    play.plan.cancel()
    assert blob.dump(play.plan) == cancelled
    assert play.plan.start().ready == []


@settings(max_examples=60)
@given(story=STORIES, random=RANDOM)
def test_cancelling_what_is_done_changes_nothing(story: Story, random: Random) -> None:
    play = Play(story, random)
    play.run(10_000)
    outcome, done = play.plan.outcome(), blob.dump(play.plan)
    play.plan.cancel()
    assert (play.plan.outcome(), blob.dump(play.plan)) == (outcome, done)
    assert outcome.is_final
    assert outcome is not JobState.CANCELLED or NodeState.CANCELLED in play.plan.root.states
