"""Jobs, drafts and doings that the suite of ledgers is written with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec.structs import replace

from millstream.clock import new_id
from millstream.ledger.base import Claim, End, FencedError, JobGraph, Ledger, Settlement
from millstream.model.event import TERMINAL, Draft, Event
from millstream.model.graph import Graph, Node
from millstream.model.job import JobRecord, JobState

ME, OTHER = "process-1", "process-2"
SUCCEEDED, FAILED, CANCELLED = JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED
GRAPH = Graph(nodes=(Node(id="a", task="a.task"), Node(id="b", task="a.task")), slots=2)
PLANNED: Draft = (True, "planned", 1.0, None, {"nodes": 2})
CANCEL: Draft = (True, TERMINAL, 2.0, None, {"state": "cancelled", "reason": "cancel"})


def make_job(**fields: Any) -> JobRecord:
    """Return a job that can be submitted, as the submitter makes it."""
    defaults = {"id": new_id(), "flow": "a.flow", "version": "v1", "graph": "g1", "state": JobState.QUEUED}
    return JobRecord(**{**defaults, "created_at": 1.0, **fields})


def fact(kind: str, node: str | None = None, data: Any = None) -> Draft:
    """Return a durable event's draft."""
    return True, kind, 3.0, node, data


def passing(kind: str) -> Draft:
    """Return a volatile event's draft."""
    return False, kind, 3.0, "a", {"text": kind}


def ended(node: str, value: Any) -> Draft:
    """Return the draft of a node's success."""
    return True, "node_succeeded", 3.0, node, {"attempt": 1, "value": value}


def handed_out(segment: int, *nodes: str, queue: str | None = None) -> Draft:
    """Return the draft that makes a side segment of these nodes."""
    return fact("handed_out", None, {"segment": segment, "queue": queue, "nodes": [{"path": path} for path in nodes]})


def taken_back(segment: int) -> Draft:
    """Return the draft that ends a side segment."""
    return fact("taken_back", None, {"segment": segment})


async def submit(
    ledger: Ledger, job: JobRecord, claim_for: str | None, **aliases: str
) -> tuple[JobRecord, Claim | None]:
    """Submit a job, as the submitter does."""
    return await ledger.submit(job, JobGraph(GRAPH, [1, "two"], aliases), [PLANNED], claim_for)


def nobody() -> None:
    """Be told of a death, and do nothing."""


async def claimed(ledger: Ledger, holder: str = ME, **fields: Any) -> Claim:
    """Submit a job, claim it with that, and return the claim."""
    _, claim = await submit(ledger, make_job(**fields), holder)
    assert claim is not None
    return claim


async def record(ledger: Ledger, claim: Claim, *drafts: Draft, end: End | None = None) -> tuple[int, list[Draft]]:
    """Record, wait for the answer, and return it; a refusal is raised."""
    answer: asyncio.Future[tuple[int | FencedError, Sequence[Draft]]] = asyncio.get_running_loop().create_future()

    def done(first: int | FencedError, kept: Sequence[Draft]) -> None:
        assert not answer.done(), "`done` is to be called exactly once"
        answer.set_result((first, kept))

    ledger.record(claim, drafts, end, done)
    first, kept = await asyncio.wait_for(answer, 120)
    if isinstance(first, FencedError):
        raise first
    return first, list(kept)


async def until(doing: Callable[[], Awaitable[list[str]]]) -> list[str]:
    """Do something until it gives something, and return that."""
    async with asyncio.timeout(120):
        while not (given := await doing()):  # noqa: ASYNC110  what others do is seen by looking
            await asyncio.sleep(0.02)
        return given


class History:
    """Random doings on a ledger, and what must hold after each of them."""

    def __init__(self, ledger: Ledger, chance: random.Random) -> None:
        self.ledger = ledger
        self.chance = chance
        self.claims: list[Claim] = []
        self.jobs: dict[str, JobRecord] = {}
        self.events: dict[str, list[Event]] = {}

    async def step(self) -> None:
        """Do one thing."""
        await self.chance.choice([self._submit, self._claim, self._record, self._record, self._settle, self._cancel])()

    async def _submit(self) -> None:
        key = self.chance.choice([None, None, "k1", "k2"])
        holder = self.chance.choice([None, ME])
        job, claim = await submit(self.ledger, make_job(idempotency_key=key), holder)
        self.jobs.setdefault(job.id, job)
        self.claims.extend([claim] if claim else [])

    async def _claim(self) -> None:
        self.claims.extend(await self.ledger.claim(self.chance.choice([ME, OTHER]), self.chance.randint(1, 3)))

    async def _record(self, end: Settlement | None = None) -> None:
        if self.claims:
            claim = self.chance.choice(self.claims)
            claim = self.chance.choice([claim, claim, claim, replace(claim, holder="stranger")])
            drafts = [self.chance.choice([fact("x"), passing("p"), ended("a", 1), ended("b", 2)]) for _ in range(3)]
            try:
                await record(self.ledger, claim, *drafts, end=end)
            except FencedError:
                return

    async def _settle(self) -> None:
        await self._record(Settlement(self.chance.choice([SUCCEEDED, FAILED, CANCELLED])))

    async def _cancel(self) -> None:
        if self.jobs:
            await self.ledger.cancel(self.chance.choice(list(self.jobs)), [CANCEL])

    async def check(self) -> None:
        """Compare with what was seen before."""
        for job_id, before in self.jobs.items():
            job, events = await self.ledger.get(job_id), await self.ledger.events(job_id, 0, 10_000)
            assert not before.state.is_final or job == before
            assert events[: len(self.events.get(job_id, ()))] == self.events.get(job_id, [])
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            terminal = [event for event in events if event.type == TERMINAL]
            assert [event.data["state"] for event in terminal] == ([job.state.value] if job.state.is_final else [])
            assert terminal == (events[-1:] if job.state.is_final else [])
            paths = [result.path for result in await self.ledger.node_results(job_id)]
            assert len(paths) == len(set(paths))
            self.jobs[job_id], self.events[job_id] = job, events
