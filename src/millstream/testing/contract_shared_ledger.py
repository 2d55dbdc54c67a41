"""The suite of ledgers that several processes share: membership, leases, fences and races, over two ledger objects."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack

import anyio
import pytest

from millstream.clock import Clock, new_id
from millstream.ledger.base import Claim, FencedError, Held, IdempotencyConflictError, Pause, Settlement, SharedLedger
from millstream.ledger.filter import Filter
from millstream.model.event import TERMINAL
from millstream.model.job import JobState
from millstream.testing.clock import VirtualClock
from millstream.testing.contract_shared_ledger_sides import SHORT_LEASE, SharedLedgerSides
from millstream.testing.ledger_doings import (
    CANCEL,
    CANCELLED,
    SUCCEEDED,
    claimed,
    ended,
    fact,
    make_job,
    nobody,
    record,
    submit,
    until,
)

LONG_LEASE = 15.0


class SharedLedgerContract(SharedLedgerSides):
    """Subclass it as `Test…`, override `open` and `silenced`; each test gets a ledger, and opens it several times."""

    def open(self, clock: Clock, lease_seconds: float) -> AbstractAsyncContextManager[SharedLedger]:
        """Return a context manager that gives the test's ledger, as another process would open it."""
        raise NotImplementedError

    def silenced(self, ledger: SharedLedger) -> AbstractContextManager[None]:
        """Return a context manager in which a ledger object neither reads nor writes, as that of a stopped process."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> VirtualClock:
        """The clock of the first process."""
        return VirtualClock()

    @pytest.fixture
    async def opened(self, clock: VirtualClock) -> AsyncIterator[Callable[..., Awaitable[SharedLedger]]]:
        """Opens the ledger once more, as a further process does."""
        async with AsyncExitStack() as stack:

            async def open_again(lease_seconds: float = LONG_LEASE, clock: Clock = clock) -> SharedLedger:
                return await stack.enter_async_context(self.open(clock, lease_seconds))

            yield open_again

    @pytest.fixture
    async def two(self, opened: Callable[..., Awaitable[SharedLedger]]) -> tuple[SharedLedger, SharedLedger]:
        """The ledger as two processes see it, each a member: `one` and `two`."""
        first, second = await opened(), await opened()
        await first.join("one", nobody)
        await second.join("two", nobody)
        return first, second

    # -------------------------------------------------------------------------------------------------- membership
    async def test_who_is_no_member_claims_nothing(self, opened: Callable[..., Awaitable[SharedLedger]]) -> None:
        ledger = await opened()
        job = make_job()
        assert await submit(ledger, job, "stranger") == (job, None)
        with pytest.raises(FencedError):
            await ledger.claim("stranger", 1)
        assert (await ledger.get(job.id)).state is JobState.QUEUED

    async def test_what_one_process_submits_another_claims(self, two: tuple[SharedLedger, SharedLedger]) -> None:
        first, second = two
        job = make_job()
        await submit(first, job, None)
        (claim,) = await second.claim("two", 10)
        assert (claim.job.id, claim.holder) == (job.id, "two")
        assert await first.claim("one", 10) == []
        assert await record(second, claim, ended("a", 1), end=Settlement(SUCCEEDED, result=1)) is not None
        assert (await first.get(job.id)).result == 1

    async def test_what_a_member_that_leaves_holds_is_claimed_at_once_and_no_crash(
        self, two: tuple[SharedLedger, SharedLedger]
    ) -> None:
        first, second = two
        claim = await claimed(first, holder="one")
        await first.leave("one")
        (again,) = await second.claim("two", 10)
        assert (again.job.id, again.attempt, again.crashes) == (claim.job.id, 2, 0)
        with pytest.raises(FencedError):
            await record(first, claim, fact("late"))
        await submit(first, make_job(), "one")
        with pytest.raises(FencedError):
            await first.claim("one", 1)

    async def test_records_handed_over_before_leaving_count(self, two: tuple[SharedLedger, SharedLedger]) -> None:
        first, second = two
        claims = [await claimed(first, holder="one") for _ in range(20)]
        async with anyio.create_task_group() as group:
            for claim in claims:
                group.start_soon(_record_end, first, claim)
            await asyncio.sleep(0)
            await first.leave("one")
        assert {job.state for job in await second.find(Filter())} == {SUCCEEDED}

    async def test_others_reaping_while_a_member_leaves_count_no_crash(
        self, two: tuple[SharedLedger, SharedLedger]
    ) -> None:
        first, second = two
        for _ in range(30):
            await claimed(first, holder="one")
        leaving = asyncio.ensure_future(first.leave("one"))
        while not leaving.done():
            await second.reap()
        await leaving
        assert await second.reap() == []
        assert [claim.crashes for claim in await second.claim("two", 100)] == [0] * 30

    # ----------------------------------------------------------------------------------------------------- answers
    async def test_a_large_answer_that_another_gives_is_whole_for_the_holder(
        self, two: tuple[SharedLedger, SharedLedger]
    ) -> None:
        first, second = two
        claim = await claimed(first, holder="one")
        await record(first, claim, (True, "waiting", 3.0, "a", {"reason": "approval"}))
        data = second.seal(await second.get(claim.job.id), {"answer": "x" * 9000})
        assert await second.answer(claim.job.id, "a", [(True, "answered", 4.0, "a", data)]) == 3
        assert (await first.history(claim.job.id))[-1].data == {"answer": "x" * 9000}

    # ------------------------------------------------------------------------------------------------------ leases
    async def test_a_lease_is_renewed_while_there_is_nothing_to_write(
        self, opened: Callable[..., Awaitable[SharedLedger]]
    ) -> None:
        mine, other = await opened(SHORT_LEASE), await opened(SHORT_LEASE)
        await mine.join("mine", nobody)
        claim = await claimed(mine, holder="mine")
        end = asyncio.get_running_loop().time() + 3 * SHORT_LEASE
        while asyncio.get_running_loop().time() < end:
            assert await other.reap() == []
            await asyncio.sleep(SHORT_LEASE / 10)
        assert await record(mine, claim, fact("x")) == (2, [fact("x")])

    async def test_what_a_silent_member_held_goes_to_others_and_it_is_fenced(
        self, opened: Callable[..., Awaitable[SharedLedger]]
    ) -> None:
        silent, other = await opened(SHORT_LEASE), await opened()
        dead = asyncio.Event()
        await silent.join("silent", dead.set)
        await other.join("other", nobody)
        claim = await claimed(silent, holder="silent")
        with self.silenced(silent):
            freed = await until(other.reap)
            assert freed == [claim.job.id]
            (again,) = await other.claim("other", 10)
            assert (again.attempt, again.crashes, again.holder) == (2, 1, "other")
        await asyncio.wait_for(dead.wait(), 10)
        for end in (None, Settlement(SUCCEEDED, result="zombie"), Pause("timer", None, 1)):
            with pytest.raises(FencedError):
                await record(silent, claim, ended("a", "zombie"), end=end)
        await submit(silent, make_job(), "silent")
        with pytest.raises(FencedError):
            await silent.claim("silent", 1)
        assert await record(other, again, ended("a", 1)) == (2, [ended("a", 1)])
        assert await other.reap() == []

    async def test_of_what_kills_its_holders_one_at_a_time_is_claimed(
        self, opened: Callable[..., Awaitable[SharedLedger]]
    ) -> None:
        survivor = await opened()
        await survivor.join("survivor", nobody)
        jobs = [make_job(priority=5) for _ in range(3)]
        for job in jobs:
            await submit(survivor, job, None)
        for name in ("first", "second"):
            victim = await opened(SHORT_LEASE)
            await victim.join(name, nobody)
            assert len(await victim.claim(name, 10)) == 3
            with self.silenced(victim):
                assert sorted(await until(survivor.reap)) == sorted(job.id for job in jobs)
        calm = make_job()
        await submit(survivor, calm, None)
        claims = await survivor.claim("survivor", 10)
        assert [(claim.job.id, claim.crashes) for claim in claims] == [(jobs[0].id, 2), (calm.id, 0)]
        assert await survivor.claim("survivor", 10) == []
        await record(survivor, claims[0], end=Settlement(SUCCEEDED))
        assert [claim.job.id for claim in await survivor.claim("survivor", 10)] == [jobs[1].id]

    async def test_clocks_that_differ_by_ten_minutes_change_no_lease(
        self, opened: Callable[..., Awaitable[SharedLedger]]
    ) -> None:
        ahead = VirtualClock()
        await ahead.advance(600)
        mine, other = await opened(), await opened(LONG_LEASE, ahead)
        await mine.join("mine", nobody)
        await other.join("other", nobody)
        held = await claimed(mine, holder="mine"), await claimed(other, holder="other")
        assert await mine.reap() == []
        assert await other.reap() == []
        await record(mine, held[0], fact("x"))
        await record(other, held[1], fact("x"))

    # ------------------------------------------------------------------------------------------------------- races
    async def test_of_64_claimers_each_segment_gets_one(self, opened: Callable[..., Awaitable[SharedLedger]]) -> None:
        ledgers = [await opened(), await opened()]
        for number in range(64):
            await ledgers[number % 2].join(f"claimer-{number}", nobody)
        jobs = [make_job(priority=i % 3) for i in range(1000)]
        await asyncio.gather(*(submit(ledgers[i % 2], job, None) for i, job in enumerate(jobs)))
        claims: list[Claim] = []

        async def take_all(number: int) -> None:
            while got := await ledgers[number % 2].claim(f"claimer-{number}", 5):
                claims.extend(got)

        async with anyio.create_task_group() as group:
            for number in range(64):
                group.start_soon(take_all, number)
        assert len(claims) == 1000
        assert sorted(claim.job.id for claim in claims) == sorted(job.id for job in jobs)
        assert {claim.attempt for claim in claims} == {1}

    async def test_of_many_submits_with_one_key_everywhere_one_counts(
        self, two: tuple[SharedLedger, SharedLedger]
    ) -> None:
        jobs = [make_job(idempotency_key=f"k{i % 3}") for i in range(60)]
        answers = await asyncio.gather(*(submit(two[i // 3 % 2], job, None) for i, job in enumerate(jobs)))
        assert len({job.id for job, _ in answers}) == 3
        assert len(await two[0].find(Filter())) == 3

    @pytest.mark.parametrize("seed", range(5))
    async def test_of_two_processes_that_race_for_an_alias_one_gets_it_and_the_other_is_refused(
        self, two: tuple[SharedLedger, SharedLedger], seed: int
    ) -> None:
        first, second = random.Random(seed).sample(two, 2)  # noqa: S311  no secrets are made of it
        names = [f"task {seed}-{number}" for number in range(20)]
        bystanders = [make_job() for _ in range(10)]
        outcomes = await asyncio.gather(
            *(submit(first, make_job(), "one" if first is two[0] else "two", **{name: "a"}) for name in names),
            *(submit(second, make_job(), None, **{name: "b"}) for name in reversed(names)),
            *(submit(two[i % 2], job, None) for i, job in enumerate(bystanders)),
            return_exceptions=True,
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert {type(error) for error in refused} == {IdempotencyConflictError}
        assert len(refused) == len(names)
        found = {job.id for job in await first.find(Filter())}
        owners = {job_id for name in names for job_id, _ in [await first.alias(name) or ("", "")]}
        assert len(owners) == len(names)
        assert found == owners | {job.id for job in bystanders}

    @pytest.mark.parametrize("seed", range(5))
    async def test_a_cancel_and_a_finish_have_one_winner(
        self, two: tuple[SharedLedger, SharedLedger], seed: int
    ) -> None:
        first, second = two
        chance = random.Random(seed)  # noqa: S311  no secrets are made of it
        jobs = [make_job() for _ in range(20)]
        for job in jobs:
            await submit(first, job, None)
        told: dict[str, set[JobState]] = {job.id: set() for job in jobs}

        async def finish() -> None:
            while got := await first.claim("one", chance.randint(1, 4)):
                for claim in got:
                    await record(first, claim, end=Settlement(SUCCEEDED, result=1))
                    told[claim.job.id].add(SUCCEEDED)

        async def cancel() -> None:
            for job in chance.sample(jobs, 20):
                answer, number = await second.cancel(job.id, [CANCEL])
                told[job.id] |= {answer.state} if answer.state.is_final else set()
                assert (number is None) or answer.state is CANCELLED

        await asyncio.gather(finish(), cancel())
        for job in jobs:
            state = (await first.get(job.id)).state
            assert told[job.id] == {state}
            events = await second.events(job.id, 0, 10)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert [event.data["state"] for event in events if event.type == TERMINAL] == [state.value]

    # -------------------------------------------------------------------------------------------------------- news
    async def test_a_holder_learns_what_others_did(self, two: tuple[SharedLedger, SharedLedger]) -> None:
        first, second = two
        claims = [await claimed(first, holder="one") for _ in range(2)]
        await record(first, claims[0], (True, "waiting", 3.0, "a", {"reason": "approval"}))
        await second.answer(claims[0].job.id, "a", [(True, "answered", 4.0, "a", {"answer": 1})])
        await second.cancel(claims[1].job.id, [CANCEL])
        ids = [claim.job.id for claim in claims]
        assert await first.held("one") == [
            Held(ids[0], cancel_requested=False, head=3),
            Held(ids[1], cancel_requested=True, head=1),
        ]
        assert await first.held("two") == []
        assert await second.heads([*ids, new_id()]) == {ids[0]: 3, ids[1]: 1}
        assert await second.heads([]) == {}


async def _record_end(ledger: SharedLedger, claim: Claim) -> None:
    await record(ledger, claim, ended("a", 1), end=Settlement(SUCCEEDED))
