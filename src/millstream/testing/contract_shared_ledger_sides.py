"""The part of the suite of shared ledgers about jobs that several processes execute at once: deaths, races, hints."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

import anyio
import pytest

from millstream.errors import SettingsError
from millstream.ledger.base import Claim, Done, FencedError, Held, Pause, Settlement, SharedLedger
from millstream.ledger.queued import Queued
from millstream.model.job import JobState
from millstream.testing.clock import VirtualClock
from millstream.testing.ledger_doings import (
    CANCEL,
    SUCCEEDED,
    claimed,
    ended,
    fact,
    handed_out,
    make_job,
    nobody,
    record,
    submit,
    until,
)

SHORT_LEASE = 0.4
"""Seconds; as short as a machine that is busy with something else can keep."""

Opened = Callable[..., Awaitable[SharedLedger]]
Two = tuple[SharedLedger, SharedLedger]


async def dying(opened: Opened) -> tuple[SharedLedger, SharedLedger]:
    """Return a ledger object of `victim`, whose lease is short, and one of `survivor`."""
    victim, survivor = await opened(SHORT_LEASE), await opened()
    await victim.join("victim", nobody)
    await survivor.join("survivor", nobody)
    return victim, survivor


class SharedLedgerSides:
    """See `SharedLedgerContract`."""

    def silenced(self, ledger: SharedLedger) -> AbstractContextManager[None]:
        """See `SharedLedgerContract.silenced`."""
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------------ deaths
    async def test_a_death_in_a_side_segment_is_a_crash_of_that_alone(self, opened: Opened) -> None:
        victim, survivor = await dying(opened)
        main = await claimed(survivor, holder="survivor")
        await record(survivor, main, *[handed_out(number, f"n{number}") for number in (2, 3)])
        (lost,) = await victim.claim("victim", 1)
        (calm,) = await survivor.claim("survivor", 1)
        await record(survivor, main, end=Pause("handed_out", None, 3))
        with self.silenced(victim):
            assert await until(survivor.reap) == [main.job.id]
        assert await survivor.get(main.job.id) == main.job
        (again,) = await survivor.claim("survivor", 10)
        assert (again.segment, again.attempt, again.crashes, again.order) == (2, 2, 1, 2)
        with pytest.raises(FencedError):
            await record(victim, lost, ended("n2", 1), end=Done())
        await record(survivor, calm, ended("n3", 1), end=Done())
        (main,) = await survivor.claim("survivor", 10)
        assert (main.segment, main.crashes) == (1, 0)

    async def test_a_death_in_the_main_segment_leaves_the_side_ones_alone(self, opened: Opened) -> None:
        victim, survivor = await dying(opened)
        main = await claimed(victim, holder="victim")
        await record(victim, main, handed_out(2, "a"))
        (side,) = await survivor.claim("survivor", 10)
        with self.silenced(victim):
            assert await until(survivor.reap) == [main.job.id]
        assert (await survivor.get(main.job.id)).state is JobState.QUEUED
        assert await record(survivor, side, ended("a", 1)) == (3, [ended("a", 1)])
        (again,) = await survivor.claim("survivor", 10)
        assert (again.segment, again.attempt, again.crashes, again.head) == (1, 2, 1, 3)
        assert await record(survivor, again, ended("a", 2), end=Pause("handed_out", None, 3)) == (4, [])
        await record(survivor, side, end=Done())
        assert [claim.segment for claim in await survivor.claim("survivor", 10)] == [1]

    async def test_of_side_segments_that_kill_a_holder_gets_one_at_a_time(self, opened: Opened) -> None:
        survivor = await opened()
        await survivor.join("survivor", nobody)
        main = await claimed(survivor, holder="survivor")
        await record(survivor, main, *[handed_out(number, f"n{number}") for number in (2, 3, 4)])
        for name in ("first", "second"):
            victim = await opened(SHORT_LEASE)
            await victim.join(name, nobody)
            assert len(await victim.claim(name, 2)) == 2
            with self.silenced(victim):
                assert await until(survivor.reap) == [main.job.id]
        claims = await survivor.claim("survivor", 10)
        assert [(claim.segment, claim.crashes) for claim in claims] == [(2, 2), (4, 0)]
        assert await survivor.claim("survivor", 10) == []
        await record(survivor, claims[0], end=Done())
        assert [claim.segment for claim in await survivor.claim("survivor", 10, sides=1)] == [3]

    async def test_after_a_cancel_what_the_dead_held_is_not_begun_again(self, opened: Opened) -> None:
        victim, survivor = await dying(opened)
        main = await claimed(victim, holder="victim")
        await record(victim, main, handed_out(2, "a"), handed_out(3, "b"))
        (mine,) = await survivor.claim("survivor", 1)
        await victim.claim("victim", 1)
        assert (await survivor.cancel(main.job.id, [CANCEL]))[1] is None
        with self.silenced(victim):
            assert await until(survivor.reap) == [main.job.id]
        assert await survivor.claim("survivor", 10) == []
        await record(survivor, mine, end=Done())
        (again,) = await survivor.claim("survivor", 10)
        assert (again.segment, again.job.cancel_requested) == (1, True)

    async def test_who_leaves_hands_its_side_segments_on_and_counts_no_crash(self, two: Two) -> None:
        first, second = two
        main = await claimed(first, holder="one")
        await record(first, main, handed_out(2, "a"))
        (side,) = await second.claim("two", 10)
        await second.leave("two")
        assert await first.get(main.job.id) == main.job
        (again,) = await first.claim("one", 10)
        assert (again.segment, again.attempt, again.crashes) == (2, side.attempt + 1, 0)

    # ------------------------------------------------------------------------------------------------------- races
    async def test_ends_that_two_processes_record_at_once_count_once(self, two: Two) -> None:
        first, second = two
        main = await claimed(first, holder="one")
        await record(first, main, handed_out(2, "a"))
        (side,) = await second.claim("two", 10)
        nodes = [f"n{number}" for number in range(60)]
        kept: list[str | None] = []

        async def end_all(ledger: SharedLedger, claim: Claim, seed: int) -> None:
            chance = random.Random(seed)  # noqa: S311  no secrets are made of it
            for node in chance.sample(nodes, len(nodes)):
                _, drafts = await record(ledger, claim, fact("x"), ended(node, claim.segment))
                kept.extend(draft[3] for draft in drafts if draft[3] is not None)

        async with anyio.create_task_group() as group:
            group.start_soon(end_all, first, main, 1)
            group.start_soon(end_all, second, side, 2)
        assert sorted(node for node in kept if node is not None) == sorted(nodes)
        assert sorted(result.path for result in await first.node_results(main.job.id)) == sorted(nodes)
        events = await second.events(main.job.id, 0, 1000)
        assert [event.seq for event in events] == list(range(1, 2 + 1 + 120 + 60))

    async def test_of_many_claimers_each_side_segment_gets_one_while_others_record(self, two: Two) -> None:
        main = await claimed(two[0], holder="one")
        await record(two[0], main, *[handed_out(number, f"n{number}") for number in range(2, 102)])
        claims: list[Claim] = []

        async def work(ledger: SharedLedger, holder: str) -> None:
            while len(claims) < 100:
                for claim in await ledger.claim(holder, 3):
                    claims.append(claim)
                    await record(ledger, claim, ended(f"n{claim.segment}", 1), end=Done())

        async with asyncio.timeout(120), anyio.create_task_group() as group:
            for ledger, holder in ((two[0], "one"), (two[1], "two")):
                for _ in range(4):
                    group.start_soon(work, ledger, holder)
        assert sorted(claim.segment for claim in claims) == list(range(2, 102))
        assert {claim.attempt for claim in claims} == {1}
        await record(two[0], main, end=Settlement(SUCCEEDED))

    async def test_a_main_segment_is_found_though_others_record_in_its_job_all_the_time(self, two: Two) -> None:
        first, second = two
        main = await claimed(first, holder="one")
        await record(first, main, *[handed_out(number, f"n{number}") for number in range(2, 42)])
        sides = await second.claim("two", 100)
        are_busy, looks = True, 0

        async def keep_recording(side: Claim) -> None:
            while are_busy:
                await record(second, side, fact("x"))

        async with asyncio.timeout(120), anyio.create_task_group() as group:
            for side in sides[20:]:
                group.start_soon(keep_recording, side)
            for side in sides[:20]:
                await record(first, main, end=Pause("handed_out", None, 1_000_000))
                await record(second, side, end=Done())
                found: list[Claim] = []
                while not found:
                    found = await first.claim("one", 1)
                    looks += 1
                (main,) = found
            are_busy = False
        assert looks <= 30

    @pytest.mark.parametrize("seed", range(3))
    async def test_a_cancel_that_is_told_at_once_meets_no_holder(self, two: Two, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311  no secrets are made of it
        mains = [await claimed(two[0], holder="one") for _ in range(10)]
        for main in mains:
            await record(two[0], main, handed_out(2, "a"), end=Pause("handed_out", None, 2))
        told: set[str] = set()
        refused: list[str] = []

        async def cancel() -> None:
            for main in chance.sample(mains, len(mains)):
                job, _ = await two[0].cancel(main.job.id, [CANCEL])
                told.update([main.job.id] if job.state.is_final else [])

        async def claim() -> None:
            for _ in range(15):
                for side in await two[1].claim("two", chance.randint(1, 3)):
                    try:
                        await record(two[1], side, fact("x"), end=Done())
                    except FencedError:
                        refused.append(side.job.id)

        await asyncio.gather(cancel(), claim())
        assert refused == []
        for main in mains:
            job = await two[0].get(main.job.id)
            assert job.state.is_final == (main.job.id in told)

    # -------------------------------------------------------------------------------------------------------- news
    async def test_a_holder_learns_what_others_did_for_each_segment(self, two: Two) -> None:
        first, second = two
        main = await claimed(first, holder="one")
        await record(first, main, handed_out(2, "a"), handed_out(3, "b"))
        (mine,) = await first.claim("one", 1)
        (side,) = await second.claim("two", 1)
        await record(second, side, ended("b", 1))
        await second.cancel(main.job.id, [CANCEL])
        told = [Held(main.job.id, cancel_requested=True, head=4, segment=segment) for segment in (1, 2, 3)]
        assert mine.segment == 2
        assert await first.held("one") == told[:2]
        assert await first.held("two") == told[2:]

    async def test_what_may_be_claimed_is_told_in_the_order_of_claims(self, two: Two, clock: VirtualClock) -> None:
        first, second = two
        assert await first.waiting(9) == []
        main = await claimed(first, holder="one", priority=2)
        await record(first, main, handed_out(2, "a", queue="heavy"), handed_out(3, "b"))
        due = make_job(state=JobState.SCHEDULED, starts_at=clock.now() + 60, priority=1, queue="x")
        late = make_job(state=JobState.SCHEDULED, starts_at=clock.now() + 600)
        queued = make_job(priority=9, flow="b.flow")
        for job in (due, late, queued):
            await submit(first, job, None)
        await clock.advance(60)
        told = [
            Queued(queued.id, 1, 0, None, "b.flow"),
            Queued(main.job.id, 2, 0, "heavy", "a.flow"),
            Queued(main.job.id, 3, 0, None, "a.flow"),
            Queued(due.id, 1, 0, "x", "a.flow"),
        ]
        assert await second.waiting(9) == told
        claims = await second.claim("two", 10)
        assert [(claim.job.id, claim.segment) for claim in claims] == [(one.job, one.segment) for one in told]
        await record(second, claims[1], end=Pause("shutdown", None, 9))
        assert await first.waiting(9) == [Queued(main.job.id, 2, 1, "heavy", "a.flow")]

    async def test_of_each_flow_in_each_queue_the_first_ones_are_told_however_long_the_others_are(
        self, two: Two, clock: VirtualClock
    ) -> None:
        first, second = two
        long = [make_job(flow="b.flow", queue="long", priority=7) for _ in range(5)]
        other, default, due = make_job(flow="c.flow", queue="long"), make_job(), make_job(flow="a.flow", queue="a")
        for job in (*long, other, default):
            await submit(first, job, None)
        paused = make_job(state=JobState.SCHEDULED, starts_at=clock.now() + 60, flow="b.flow", queue="long")
        later = make_job(state=JobState.SCHEDULED, starts_at=clock.now() + 60, flow="b.flow", queue="other")
        for job in (paused, later, due):
            await submit(first, job, None)
        await clock.advance(60)
        told = sorted([other.id, default.id, later.id, due.id])
        assert [one.job for one in await second.waiting(2)] == [long[0].id, long[1].id, *told]
        assert [one.job for one in await second.waiting(9, jobs=[long[3].id, default.id, "?"])] == [
            long[3].id,
            default.id,
        ]
        assert await second.waiting(9, jobs=[]) == []
        assert [await second.backlog(most) for most in (1, 9, 100)] == [1, 9, 10]

    async def test_a_turn_is_one_processs_as_long_as_it_takes_it_again(self, opened: Opened) -> None:
        ledgers = {name: await opened() for name in ("one", "two", "three")}
        turns = await asyncio.gather(*(ledger.take_turn("a", name, 30.0) for name, ledger in ledgers.items()))
        assert sorted(turns) == [False, False, True]
        assert [await ledger.take_turn("a", name, 30.0) for name, ledger in ledgers.items()] == turns
        assert await ledgers["one"].take_turn("b", "one", 0.2)
        async with asyncio.timeout(20):
            while not await ledgers["two"].take_turn("b", "two", 0.2):  # noqa: ASYNC110  who had it may be dead
                await asyncio.sleep(0.02)
        assert await ledgers["three"].take_turn("b", "two", 30.0)
        assert await ledgers["three"].take_turn("b", "three", 1.0)  # as after the clock began anew: it ends too late

    async def test_those_who_execute_and_live_are_counted(self, opened: Opened) -> None:
        mine = await opened(SHORT_LEASE)
        other = await opened()
        assert await other.members() == 0
        await other.join("watcher", nobody, executes=False)
        await other.join("worker", nobody)
        await mine.join("short", nobody)
        assert await other.members() == 2
        assert all(present.lease_seconds > 0 for present in await other.processes())
        with self.silenced(mine):
            async with asyncio.timeout(120):
                while await other.members() != 1:  # noqa: ASYNC110  a lease runs out by itself
                    await asyncio.sleep(0.02)
            await other.leave("worker")
            assert await other.members() == 0

    async def test_who_uses_another_event_log_than_the_living_is_refused(self, opened: Opened) -> None:
        mine, other = await opened(SHORT_LEASE), await opened()
        await other.join("of an older version", nobody)
        await mine.join("mine", nobody, job_queue="redis")
        await other.join("alike", nobody, job_queue="redis")
        await other.agree("redis")
        await other.leave("alike")
        for attempt in (other.agree("asyncio"), other.join("other", nobody, job_queue="asyncio")):
            with pytest.raises(
                SettingsError, match=r"event log here is asyncio, but process \d+ on .* uses redis: set "
            ):
                await attempt
        assert {found.job_queue for found in await other.processes()} == {None, "redis"}
        with self.silenced(mine):
            async with asyncio.timeout(120):
                while await other.members() != 1:  # noqa: ASYNC110  a lease runs out by itself
                    await asyncio.sleep(0.02)
            await other.join("other", nobody, job_queue="asyncio")

    async def test_all_processes_know_a_ledger_by_the_same_identity(self, opened: Opened) -> None:
        ledgers = [await opened() for _ in range(4)]
        identities = await asyncio.gather(*(ledger.identity() for ledger in ledgers))
        assert len(set(identities)) == 1
        (first, *_) = identities
        assert (len(first.id), len(first.key)) == (36, 32)
        assert repr(first.key) not in repr(first)
