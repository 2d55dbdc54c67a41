"""Stamps: where visitors and names put them, what stays of them as data, and how options treat them."""
# ruff: noqa: ARG001, ARG002  errbacks and a visitor's methods take what Celery gives them

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import pytest

from millstream import DefinitionError, Millstream, task
from millstream.authoring.canvas.primitives import chain, chord, group
from millstream.authoring.canvas.signature import Signature, signature
from millstream.authoring.canvas.stamps import StampingVisitor, stamps_in
from millstream.settings import Settings
from tests.unit.canvas_cases import add, answer, fail, layout, tell, told, total


@task(name="stamped", bind=True, retries=1)
def stamped(self: Any, *_: Any) -> Any:
    if self.request.retries == 0:
        raise ValueError("once more")
    return [self.request.stamps, self.request.stamped_headers, self.request.headers]


@task(name="stamps_of_failed", bind=True)
def stamps_of_failed(self: Any, request: Any, error: Exception, traceback: str) -> None:
    told.append((self.request.stamps, request.stamps))


class Monitored(StampingVisitor):
    """Gives every task an id of its own, as Celery's guide does."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"monitoring_id": uuid4().hex, "stamped_headers": ["monitoring_id"]}


class Everywhere(StampingVisitor):
    """Stamps each part with where it was met."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, list[str]]] = []

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"task": sig.task}

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        return {"members": len(group.tasks)}

    def on_group_end(self, group: Any, **headers: Any) -> None:
        self.ended.append(("group", headers["stamped_headers"]))

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        return {"steps": len(chain.tasks)}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:
        self.ended.append(("chain", headers["stamped_headers"]))

    def on_chord_body(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"body": True}

    def on_callback(self, callback: Any, **headers: Any) -> dict[str, Any]:
        return {"callback": True}

    def on_errback(self, errback: Any, **headers: Any) -> dict[str, Any]:
        return {"errback": True}


def stamps(canvas: Signature) -> list[dict[str, Any]]:
    """The stamps of the nodes, in order."""
    drawn = layout(canvas).drawn
    headers = (node.headers for node in drawn.shape.graph.nodes)
    return [drawn.bindings[slot.index]["stamps"] if slot else {} for slot in headers]  # type: ignore[union-attr]


def test_a_stamp_is_an_option_that_is_named_among_the_stamps() -> None:
    sig = add.s(1, 1)
    assert sig.stamp(customer="acme") is sig
    assert sig.options == {"customer": "acme", "stamped_headers": ["customer"]}
    assert stamps_in(sig.options) == {"customer": "acme"}


def test_a_visitor_stamps_every_task_by_itself() -> None:
    canvas = (add.s(1) | group(add.s(2), add.s(3)) | total.s()).stamp(visitor=Monitored())
    found = stamps(canvas)
    assert [list(each) for each in found] == [["monitoring_id"]] * 4
    assert len({each["monitoring_id"] for each in found}) == 4


def test_the_values_of_stamps_are_not_part_of_the_graph() -> None:
    first, second = (layout(add.s(1).stamp(visitor=Monitored())).drawn.shape for _ in range(2))
    assert first.digest == second.digest


@pytest.mark.parametrize(
    ("canvas", "expected", "ended"),
    [
        (chain(add.s(1), add.s(2)), [{"steps": 2, "task": "add"}] * 2, [("chain", ["steps"])]),
        (group(add.s(1), add.s(2)), [{"members": 2, "task": "add"}] * 2, [("group", ["members"])]),
        (
            chord([add.s(1), add.s(2)], total.s()),
            [{"members": 2, "task": "add"}] * 2 + [{"members": 2, "body": True, "task": "total"}],
            [("group", ["members"])],
        ),
        (
            group(add.s(1) | add.s(2)),
            [{"members": 1, "steps": 2, "task": "add"}] * 2,
            [("chain", ["members", "steps"]), ("group", ["members"])],
        ),
    ],
    ids=["chain", "group", "chord", "chain in group"],
)
def test_a_visitor_sees_each_canvas_from_its_start_to_its_end(
    canvas: Signature, expected: list[dict[str, Any]], ended: list[tuple[str, list[str]]]
) -> None:
    visitor = Everywhere()
    assert stamps(canvas.stamp(visitor=visitor)) == expected
    assert visitor.ended == ended


