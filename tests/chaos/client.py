"""A client that submits, follows, cancels and decides, and logs what it is told. It may be killed and begins anew."""

from __future__ import annotations

import asyncio
import itertools
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millstream import Job, JobState, Millstream
from millstream.ledger.base import IdempotencyConflictError
from millstream.model.event import Cursor, Event
from millstream.model.job import Decision, JobRecord
from millstream.model.value import decode_shown, encode
from millstream.testing.history import (
    CancelAnswered,
    Looked,
    ObservationLog,
    Seen,
    StreamEnded,
    StreamOpened,
    Submitted,
    digest,
    now,
)

FLOWS = {
    "chain": 5,
    "fan": 5,
    "mapped": 4,
    "retried": 3,
    "napping": 2,
    "purely": 3,
    "sealed": 4,
    "broken": 1,
    "conducted": 5,
    "resting": 1,
    "spread": 0.3,
    "scattered": 6,
    "gives_up": 3,
}
"""How often each flow of `load` is submitted, in proportion."""


@dataclass(frozen=True)
class Plan:
    """What a client does.

    Attributes:
        name: Begins its idempotency keys; one that begins anew has the same.
        seed: Decides what each of its submits is.
        open_jobs: How many of its jobs may be under way at once.
        log: What it is told.
        stop: It submits no more when this file is there, and returns when its jobs have ended.
    """

    name: str
    seed: int
    open_jobs: int
    log: Path
    stop: Path


class Client:
    """One life of a client.

    Args:
        plan: What it does.
        app: Where it does it; its flows are those of `load`.
    """

    def __init__(self, plan: Plan, app: Millstream) -> None:
        """Read what former lives were told."""
        self._plan = plan
        self._app = app
        self._log = ObservationLog(plan.log)
        self._accepted: dict[str, str] = {}
        self._asked: set[str] = set()
        self._ended: set[str] = set()
        for one in self._log.read():
            match one:
                case Submitted(outcome="unknown", key=str(key)):
                    self._asked.add(key)
                case Submitted(outcome="accepted", key=str(key)):
                    self._accepted[key] = one.job
                case Looked(state="succeeded" | "failed" | "cancelled"):
                    self._ended.add(one.job)

    async def live(self) -> None:
        """Go on with the jobs of former lives, and submit new ones until it is to stop."""
        slots = asyncio.Semaphore(self._plan.open_jobs)
        async with asyncio.TaskGroup() as group:
            for number in itertools.count():
                key = f"{self._plan.name}-{number}"
                if key not in self._asked and self._plan.stop.exists():
                    break
                if self._accepted.get(key) not in self._ended:
                    await slots.acquire()
                    group.create_task(self._care(key, slots))

    async def _care(self, key: str, slots: asyncio.Semaphore) -> None:
        """Bring one job from its submit to its end."""
        chance = random.Random(f"{self._plan.seed}-{key}")  # noqa: S311  it is to be the same in each life
        try:
            job = await self._submitted(key, chance)
            if chance.random() < 0.1:
                await asyncio.sleep(chance.random() * 0.2)
                self._log.put(CancelAnswered(job=job.id, state=(await job.cancel()).value, at=now()))
            await self._follow(job, Cursor(0, 0))
            look(self._log, await job.record())
        finally:
            slots.release()

    async def _submitted(self, key: str, chance: random.Random) -> Job:
        flow = chance.choices(list(FLOWS), list(FLOWS.values()))[0]
        inputs: dict[str, Any] = {}
        if flow in ("chain", "purely"):
            inputs["length"] = chance.randint(2, 8)
        elif flow == "scattered":
            inputs["seed"] = chance.randrange(10**6)
        body = digest(flow, inputs)
        self._log.put(Submitted(job="", outcome="unknown", key=key, body=body))
        job = await self._app.submit(flow, idempotency_key=key, **inputs)
        self._log.put(Submitted(job=job.id, key=key, body=body))
        if chance.random() < 0.05:
            await self._submit_another(key)
        return job

    async def _submit_another(self, key: str) -> None:
        """Hand in something else under a key that is known."""
        body = digest("chain", 99)
        try:
            job = await self._app.submit("chain", idempotency_key=key, length=99)
        except IdempotencyConflictError:
            self._log.put(Submitted(job="", outcome="refused", key=key, body=body))
        else:
            self._log.put(Submitted(job=job.id, key=key, body=body))

    async def _follow(self, job: Job, after: Cursor) -> None:
        reader = f"{self._plan.name}-{now()}"
        self._log.put(StreamOpened(job=job.id, reader=reader, seq=after.seq, k=after.k))
        async for event in job.events(after):
            self._log.put(seen(job.id, reader, event))
            match event:
                case Event(type="waiting", node=str(node), data={"reason": "decision"}):
                    await job.approve(node, self._decision(job))
        self._log.put(StreamEnded(job=job.id, reader=reader))

    def _decision(self, job: Job) -> Decision:
        """Decide about a node of which nobody knows whether it has run; it must not run again."""
        chance = random.Random(f"{self._plan.seed}-{job.id}")  # noqa: S311  as in `_care`
        return chance.choice([Decision("fail"), Decision("done", "decided")])


def seen(job_id: str, reader: str, event: Event) -> Seen:
    """Return the observation of an event."""
    return Seen(job=job_id, reader=reader, seq=event.seq, k=event.k, type=event.type, digest=digest_of(event))


def digest_of(event: Event) -> str:
    """Return the digest of all that an event says, in the form in which one who comes later is shown it."""
    return digest(event.type, event.at, event.node, decode_shown(encode(event.data)))


def look(log: ObservationLog, record: JobRecord) -> None:
    """Log what a client is told of a job."""
    result = digest(record.result) if record.state is JobState.SUCCEEDED else None
    log.put(Looked(job=record.id, state=record.state.value, result=result))
