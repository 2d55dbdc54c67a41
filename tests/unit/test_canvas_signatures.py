"""Signatures and the canvas primitives as data: how they merge, combine, and go through JSON."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from millstream import DefinitionError, task
from millstream.authoring.canvas.maps import chunks, xmap, xstarmap
from millstream.authoring.canvas.primitives import chain, chord, group
from millstream.authoring.canvas.signature import Signature, signature


@task(name="add")
def add(x: int, y: int = 0) -> int:
    return x + y


@task(name="mul")
def mul(x: int, y: int) -> int:
    return x * y


@task(name="total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@task(name="tell")
def tell(what: Any) -> None:
    del what


a, b, c = add.s(1), mul.s(2), total.s()
pair = group(a, b)
single = group(b)
barrier = chord([a, b], c)
steps = chain(a, b)


# ------------------------------------------------------------------------------------------------- one signature
def test_a_signature_is_a_dict_of_six_keys() -> None:
    sig = add.signature((2, 2), {"z": 1}, countdown=10)
    assert sig == {
        "task": "add",
        "args": (2, 2),
        "kwargs": {"z": 1},
        "options": {"countdown": 10},
        "subtask_type": None,
        "immutable": False,
    }


def test_a_signature_can_be_made_by_a_name() -> None:
    sig = signature("tasks.add", args=(2, 2), countdown=10, immutable=True, queue="slow")
    assert (sig.task, sig.args, sig.immutable) == ("tasks.add", (2, 2), True)
    assert sig.options == {"countdown": 10, "queue": "slow"}


def test_signature_of_a_signature_is_a_copy_and_of_a_dict_what_it_describes() -> None:
    assert signature(a) == a
    assert signature(a) is not a
    assert signature(dict(add.s(1))) == add.s(1)
    assert isinstance(signature(json.loads(json.dumps(pair))), group)


def test_what_is_no_signature_is_refused() -> None:
    for wrong in (3, {"args": [1]}, object()):
        with pytest.raises(DefinitionError, match="signature"):
            group([wrong])
    with pytest.raises(DefinitionError, match="subtask_type 'cord'"):
        signature({"task": "t", "subtask_type": "cord"})


def test_arguments_of_a_call_come_before_its_own() -> None:
    assert add.s(4).clone((2,)).args == (2, 4)
    assert add.s(1, k=1, j=2).clone((0,), {"k": 3}) == add.s(0, 1, k=3, j=2)


def test_an_immutable_signature_takes_options_only() -> None:
    sig = add.si(2, 2).clone((1,), {"k": 1}, queue="slow")
    assert (sig.args, sig.kwargs, sig.options) == ((2, 2), {}, {"queue": "slow"})


def test_options_of_a_clone_go_over_its_own() -> None:
    sig = add.s(1).set(queue="slow", priority=3)
    assert sig.clone(queue="fast").options == {"queue": "fast", "priority": 3}
    assert sig.options == {"queue": "slow", "priority": 3}


def test_set_changes_in_place_and_can_be_chained() -> None:
    sig = add.s(2, 2)
    assert sig.set(countdown=10).set(expires=30, immutable=True) is sig
    assert sig.options == {"countdown": 10, "expires": 30}
    assert sig.immutable


def test_a_clone_shares_nothing_that_changes() -> None:
    canvas = chain(add.s(1), group(add.s(2, k=1), mul.s(3)), total.s())
    before = json.dumps(canvas)
    for twin in (canvas.clone(), copy.deepcopy(canvas)):
        first, joined = twin.children()
        for part in (first, *joined.children()):
            part.set(queue="other")
            part.kwargs["k"] = 5
            part.link(tell.s())
    assert json.dumps(canvas) == before


def test_replace_puts_others_in_place_of_its_own() -> None:
    sig = add.s(1, k=1).set(queue="slow")
    assert sig.replace(args=(5,)) == add.s(5, k=1).set(queue="slow")
    assert sig.replace(kwargs={}, options={}) == add.s(1)


def test_calling_a_signature_calls_the_task_here() -> None:
    assert (add.s(4)(2), xmap(total, [[1, 2], [3]])(), xstarmap(add, [(1, 2), (3, 4)])()) == (6, [3, 3], [3, 7])


# --------------------------------------------------------------------------------------------------- callbacks
def test_link_returns_the_callback_and_on_error_the_signature() -> None:
    sig, callback = add.s(1, 1), tell.s()
    assert sig.link(callback) is callback
    assert sig.link_error(callback) is callback
    assert sig.on_error(tell.s("again")) is sig
    assert sig.options == {"link": [tell.s()], "link_error": [tell.s(), tell.s("again")]}


def test_a_callback_may_be_a_task_itself_or_a_dict_and_is_linked_once() -> None:
    sig = add.s(1, 1)
    for callback in (tell.s(), tell.s(), tell, dict(total.s())):
        sig.link(callback)
    assert sig.options["link"] == [tell.s(), total.s()]


def test_flatten_links_gives_callbacks_of_callbacks() -> None:
    inner = mul.s(2)
    inner.link(tell.s())
    outer = add.s(1, 1)
    outer.link(inner)
    assert [sig.task for sig in outer.flatten_links()] == ["add", "mul", "tell"]


def test_a_chains_link_follows_its_last_task_and_its_errback_all_of_them() -> None:
    canvas = chain(add.s(1, 1), add.s(2), add.s(3))
    canvas.link(tell.s())
    canvas.link_error(total.s())
    first, middle, last = canvas.unchain_tasks()
    assert "link" not in first.options
    assert "link" not in middle.options
    assert last.options["link"] == [tell.s()]
    assert [step.options["link_error"] for step in (first, middle, last)] == [[total.s()]] * 3


def test_a_groups_link_follows_its_first_member_without_its_result() -> None:
    canvas = group(add.s(1, 1), add.s(2, 2))
    canvas.link(tell.s("done"))
    assert canvas.tasks[0].options == {"link": [tell.si("done")]}
    assert canvas.tasks[1].options == {}


def test_a_groups_errback_answers_for_each_member() -> None:
    canvas = group(add.s(1, 1), add.s(2, 2))
    assert canvas.link_error(tell.s()) == (tell.s(), tell.s())
    assert [member.options for member in canvas.tasks] == [{"link_error": [tell.s()]}] * 2


def test_a_signature_may_be_its_own_callback() -> None:
    sig = add.s(1)
    sig.link(sig)
    assert sig.options == {"link": [add.s(1)]}


def test_a_chords_callbacks_are_those_of_its_body() -> None:
    canvas = chord([add.s(1, 1), chord([add.s(2, 2)], total.s())], total.s())
    canvas.link(tell.s())
    canvas.link_error(mul.s())
    assert canvas.behind().options == {"link": [tell.s()], "link_error": [mul.s()]}
    plain, inner = canvas.tasks
    assert plain.options == {}
    assert isinstance(inner, chord)
    assert inner.behind().options == {}  # an errback of the body answers for the whole header


# --------------------------------------------------------------------------------------------------- primitives
def test_a_chain_takes_signatures_or_one_iterable_of_them() -> None:
    assert chain(add.s(i) for i in range(3)).tasks == [add.s(0), add.s(1), add.s(2)]
    assert chain([a, b]).tasks == chain(a, b).tasks == [a, b]
    assert chain(a).tasks == [a]
    assert chain(pair).tasks == [pair]
    assert chain().tasks == []


def test_a_chain_composes_as_the_operator_does() -> None:
    assert chain(a, pair, c).tasks == [a, chord(pair, c)]
    assert chain(a, chain(b, c)).tasks == [a, b, c]
    assert chain(a, group([]), b).tasks == [a, b]
    assert chain(pair, group(a)).tasks == [chord(pair, group(a))]
    assert chain(a, pair, group(b)).tasks == [a, chord(pair, b)]
    assert chain(single, a).tasks == [b, a]


def test_a_group_takes_signatures_generators_groups_and_tasks() -> None:
    assert group(add.s(i) for i in range(3)).tasks == [add.s(0), add.s(1), add.s(2)]
    assert group(pair).tasks == [a, b]
    assert group(a).tasks == [a]
    assert group([add, dict(b)]).tasks == [add.s(), b]
    assert len(group([])) == 0


def test_a_chords_header_may_be_anything_with_signatures_in_it() -> None:
    header = [add.s(0), add.s(1)]
    for given in (header, tuple(header), group(header), (add.s(i) for i in range(2)), dict(group(header))):
        assert chord(given, c).tasks == header
    assert chord(a, c).tasks == [a]
    assert chord(chain(a, b), c).tasks == [a, b]


def test_a_chord_without_a_body_says_so() -> None:
    assert repr(chord([a])) == "<chord without body: [add(1)]>"
    with pytest.raises(DefinitionError, match="needs a body"):
        chord([a])()


def test_further_arguments_go_where_they_are_used() -> None:
    assert chain(a, b).clone((9,)).tasks == [add.s(9, 1), b]
    assert group(a, b).clone((9,), {"k": 1}).tasks == [add.s(9, 1, k=1), mul.s(9, 2, k=1)]
    assert chord([a, b], c).clone((9,)) == chord([add.s(9, 1), mul.s(9, 2)], c)


def test_immutable_is_said_of_a_groups_members_a_chords_header_and_a_chains_first_step() -> None:
    assert group(a, b).set(immutable=True).tasks == [add.si(1), mul.si(2)]
    assert chord([a], c).set(immutable=True) == chord([add.si(1)], c)
    assert chain(a, b).set(immutable=True).tasks == [add.si(1), b]


def test_skew_puts_members_off_one_after_another() -> None:
    canvas = group(add.s(i) for i in range(5)).skew(start=1, stop=3)
    assert [member.options["countdown"] for member in canvas.tasks] == [1, 2, 3, 3, 3]


def test_chunks_are_a_group_of_starmaps() -> None:
    canvas = add.chunks(zip(range(5), range(5), strict=True), 2)
    assert isinstance(canvas, chunks)
    parts = canvas.group()
    assert [part.it for part in parts.tasks] == [[(0, 0), (1, 1)], [(2, 2), (3, 3)], [(4, 4)]]  # type: ignore[attr-defined]
    assert {type(part) for part in parts.tasks} == {xstarmap}
    with pytest.raises(DefinitionError, match="1 or more"):
        add.chunks([], 0)


def test_maps_take_no_further_arguments() -> None:
    for canvas in (total.map([[1], [2]]), add.starmap([(1, 2)]), add.chunks([(1, 2)], 1)):
        assert canvas.clone((5,)) == canvas


# ---------------------------------------------------------------------------------------------------- combining
@pytest.mark.parametrize(
    ("left", "right", "whole"),
    [
        (a, b, chain.of([a, b])),
        (a, steps, chain.of([a, a, b])),
        (a, pair, chain.of([a, pair])),
        (a, barrier, chain.of([a, barrier])),
        (steps, c, chain.of([a, b, c])),
        (steps, steps, chain.of([a, b, a, b])),
        (steps, pair, chain.of([a, b, pair])),
        (steps, barrier, chain.of([a, b, barrier])),
        (pair, c, chord([a, b], c)),
        (pair, steps, chord([a, b], chain.of([a, b]))),
        (pair, pair, chord([a, b], pair)),
        (pair, barrier, chord([a, b], barrier)),
        (barrier, b, chord([a, b], chain.of([c, b]))),
        (barrier, steps, chain.of([barrier, a, b])),
        (barrier, pair, chain.of([barrier, pair])),
        (barrier, barrier, chord([a, b], chain.of([c, barrier]))),
        # behind a chain that ends in a group or a chord
        (chain.of([a, pair]), c, chain.of([a, barrier])),
        (chain.of([a, pair]), pair, chain.of([a, chord(pair, pair)])),
        (chain.of([a, barrier]), b, chain.of([a, chord([a, b], chain.of([c, b]))])),
        (chain.of([a, barrier]), pair, chain.of([a, chord([a, b], chain.of([c, pair]))])),
        (chain.of([a, barrier]), barrier, chain.of([a, barrier, barrier])),
        # groups of one and of none
        (a, single, chain.of([a, b])),
        (steps, single, chain.of([a, b, b])),
        (barrier, single, chord([a, b], chain.of([c, b]))),
        (single, c, chord([b], c)),
        (a, group([]), a),
        (steps, group([]), steps),
        (pair, group([]), pair),
        (chain(), pair, pair),
        (chain(), a, chain.of([a])),
        # maps are signatures like any other
        (total.map([[1]]), b, chain.of([total.map([[1]]), b])),
        (a, add.starmap([(1, 2)]), chain.of([a, add.starmap([(1, 2)])])),
        (pair, add.chunks([(1, 2)], 1), chord([a, b], add.chunks([(1, 2)], 1))),
        # tasks themselves, and plain dicts
        (a, total, chain.of([a, c])),
        (total, b, chain.of([c, b])),
        (a, dict(b), chain.of([a, b])),
        (dict(a), b, chain.of([a, b])),
        (pair, total, chord([a, b], c)),
    ],
)
def test_the_operator_composes_and_leaves_its_operands_alone(left: Any, right: Any, whole: Signature) -> None:
    before = [json.dumps(sig) if isinstance(sig, dict) else None for sig in (left, right)]
    made = left | right
    assert type(made) is type(whole)
    assert made == whole
    for part in (made, *made.children()):
        part.link(tell.s()) if not isinstance(part, group) or part.tasks else None
        part.set(queue="other")
    assert [json.dumps(sig) if isinstance(sig, dict) else None for sig in (left, right)] == before


def test_what_is_no_signature_cannot_follow_one() -> None:
    with pytest.raises(TypeError, match="unsupported operand"):
        a | 3
    with pytest.raises(TypeError, match="unsupported operand"):
        3 | a


def test_a_chains_options_go_on_to_its_steps_when_something_follows() -> None:
    canvas = chain(add.s(1, 1), add.s(2)).set(queue="slow", task_id="mine") | add.s(3)
    assert [step.options for step in canvas.tasks] == [{"queue": "slow"}, {"task_id": "mine"}, {}]


def test_a_long_chain_behind_a_group_is_one_body() -> None:
    canvas = chain([pair, total.s(), *(add.s(i) for i in range(500))])
    (only,) = canvas.tasks
    assert isinstance(only, chord)
    assert isinstance(only.body, chain)
    assert len(only.body.tasks) == 501


# --------------------------------------------------------------------------------------------- JSON and pickle
CANVASES = [
    add.s(1, 2).set(countdown=3, link=[tell.s()]),
    add.si(1),
    chain(a, b).on_error(tell.s()),
    group(a, chain(b, pair)),
    chord([a, single], c | b),
    chain(a, pair, c, pair),
    total.map([[1, 2], [3]]),
    add.starmap([[1, 2], [3, 4]]),
    add.chunks([[1, 2], [3, 4]], 1),
    chord([a], add.chunks([[1, 2]], 1)).set(queue="slow"),
]


@pytest.mark.parametrize("canvas", CANVASES, ids=repr)
def test_a_canvas_comes_back_from_json_and_pickle(canvas: Signature) -> None:
    for back in (Signature.from_dict(json.loads(json.dumps(canvas))), pickle.loads(pickle.dumps(canvas))):  # noqa: S301
        assert back == canvas
        assert type(back) is type(canvas)
        assert [type(child) for child in back.children()] == [type(child) for child in canvas.children()]
        assert repr(back) == repr(canvas)


def test_celerys_own_form_is_read() -> None:
    leaf = json.loads(json.dumps(a))
    body = {**leaf, "task": "total", "args": []}
    ends = {"header": [leaf], "body": body, "kwargs": {"k": 1}}
    read = Signature.from_dict(
        {
            "task": "celery.chord",
            "args": [9],
            "kwargs": ends,
            "options": {},
            "subtask_type": "chord",
            "immutable": False,
        }
    )
    assert read == chord([add.s(9, 1, k=1)], total.s())
    bound = {"task": {**leaf, "args": []}, "it": [[1, 2]]}
    assert Signature.from_dict({"task": "celery.starmap", "kwargs": bound, "subtask_type": None}) == add.starmap(
        [[1, 2]]
    )
    tasks = {"tasks": [leaf, {"task": "celery.group", "kwargs": {"tasks": [leaf, leaf]}, "subtask_type": "group"}]}
    assert Signature.from_dict({"task": "celery.chain", "kwargs": tasks, "subtask_type": "chain"}) == chain(
        a, group(a, a)
    )


# ------------------------------------------------------------------------------------------------------ reading
@pytest.mark.parametrize(
    ("canvas", "text"),
    [
        (add.s(2, 2), "add(2, 2)"),
        (add.s(2, y=2), "add(2, y=2)"),
        (add.s(2, 2) | mul.s(4), "add(2, 2) | mul(4)"),
        (signature("tasks.add", (2, 2)) | signature("tasks.mul", (4,)), "tasks.add(2, 2) | mul(4)"),
        (group(add.s(1, 1), add.s(2, 2)), "group([add(1, 1), add(2, 2)])"),
        (group([]), "group(<empty>)"),
        (chain(), "chain(<empty>)"),
        (chord([add.s(1, 1)], total.s()), "%total([add(1, 1)])"),
        (chord([add.s(1, 1)], total.s() | mul.s(2)), "%(total([add(1, 1)]) | mul(2))"),
        (total.map([[1, 2]]), "[total(x) for x in [[1, 2]]]"),
        (add.starmap([(1, 2)]), "[add(*x) for x in [(1, 2)]]"),
    ],
)
def test_a_canvas_is_shown_as_it_is_written(canvas: Signature, text: str) -> None:
    assert repr(canvas) == text
