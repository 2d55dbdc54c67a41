"""The planner's counters say at every moment what the join rules say when they are read as written.

The oracle here knows no counters: it looks at the states of all predecessors. What each rule means is what Airflow's
page on trigger rules says, and where a rule does not hold, what Airflow's scheduler makes of the task.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations_with_replacement, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millstream.graph.joins import Votes, verdict
from millstream.graph.plan import Plan
from millstream.graph.shape import Shape
from millstream.model.graph import After, Graph, JoinRule, Node
from millstream.model.job import NodeState
from tests.unit.plan_cases import LABELS, RULES, Case, cases, take

OK, FAILED, SKIPPED = NodeState.SUCCEEDED, NodeState.FAILED, NodeState.SKIPPED
BLOCKED, CANCELLED = NodeState.UPSTREAM_FAILED, NodeState.CANCELLED
PENDING, RUN = NodeState.PENDING, NodeState.READY

States = tuple[NodeState, ...]
RAN_BADLY = {FAILED, CANCELLED}
BAD = RAN_BADLY | {BLOCKED}

HOLDS: dict[JoinRule, Callable[[States, int], bool]] = {
    "all_success": lambda states, _: all(state is OK for state in states),
    "all_done": lambda _states, _: True,
    "all_failed": lambda states, _: all(state in BAD for state in states),
    "one_success": lambda states, _: OK in states,
    "one_failed": lambda states, _: any(state in BAD for state in states),
    "one_done": lambda states, _: any(state is OK or state in RAN_BADLY for state in states),
    "none_failed": lambda states, _: not any(state in BAD for state in states),
    "none_failed_min_one_success": lambda states, _: OK in states and not any(state in BAD for state in states),
    "none_skipped": lambda states, _: SKIPPED not in states,
    "all_skipped": lambda states, _: all(state is SKIPPED for state in states),
    "always": lambda _states, _: True,
    "k_of_n": lambda states, k: states.count(OK) >= k,
}
WANT_SUCCESS: set[JoinRule] = {
    "all_success",
    "one_success",
    "none_failed",
    "none_failed_min_one_success",
    "k_of_n",
}
"""Rules that failed predecessors keep from starting; under the others a node that may not start is merely skipped."""


def textbook(rule: JoinRule, before: States, k: int) -> NodeState:
    """Return what becomes of a node when all that stands before it has ended."""
    if not before or HOLDS[rule](before, k):
        return RUN
    return BLOCKED if rule in WANT_SUCCESS and any(state in BAD for state in before) else SKIPPED


@cache
def foreseen(rule: JoinRule, before: States, left: int, k: int) -> NodeState:
    """Return what becomes of a node when some of what stands before it is open: what all futures agree on, if they do.

    `all_done` alone waits for its predecessors although it is certain what it will do.
    """
    if rule == "all_done" and left:
        return PENDING
    futures = combinations_with_replacement((OK, FAILED, SKIPPED, BLOCKED), left)
    verdicts = {textbook(rule, (*before, *rest), k) for rest in futures}
    return verdicts.pop() if len(verdicts) == 1 else PENDING


def vote(state: NodeState, asked: str | None, chosen: str | None) -> NodeState:
    """Return what an edge says of the node that it comes from: a way that a router did not choose is skipped."""
    return SKIPPED if state is OK and asked is not None and asked != chosen else state


def expected_end(case: Case) -> list[NodeState]:
    """Return how every node ends, in the order in which they stand in the graph."""
    states: list[NodeState] = []
    for node, edges, fate in zip(case.graph.nodes, case.edges, case.fates, strict=True):
        before = tuple(vote(states[i], asked, case.labels[i]) for i, asked in edges.items())
        then = textbook(node.join, before, node.k)
        states.append(fate if then is RUN else then)
    return states


def expected_now(case: Case, ended: set[int]) -> list[NodeState]:
    """Return where every node stands when of all nodes that run these have ended."""
    states: list[NodeState] = []
    for index, (node, edges) in enumerate(zip(case.graph.nodes, case.edges, strict=True)):
        votes = [vote(states[i], asked, case.labels[i]) for i, asked in edges.items() if states[i] >= OK]
        then = foreseen(node.join, tuple(sorted(votes)), len(edges) - len(votes), node.k) if edges else RUN
        states.append(case.fates[index] if index in ended else then)
    return states


def moments(case: Case, order: list[int], *, hot: bool) -> Iterator[tuple[Plan, set[int], list[int]]]:
    """Run a case; yield after each step the plan, which nodes have ended by then, and which it has released."""
    plan = Plan(Shape(case.graph))
    released = [i for _, i in plan.start().ready]
    ended: set[int] = set()
    yield plan, ended, released
    while open_now := sorted(set(released) - ended, key=order.index):
        index = open_now[0]
        ended.add(index)
        steps = take(plan, (plan.root, index), case.fates[index], case.labels[index], hot=hot)
        released += [i for _, i in steps.ready]
        yield plan, ended, released


ORDERS = st.permutations(range(8))


@settings(max_examples=150)
@given(case=cases(), order=ORDERS, hot=st.booleans())
def test_at_every_moment_each_node_is_where_its_rule_puts_it_no_sooner_and_no_later(
    case: Case, order: list[int], *, hot: bool
) -> None:
    for plan, ended, _ in moments(case, order, hot=hot):
        assert [NodeState(state) for state in plan.root.states] == expected_now(case, ended)


@settings(max_examples=150)
@given(case=cases(), order=ORDERS, hot=st.booleans())
def test_in_any_order_of_ends_a_job_ends_as_the_textbook_says_and_starts_each_node_once(
    case: Case, order: list[int], *, hot: bool
) -> None:
    plan, ended, released = list(moments(case, order, hot=hot))[-1]
    expected = expected_end(case)
    assert [NodeState(state) for state in plan.root.states] == expected
    assert plan.is_done
    assert Counter(released) == Counter(ended)
    assert all(expected[index] is case.fates[index] for index in released)


@settings(max_examples=100)
@given(case=cases(), order=ORDERS)
def test_nodes_that_end_without_running_are_told_once_each(case: Case, order: list[int]) -> None:
    plan = Plan(Shape(case.graph))
    waiting = [i for _, i in plan.start().ready]
    ran, told = [], []
    while waiting:
        index = min(waiting, key=order.index)
        waiting.remove(index)
        ran.append(index)
        steps = plan.ended(plan.root, index, case.fates[index], case.labels[index])
        waiting += [i for _, i in steps.ready]
        told += [(i, how) for _, i, how in steps.ended]
    states = expected_end(case)
    assert sorted(told) == [(i, state) for i, state in enumerate(states) if i not in ran]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_decides_as_soon_as_nothing_later_can_change_it(rule: JoinRule) -> None:
    for ok, failed, skipped, upstream, left in product(range(4), repeat=5):
        before = (*[OK] * ok, *[FAILED] * failed, *[SKIPPED] * skipped, *[BLOCKED] * upstream)
        if not 1 <= len(before) + left <= 5:
            continue
        for k in range(1, len(before) + left + 1):
            votes = Votes(ok, failed, skipped, upstream, left)
            assert verdict(rule, votes, k) is foreseen(rule, before, left, k), (votes, k)


def joined(rule: JoinRule, *, before: int = 3, k: int = 0) -> Plan:
    """Return the plan of a node that joins some others, which run."""
    sources = tuple(Node(id=f"s{i}", task="t") for i in range(before))
    join = Node(id="join", task="t", after=tuple(After(i) for i in range(before)), join=rule, k=k)
    plan = Plan(Shape(Graph((*sources, join))))
    plan.start()
    return plan


def state_after(plan: Plan, *ends: NodeState) -> NodeState:
    """Let the joined nodes end one after the other, and return where the joining one stands."""
    for index, state in enumerate(ends):
        plan.ended(plan.root, index, state)
    return NodeState(plan.root.state(plan.root.size - 1))


def test_one_success_starts_at_the_first_success_while_others_are_open() -> None:
    assert state_after(joined("one_success"), FAILED) is PENDING
    assert state_after(joined("one_success"), FAILED, OK) is RUN


def test_one_failed_starts_at_the_first_failure_while_others_are_open() -> None:
    assert state_after(joined("one_failed"), OK) is PENDING
    assert state_after(joined("one_failed"), OK, FAILED) is RUN


def test_one_done_starts_at_the_first_that_ran_and_not_at_one_that_was_skipped() -> None:
    assert state_after(joined("one_done"), SKIPPED) is PENDING
    assert state_after(joined("one_done"), SKIPPED, FAILED) is RUN
    assert state_after(joined("one_done"), OK) is RUN


def test_one_done_is_skipped_where_nothing_before_it_ran_as_in_airflow() -> None:
    assert state_after(joined("one_done"), SKIPPED, BLOCKED, BLOCKED) is SKIPPED


def test_k_of_n_starts_at_the_kth_success() -> None:
    assert state_after(joined("k_of_n", k=2), OK) is PENDING
    assert state_after(joined("k_of_n", k=2), OK, OK) is RUN


def test_k_of_n_is_blocked_as_soon_as_a_failure_leaves_too_few() -> None:
    assert state_after(joined("k_of_n", k=3), OK) is PENDING
    assert state_after(joined("k_of_n", k=3), OK, FAILED) is BLOCKED


def test_k_of_n_that_skips_leave_too_few_for_waits_for_a_failure_that_would_outrank_them() -> None:
    assert state_after(joined("k_of_n", k=2), SKIPPED, SKIPPED) is PENDING
    assert state_after(joined("k_of_n", k=2), SKIPPED, SKIPPED, FAILED) is BLOCKED
    assert state_after(joined("k_of_n", k=2), SKIPPED, SKIPPED, OK) is SKIPPED


def test_all_success_is_blocked_at_the_first_failure_while_others_are_open() -> None:
    assert state_after(joined("all_success"), FAILED) is BLOCKED


def test_all_success_waits_at_a_skip_for_a_failure_that_would_outrank_it() -> None:
    assert state_after(joined("all_success"), SKIPPED) is PENDING
    assert state_after(joined("all_success"), SKIPPED, OK, FAILED) is BLOCKED
    assert state_after(joined("all_success"), SKIPPED, OK, OK) is SKIPPED


def test_none_skipped_and_all_failed_are_skipped_at_the_first_that_breaks_them() -> None:
    assert state_after(joined("none_skipped"), SKIPPED) is SKIPPED
    assert state_after(joined("all_failed"), OK) is SKIPPED
    assert state_after(joined("all_skipped"), OK) is SKIPPED


def test_all_done_waits_for_everything() -> None:
    assert state_after(joined("all_done"), FAILED, SKIPPED) is PENDING
    assert state_after(joined("all_done"), FAILED, SKIPPED, OK) is RUN


def test_always_starts_with_the_job_and_takes_no_votes() -> None:
    assert state_after(joined("always")) is RUN
    assert state_after(joined("always"), FAILED, FAILED, FAILED) is RUN


@pytest.mark.parametrize("rule", RULES[:-1])
def test_a_node_with_nothing_before_it_starts_with_the_job_whatever_its_rule(rule: JoinRule) -> None:
    assert state_after(joined(rule, before=0)) is RUN


@pytest.mark.parametrize("chosen", LABELS)
def test_behind_a_router_only_the_chosen_way_runs(chosen: str) -> None:
    router = Node(id="router", kind="router", labels=LABELS)
    ways = [Node(id=label, task="t", after=(After(0, label),)) for label in LABELS]
    plan = Plan(Shape(Graph((router, *ways))))
    plan.start()
    steps = plan.end("router", OK, chosen)
    assert [frame.name(i) for frame, i in steps.ready] == [chosen]
    assert [(frame.name(i), how) for frame, i, how in steps.ended] == [
        (name, SKIPPED) for name in LABELS if name != chosen
    ]


def test_behind_a_router_that_fails_every_way_is_blocked_and_not_skipped() -> None:
    router = Node(id="router", kind="router", labels=LABELS)
    ways = [Node(id=label, task="t", after=(After(0, label),)) for label in LABELS]
    plan = Plan(Shape(Graph((router, *ways))))
    plan.start()
    assert {how for _, _, how in plan.end("router", FAILED).ended} == {BLOCKED}
