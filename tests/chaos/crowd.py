"""The load of a fleet of server processes: people who submit, read, poll, cancel and answer over HTTP, at any of them.

Answers are lost on the way, streams are left and taken up again elsewhere from the last cursor. Everything that anybody
is told goes into logs outside of the system.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from millstream.desk import told
from millstream.model.event import Cursor, Event
from millstream.model.value import decode_shown, encode
from millstream.server.flows.python import id_of
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
from tests.chaos.told import Told, ToldLog
from tests.chaos.wire import SSE, Answer, BrokenError, Message, RefusedError, Wire, messages_in
from tests.documents import document, node

LATE = "late-"
"""Begins the names of readers who come when all jobs have ended."""

FLOWS = {
    "chain": 4,
    "fan": 3,
    "mapped": 3,
    "retried": 3,
    "napping": 2,
    "purely": 2,
    "sealed": 3,
    "broken": 1,
    "conducted": 4,
    "resting": 1,
    "talking": 6,
    "asked": 2,
    "document": 5,
}
"""How often each flow of `load` is submitted, in proportion; `document` is one of nodes and edges."""

WAYS = {"build": 6, "direct": 1, "run": 2, "task": 4, "webhook": 2}
"""How often each way to start a job is taken, in proportion."""

_LOAD = "tests.chaos.load"
_LOSES = 0.15
_LEAVES = 0.3
_CANCELS = 0.08
_PAUSE_SECONDS = 0.05
_LATE_READERS = 16
_MINE = (200, 409)


DOCUMENT = document(
    [
        node("in", "ChatInput"),
        node("first", f"{_LOAD}.noted"),
        node("nap", "Wait", seconds=0.3),
        node("turns", "Loop"),
        node("turn", f"{_LOAD}.noted", parent="turns"),
        node("enough", f"{_LOAD}.tossed", parent="turns"),
        node("many", f"{_LOAD}.listed", width=6),
        node("out", "TextOutput"),
    ],
    ("in.text", "first.text"),
    ("first.result", "nap.value"),
    ("nap.value", "turns.value"),
    ("turns.current", "turn.text"),
    ("turn.result", "turns.next"),
    ("turn.result", "enough.text"),
    ("enough.result", "turns.done"),
    ("turns.result", "out.input_value"),
)
"""A flow with a wait, a loop and a map, each of whose nodes has an effect."""


@dataclass(frozen=True)
class CrowdPlan:
    """What a crowd does.

    Attributes:
        ports: Where the servers listen, on 127.0.0.1.
        seed: Decides what each submit is.
        open_jobs: How many jobs may be under way at once.
        home: Where it logs: `client`, `told`, `refused` and `asked`, the jobs that somebody asked to cancel.
        stop: It submits no more when this file is there, reads everything once more, and returns.
    """

    ports: tuple[int, ...]
    seed: int
    open_jobs: int
    home: Path
    stop: Path


@dataclass(frozen=True)
class Order:
    """One job that is to be started.

    Attributes:
        way: How; one of `WAYS`.
        key: Its idempotency key, as it is sent.
        flow: What is run.
        inputs: With which inputs.
    """

    way: str
    key: str
    flow: str
    inputs: dict[str, Any]


class Crowd:
    """Does what its plan says.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: CrowdPlan) -> None:
        """Ask nothing yet."""
        self._plan = plan
        self._log = ObservationLog(plan.home / "client")
        self._told = ToldLog(plan.home / "told")
        self._wire = Wire(plan.ports, random.Random(plan.seed))  # noqa: S311  to be told by its seed
        self._jobs: dict[str, bool] = {}
        self._user = self._document = ""

    async def live(self) -> None:
        """Submit until it is to stop, bring everything to its end, and read it all once more."""
        try:
            await self._settle()
            slots = asyncio.Semaphore(self._plan.open_jobs)
            async with asyncio.TaskGroup() as group:
                for number in itertools.count():
                    await slots.acquire()
                    if self._plan.stop.exists():
                        break
                    group.create_task(self._care(number, slots))
            await self._come_late()
        finally:
            self._wire.close()

    async def _settle(self) -> None:
        """Ask who this is, and keep the flow document."""
        self._user = (await self._wire.ask("GET", "/api/v1/users/whoami")).told["id"]
        flow = {"name": "document", "data": DOCUMENT}
        self._document = (await self._wire.ask("POST", "/api/v1/flows/", flow, expected=(201,))).told["id"]

    async def _care(self, number: int, slots: asyncio.Semaphore) -> None:
        """Bring one job from its submit to its end."""
        chance = random.Random(f"{self._plan.seed}-{number}")  # noqa: S311  as above
        try:
            order = self._order(number, chance)
            job_id = await self._submitted(order, chance)
            is_build = order.way in ("build", "direct")
            self._jobs[job_id] = is_build
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(job_id, f"{number}", chance))
                if order.way == "direct":  # the answer to a request that is sent again is as whole
                    group.create_task(self._view(job_id, f"{number}-direct", chance, again=order))
                for viewer in range(chance.randint(1, 2) if is_build else 0):
                    group.create_task(self._view(job_id, f"{number}-{viewer}", chance))
                if chance.random() < _CANCELS:
                    group.create_task(self._cancel(job_id, chance, is_build=is_build))
            await self._look(job_id)
        except RefusedError as error:
            self._refused(error)
        finally:
            slots.release()

    def _order(self, number: int, chance: random.Random) -> Order:
        way = chance.choices(list(WAYS), list(WAYS.values()))[0]
        flow = "hooked" if way == "webhook" else chance.choices(list(FLOWS), list(FLOWS.values()))[0]
        if flow == "document" and way == "task":
            flow = "conducted"  # a document is no task
        if flow == "asked" and way == "run":
            flow = "chain"
        inputs = {"length": chance.randint(2, 8)} if flow in ("chain", "purely") else {}
        return Order(way, f"order-{number}", flow, inputs)

    def _refused(self, error: RefusedError) -> None:
        with (self._plan.home / "refused").open("a", encoding="utf-8") as file:
            file.write(f"{error}\n")

    # ---------------------------------------------------------------------------------------------------- submits
    async def _submitted(self, order: Order, chance: random.Random) -> str:
        key, body = f"{self._user}/{order.key}", digest(order.way, order.flow, order.inputs)
        self._log.put(Submitted(job="", outcome="unknown", key=key, body=body))
        if order.way == "direct":
            job_id = await self._begin_directly(order)
        else:
            job_id = await self._begin(order)
        self._log.put(Submitted(job=job_id, key=key, body=body))
        if chance.random() < 0.05:
            await self._submit_another(order)
        return job_id

    async def _begin(self, order: Order) -> str:
        path, body = self._request(order)
        ask = self._wire.ask
        headers = {"Idempotency-Key": order.key}
        match order.way:
            case "build":
                answer = await ask("POST", path, body, headers=headers, loses=_LOSES)
                job_id: str = answer.told["job_id"]
            case "run":
                answer = await ask("POST", path, body, headers=headers, loses=_LOSES, expected=(200, 202, 409, 500))
                job_id = _job_of_run(answer)
            case "task":
                answer = await ask("POST", path, body, headers=headers, loses=_LOSES, expected=(202,))
                job_id = answer.told["task_id"]
            case _:
                answer = await ask("POST", path, body, headers=headers, loses=_LOSES, expected=(202,))
                job_id = answer.told["job_id"]
        return job_id

    def _request(self, order: Order) -> tuple[str, Any]:
        """Return the path and the body of the request that starts a job."""
        name = f"{_LOAD}.{order.flow}"
        is_document = order.flow == "document"
        match order.way:
            case "build" | "direct":
                delivery = "direct" if order.way == "direct" else "streaming"
                flow = self._document if is_document else id_of(name)
                return f"/api/v1/build/{flow}/flow?event_delivery={delivery}", {"inputs": order.inputs}
            case "run":
                return f"/api/v1/run/{self._document if is_document else name}", {"inputs": order.inputs or None}
            case "task":
                return "/run-task", {"task": name, "kwargs": order.inputs}
            case _:
                return f"/api/v1/webhook/{name}", {"order": order.key}

    async def _begin_directly(self, order: Order) -> str:
        """Start a build whose stream is the answer itself."""
        path, body = self._request(order)
        while True:
            headers: dict[str, str] = {}
            coming = self._wire.messages("POST", path, body, headers={"Idempotency-Key": order.key}, seen=headers)
            try:
                async with aclosing(coming):
                    async for _ in coming:
                        break
            except BrokenError:
                pass
            if headers:
                return headers["location"].split("/")[-2]
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _submit_another(self, order: Order) -> None:
        """Hand in something else under a key that is known."""
        key, body = f"{self._user}/{order.key}", digest("another")
        given = {"task": f"{_LOAD}.chain", "kwargs": {"length": 99}}
        headers = {"Idempotency-Key": order.key}
        answer = await self._wire.ask("POST", "/run-task", given, headers=headers, expected=(202, 409))
        if answer.status == 409:
            self._log.put(Submitted(job="", outcome="refused", key=key, body=body))
        else:
            self._log.put(Submitted(job=answer.told["task_id"], key=key, body=body))

    # ---------------------------------------------------------------------------------------------------- reading
    async def _read(self, job_id: str, reader: str, chance: random.Random, *, is_late: bool = False) -> None:
        """Read a job's events to the end, over as many connections as it takes, and answer what is asked."""
        self._log.put(StreamOpened(job=job_id, reader=reader))
        async for message in self._stream(f"/api/v1/jobs/{job_id}/events", chance, leaves=0.0 if is_late else _LEAVES):
            at, event = Cursor.parse(message.cursor), message.told
            mark = (event["data"] or {}).get("message", "") if at.k else ""
            said = mark or digest_of_told(event)
            self._log.put(Seen(job=job_id, reader=reader, seq=at.seq, k=at.k, type=event["type"], digest=said))
            if event["type"] == "ended":
                break
            if event["type"] == "waiting" and not is_late:
                await self._answer(job_id, event)
        self._log.put(StreamEnded(job=job_id, reader=reader))

    async def _view(self, job_id: str, reader: str, chance: random.Random, *, again: Order | None = None) -> None:
        """Read a build's lines to the end, as streams or by polls, over as many connections as it takes."""
        path = f"/api/v1/build/{job_id}/events"
        is_polling = again is None and chance.random() < 0.4
        coming = self._polled(path) if is_polling else self._stream(path, chance, leaves=_LEAVES, first=again)
        lines: list[Any] = []
        async for message in coming:
            lines.append(message.told)
            if not message.cursor:
                continue  # the event gave more lines
            is_end = lines[-1]["event"] == "end"
            self._told.put(Told(job_id, reader, message.cursor, tuple(map(digest, lines)), is_end))
            lines = []
            if is_end:
                return

    async def _stream(
        self, path: str, chance: random.Random, *, leaves: float, first: Order | None = None
    ) -> AsyncGenerator[Message, None]:
        """Yield the messages of a stream for ever; each time it breaks or is left, another server goes on with it."""
        cursor = ""
        while True:
            left = chance.randint(1, 10) if chance.random() < leaves else -1
            if first is not None:
                coming = self._wire.messages("POST", *self._request(first), headers={"Idempotency-Key": first.key})
                first = None
            else:
                coming = self._wire.messages("GET", path, headers={"Last-Event-ID": cursor} if cursor else None)
            try:
                async with aclosing(coming):
                    async for message in coming:
                        cursor = message.cursor or cursor
                        yield message
                        left -= 1
                        if left == 0 and message.cursor:
                            break
            except BrokenError:
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _polled(self, path: str) -> AsyncGenerator[Message, None]:
        cursor = "0-0"
        while True:
            query = f"{path}?event_delivery=polling&after={cursor}&wait=2"
            answer = await self._wire.ask("GET", query, headers=SSE)
            for message in messages_in(answer.body.split(b"\n\n")):
                yield message
            cursor = answer.headers["x-next-cursor"]

    async def _look(self, job_id: str) -> None:
        answer = await self._wire.ask("GET", f"/api/v1/jobs/{job_id}", expected=(200, 404))
        if answer.status != 200:
            self._log.put(Looked(job=job_id, state=None))
            return
        state = answer.told["state"]
        result = digest(answer.told["result"]) if state == "succeeded" else None
        self._log.put(Looked(job=job_id, state=state, result=result))

    # ----------------------------------------------------------------------------------------------------- acting
    async def _cancel(self, job_id: str, chance: random.Random, *, is_build: bool) -> None:
        await asyncio.sleep(chance.random() * 0.3)
        area = "build" if is_build and chance.random() < 0.5 else "jobs"
        with (self._plan.home / "asked").open("a", encoding="utf-8") as file:
            file.write(f"{job_id}\n")
        answer = await self._wire.ask("POST", f"/api/v1/{area}/{job_id}/cancel", expected=(200, 202, 409), loses=_LOSES)
        default = "cancelled" if answer.status == 200 else ""
        self._log.put(CancelAnswered(job=job_id, state=answer.told.get("state", default), at=now()))

    async def _answer(self, job_id: str, event: dict[str, Any]) -> None:
        """Answer what is asked; somebody may have, since this request may be the second of its kind."""
        chance = random.Random(f"{self._plan.seed}-{job_id}")  # noqa: S311  as above
        match event["data"]["reason"]:
            case "approval":
                said: dict[str, Any] = {"answer": "yes"}
            case "decision":
                said = chance.choice([{"decision": "fail"}, {"decision": "done", "value": "decided"}])
            case _:
                return
        body = {"node": event["node"], **said}
        await self._wire.ask("POST", f"/api/v1/jobs/{job_id}/approve", body, expected=_MINE, loses=_LOSES)

    # --------------------------------------------------------------------------------------------------- afterwards
    async def _come_late(self) -> None:
        """Read everything once more, now that it has ended."""
        slots = asyncio.Semaphore(_LATE_READERS)

        async def read(job_id: str, chance: random.Random, *, is_build: bool) -> None:
            async with slots:
                try:
                    await self._read(job_id, f"{LATE}{job_id}", chance, is_late=True)
                    if is_build:
                        await self._view(job_id, f"{LATE}{job_id}", chance)
                    await self._look(job_id)
                except RefusedError as error:
                    self._refused(error)

        async with asyncio.TaskGroup() as group:
            for job_id, is_build in self._jobs.items():
                chance = random.Random(f"{self._plan.seed}-{job_id}")  # noqa: S311  as above
                group.create_task(read(job_id, chance, is_build=is_build))


def live(plan: CrowdPlan) -> None:
    """Be a crowd, from its beginning to its end."""
    asyncio.run(Crowd(plan).live())


def lines_of(path: Path) -> Sequence[str]:
    """Return the lines of a file of a crowd; there are none where it wrote none."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else ()


def digest_of_event(event: Event) -> str:
    """Return the digest of a durable event, as `digest_of_told` makes it of what a server tells of it."""
    shown = Event(event.seq, event.k, event.type, event.at, event.node, decode_shown(encode(event.data)))
    return digest_of_told(json.loads(msgspec.json.encode(told.event(shown))))


def digest_of_told(event: dict[str, Any]) -> str:
    """Return the digest of what a server tells of an event."""
    return digest({name: value for name, value in event.items() if name != "cursor"})


def _job_of_run(answer: Answer) -> str:
    """Return the job of a run, whatever became of it.

    Raises:
        RefusedError: The answer tells of none: the server itself failed.
    """
    if "location" in answer.headers:
        return answer.headers["location"].rpartition("/")[2]
    job_id: str | None = answer.told.get("job_id")
    if job_id is None:
        raise RefusedError("a run", answer)
    return job_id
