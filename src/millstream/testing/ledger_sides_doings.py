"""Random doings of processes that execute jobs together, and what must hold after each of them."""

from __future__ import annotations

import random

from millstream.ledger.base import Claim, Done, End, FencedError, Ledger, Pause, Settlement
from millstream.testing.clock import VirtualClock
from millstream.testing.ledger_doings import (
    CANCEL,
    CANCELLED,
    ME,
    OTHER,
    SUCCEEDED,
    claimed,
    ended,
    fact,
    handed_out,
    record,
    taken_back,
)

_JOBS_HELD = 3


class SideHistory:
    """Jobs whose main segments hand nodes out, and who holds what of them.

    Args:
        ledger: Where all of it is done.
        clock: The ledger's.
        chance: Decides what happens.
    """

    def __init__(self, ledger: Ledger, clock: VirtualClock, chance: random.Random) -> None:
        self.ledger, self.clock, self.chance = ledger, clock, chance
        self.held: dict[tuple[str, int], Claim] = {}
        self.last: dict[str, int] = {}
        self.over: list[Claim] = []

    async def step(self) -> None:
        """Do one thing."""
        doings = [
            self._submit,
            self._claim,
            self._claim,
            self._hand_out,
            self._hand_out,
            self._record,
            self._late,
            self._cancel,
        ]
        await self.chance.choice([*doings, self._lay_down, self._lay_down, self._done, self._take_back])()

    async def _submit(self) -> None:
        if len({job_id for job_id, _ in self.held}) >= _JOBS_HELD:
            return
        claim = await claimed(self.ledger, priority=self.chance.randint(0, 1))
        self.held[claim.job.id, 1] = claim
        self.last[claim.job.id] = 1

    async def _claim(self) -> None:
        await self.clock.advance(self.chance.choice([0, 0, 40]))
        sides = self.chance.choice([None, None, 0, 1])
        got = await self.ledger.claim(self.chance.choice([ME, OTHER]), self.chance.randint(1, 4), None, None, sides)
        assert sides is None or sum(claim.segment > 1 for claim in got) <= sides
        self.take(got)

    def take(self, claims: list[Claim]) -> None:
        """Have claims, which nobody else has, and which are not those of a job that is about to be cancelled."""
        for claim in claims:
            assert (claim.job.id, claim.segment) not in self.held
            assert (claim.order is None) == (claim.segment == 1)
            if claim.job.cancel_requested:
                assert claim.segment == 1
                assert not self._sides(claim.job.id)
            self.held[claim.job.id, claim.segment] = claim

    def _sides(self, job_id: str) -> list[int]:
        return [segment for known, segment in self.held if known == job_id and segment > 1]

    def _any(self, *, is_main: bool | None = None) -> Claim | None:
        found = [claim for (_, segment), claim in self.held.items() if is_main in (None, segment == 1)]
        return self.chance.choice(found) if found else None

    async def _hand_out(self) -> None:
        main = self._any(is_main=True)
        if main is not None:
            number = self.last[main.job.id] = self.last[main.job.id] + 1
            await record(self.ledger, main, fact("x"), handed_out(number, f"n{number}"))

    async def _record(self) -> None:
        claim = self._any()
        if claim is not None:
            nodes = [f"n{self.chance.randint(1, 6)}" for _ in range(3)]
            await record(self.ledger, claim, *[ended(node, claim.segment) for node in nodes], fact("y"))

    async def _late(self) -> None:
        if self.over:
            claim = self.chance.choice(self.over)
            try:
                await record(self.ledger, claim, ended("late", 1), end=Done() if claim.segment > 1 else None)
            except FencedError:
                return
            raise AssertionError(f"{claim} was over, and recorded something")

    async def _end(self, claim: Claim, end: End) -> None:
        await record(self.ledger, claim, end=end)
        self._drop(claim.job.id, claim.segment)
        if isinstance(end, Settlement):
            for segment in self._sides(claim.job.id):
                self._drop(claim.job.id, segment)

    def _drop(self, job_id: str, segment: int) -> None:
        claim = self.held.pop((job_id, segment), None)
        if claim is not None:
            self.over.append(claim)

    async def _lay_down(self) -> None:
        claim = self._any()
        if claim is not None:
            soon, seen = self.clock.now() + 30, self.chance.choice([0, 10_000])
            pauses = (
                [Pause("timer", soon, seen), Pause("shutdown", None, seen)]
                if claim.segment > 1
                else [Pause("handed_out", None, seen), Pause("handed_out", soon, seen), Pause("shutdown", None, seen)]
            )
            await self._end(claim, self.chance.choice(pauses))

    async def _done(self) -> None:
        claim = self._any(is_main=False)
        if claim is not None:
            await self._end(claim, Done())

    async def _take_back(self) -> None:
        main = self._any(is_main=True)
        if main is not None and self.last[main.job.id] > 1:
            number = self.chance.randint(2, self.last[main.job.id])
            await record(self.ledger, main, taken_back(number))
            self._drop(main.job.id, number)

    async def _cancel(self) -> None:
        claim = self._any() or (self.chance.choice(self.over) if self.over else None)
        if claim is None:
            return
        job_id = claim.job.id
        before = await self.ledger.get(job_id)
        job, first = await self.ledger.cancel(job_id, [CANCEL])
        is_held = any(known == job_id for known, _ in self.held)
        assert before.state.is_final or job.state.is_final != is_held
        assert (first is not None) == (not before.state.is_final and not is_held)

    async def check(self) -> None:
        """See that events are numbered densely, and nodes ended once."""
        for job_id in self.last:
            events = await self.ledger.events(job_id, 0, 10_000)
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            paths = [result.path for result in await self.ledger.node_results(job_id)]
            assert len(paths) == len(set(paths))
        for claim in self.held.values():
            assert not (await self.ledger.get(claim.job.id)).state.is_final

    async def drive(self) -> None:
        """Let all jobs come to their ends: side segments first, so that main ones which wait have to be woken."""
        while True:
            for claim in [claim for claim in self.held.values() if claim.segment > 1]:
                await self._end(claim, Done())
            await self.clock.advance(60)
            got = await self.ledger.claim(ME, 100)
            self.take(got)
            if not got and not self.held:
                break
            if not any(claim.segment > 1 for claim in self.held.values()):
                for claim in list(self.held.values()):
                    asked = (await self.ledger.get(claim.job.id)).cancel_requested
                    await self._end(claim, Settlement(CANCELLED, "cancel") if asked else Settlement(SUCCEEDED))
        for job_id in self.last:
            assert (await self.ledger.get(job_id)).state.is_final
