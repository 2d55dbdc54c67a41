"""When a node starts, given how its predecessors ended: every join rule, by its effect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from millstream import JobState, flow
from millstream.testing.contract_backend.stage import BackendCase, Stage
from millstream.testing.contract_tasks import echo, note, outcome, wait_at
from millstream.testing.room import Room

_EFFECTS = [
    ("all_success", "ok ok", "succeeded"),
    ("all_success", "ok skip", "skipped"),
    ("all_success", "skip fail", "upstream_failed"),
    ("all_done", "ok fail skip", "succeeded"),
    ("all_failed", "fail fail", "succeeded"),
    ("all_failed", "fail ok", "skipped"),
    ("one_success", "fail ok skip", "succeeded"),
    ("one_success", "fail skip", "upstream_failed"),
    ("one_success", "skip skip", "skipped"),
    ("one_failed", "ok fail", "succeeded"),
    ("one_failed", "ok skip", "skipped"),
    ("one_done", "skip ok", "succeeded"),
    ("one_done", "skip fail", "succeeded"),
    ("one_done", "skip skip", "skipped"),
    ("none_failed", "ok skip", "succeeded"),
    ("none_failed", "skip fail", "upstream_failed"),
    ("none_failed_min_one_success", "ok skip", "succeeded"),
    ("none_failed_min_one_success", "skip skip", "skipped"),
    ("none_failed_min_one_success", "ok fail", "upstream_failed"),
    ("none_skipped", "ok fail", "succeeded"),
    ("none_skipped", "ok skip", "skipped"),
    ("all_skipped", "skip skip", "succeeded"),
    ("all_skipped", "skip ok", "skipped"),
    ("always", "fail skip", "succeeded"),
    ("k_of_n", "ok fail ok", "succeeded"),
    ("k_of_n", "ok fail skip", "upstream_failed"),
    ("k_of_n", "ok skip skip", "skipped"),
]


@flow
def joined(rule: str, before: str) -> Any:
    """Some outcomes, and a node that joins them."""
    sources = [outcome["loop"](how) for how in before.split()]
    join = echo.options(id="join", join=rule, k=2 if rule == "k_of_n" else 0)("ran")
    sources >> join
    return join


@flow
def raced(rule: str, k: int, quick: list[str], room: str, gate: str) -> Any:
    """One predecessor that waits at a gate beside quick ones, and a node that joins them."""
    sources = [wait_at.options(id="slow")(room, gate), *(outcome["loop"](how) for how in quick)]
    join = note.options(id="join", join=rule, k=k)(room, "joined")
    sources >> join
    return join


class JoinsContract(BackendCase):
    """Join rules."""

    @pytest.mark.parametrize(("rule", "before", "state"), _EFFECTS)
    async def test_a_join_rule_decides_by_how_the_predecessors_ended(
        self, stage: Stage, rule: str, before: str, state: str
    ) -> None:
        job = await stage.submit(joined, rule=rule, before=before)
        record = await stage.end(job)
        assert (await stage.states(job))["join"] == state
        # A join takes care of the failures before it; but `always` waits for nobody, so it takes care of nobody.
        is_failed = state == "upstream_failed" or rule == "always"
        assert record.state is (JobState.FAILED if is_failed else JobState.SUCCEEDED)
        assert record.result == ("ran" if state == "succeeded" and not is_failed else None)
        if not self.executes_elsewhere:  # else nobody hears of a start
            heard = {event.type for event in await stage.events(job) if event.node == "join"}
            assert ("node_started" in heard) == (state == "succeeded")

    @pytest.mark.parametrize(
        ("rule", "k", "quick"),
        [
            ("one_success", 0, ["fail", "ok"]),
            ("one_failed", 0, ["fail", "ok"]),
            ("one_done", 0, ["skip", "ok"]),
            ("k_of_n", 2, ["ok", "fail", "ok"]),
            ("always", 0, []),
        ],
    )
    async def test_a_rule_that_is_decided_early_fires_early(
        self, stage: Stage, room: Room, rule: str, k: int, quick: list[str]
    ) -> None:
        job = await stage.submit(raced, rule=rule, k=k, quick=quick, room=room.path, gate="slow")
        await stage.until(job, "node_succeeded", "join")
        assert room.notes().count("joined") == 1
        assert "slow" not in await stage.states(job)
        room.open("slow")
        assert (await stage.end(job)).state is JobState.SUCCEEDED
        assert (await stage.states(job))["slow"] == "succeeded"
        assert room.notes().count("joined") == 1

    @pytest.mark.parametrize(
        ("rule", "quick"), [("all_success", ["ok", "skip"]), ("all_done", ["ok", "fail"]), ("none_failed", ["ok"])]
    )
    async def test_a_rule_that_is_not_decided_waits_for_the_last_one(
        self, stage: Stage, room: Room, rule: str, quick: list[str]
    ) -> None:
        job = await stage.submit(raced, rule=rule, k=0, quick=quick, room=room.path, gate="slow")
        await room.noted("at slow")
        await stage.clock.advance(60)
        await asyncio.sleep(0)
        assert "join" not in await stage.states(job)
        room.open("slow")
        await stage.end(job)
        assert "join" in await stage.states(job)