def test_callbacks_and_errbacks_are_stamped_as_such() -> None:
    sig = add.s(1)
    sig.link(tell.s())
    sig.link_error(answer.s())
    found = stamps(sig.stamp(visitor=Everywhere(), batch=7))
    assert found == [
        {"batch": 7, "task": "add"},
        {"batch": 7, "callback": True, "task": "tell"},
        {"batch": 7, "errback": True, "task": "answer"},
    ]


def test_links_of_a_canvas_can_be_stamped_alone() -> None:
    sig = add.s(1)
    sig.link(tell.s())
    sig.stamp_links(batch=7)
    assert stamps(sig) == [{}, {"batch": 7}]


def test_stamps_by_name_reach_the_body_of_a_chord_too() -> None:
    assert stamps(chord([add.s(1)], total.s()).stamp(batch=7)) == [{"batch": 7}] * 2


def test_a_stamp_that_comes_twice_is_replaced_or_appended() -> None:
    assert stamps_in(add.s().stamp(batch=1).stamp(batch=2).options) == {"batch": 2}
    assert stamps_in(add.s().stamp(batch=1).stamp(append_stamps=True, batch=2).options) == {"batch": [2, 1]}


def test_what_a_visitor_does_not_list_as_a_stamp_is_an_option() -> None:
    class Queued(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"batch": 7, "queue": "slow", "stamped_headers": ["batch"]}

    sig = add.s(1).stamp(visitor=Queued())
    assert stamps(sig) == [{"batch": 7}]
    assert layout(sig).drawn.shape.graph.nodes[0].policy.queue == "slow"  # type: ignore[union-attr]


def test_stamps_survive_json() -> None:
    canvas = chord([add.s(1) | add.s(2)], total.s()).stamp(batch=7, site=["a", "b"])
    canvas.link_error(answer.s().stamp(error=True))
    again = signature(json.loads(json.dumps(canvas)))
    assert stamps(again) == stamps(canvas) == [{"batch": 7, "site": ["a", "b"]}] * 3 + [{"error": True}]


def test_stamps_stay_as_they_were_put_on() -> None:
    stamped = add.s(1).stamp(batch=7)
    assert stamps(stamped.clone(batch=8)) == [{"batch": 7}]
    assert stamps(stamped.clone(stamped_headers=["site"], site="a")) == [{"batch": 7, "site": "a"}]
    assert stamps(group(stamped).set(stamped_headers=["site"], site="a")) == [{"batch": 7, "site": "a"}]
    assert stamps(chain(stamped, add.s(2)).set(stamped_headers=["site"], site="a")) == [{"batch": 7, "site": "a"}, {}]


def test_an_option_that_is_no_stamp_is_still_refused() -> None:
    with pytest.raises(DefinitionError, match="there is no option batch"):
        layout(add.s(1).stamp(site="a").set(batch=7))


def test_maps_carry_stamps() -> None:
    assert stamps(add.map([1, 2]).stamp(batch=7)) == [{"batch": 7}]
    assert stamps(add.chunks([(1, 2), (3, 4)], 1).stamp(batch=7)) == [{"batch": 7}] * 2


async def test_tasks_read_their_stamps_in_every_attempt() -> None:
    canvas = group(
        stamped.s().stamp(batch=7).set(headers={"trace": "t"}), stamped.s(), stamped.map([1]).stamp(site="a")
    )
    async with Millstream(settings=Settings(durability="off")) as app:
        job = await app.submit(canvas)
        assert await job.result() == [
            [{"batch": 7}, ["batch"], {"trace": "t"}],
            [{}, None, None],
            [[{"site": "a"}, ["site"], None]],
        ]


async def test_an_errback_reads_its_own_stamps_and_those_of_what_failed() -> None:
    told.clear()
    async with Millstream(settings=Settings(durability="off")) as app:
        job = await app.submit(fail.s().on_error(stamps_of_failed.s()).stamp(visitor=Everywhere()))
        with pytest.raises(ValueError, match="no"):
            await job.result()
    assert told == [({"errback": True, "task": "stamps_of_failed"}, {"task": "fail"})]
