"""The duties of a process towards its ledger: small loops that see to what no call brings about by itself.

None of them is needed twice: whatever one process does not do, another does, or the same one a little later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio

from millstream.clock import chance, in_background
from millstream.engine.services import HandOut
from millstream.events.base import EventLog
from millstream.execution.membership import Membership
from millstream.execution.ports import Canceller, Dispatcher
from millstream.execution.segment import Segments
from millstream.ledger.base import (
    MAIN,
    Claim,
    Held,
    LedgerUnavailableError,
    Pause,
    SharedLedger,
    StorageFullError,
)
from millstream.log import get_logger
from millstream.model.failure import record_failure
from millstream.points import reach
from millstream.portal import end

_log = get_logger("millstream.execution")

PULL_SECONDS = 0.5
LOOK_SECONDS = 1.0
REAP_SECONDS = 2.0
TRIM_SECONDS = 60.0
IDLE_SECONDS = 10.0
"""After this a held job that nobody executes is laid down again."""

_AT_ONCE = 100
_BETWEEN_BATCHES = 0.1
_FIRST_WAIT, _LAST_WAIT = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that is done again and again.

    Attributes:
        name: What log lines call it.
        act: Does it once.
        seconds: About how long it rests in between.
        waits: Whether it rests before the first time too.
        now: Set to have it done at once.
    """

    name: str
    act: Callable[[], Awaitable[None]]
    seconds: float
    waits: bool = False
    now: asyncio.Event = field(default_factory=asyncio.Event)

    async def rest(self) -> None:
        """Wait until it is due again; not in step with other processes."""
        with anyio.move_on_after(_about(self.seconds)):
            await self.now.wait()
        self.now.clear()


class Reconciler:
    """Does the duties of one process, each in a loop of its own, until it is stopped.

    `start` and `stop` may be called twice, and `stop` before `start`.

    Args:
        duties: What to do.
    """

    def __init__(self, duties: Sequence[Duty]) -> None:
        """Do nothing yet."""
        self._duties = duties
        self._host: asyncio.Task[None] | None = None
        self._hindered: set[str] = set()

    async def start(self) -> None:
        """Begin, and return when all duties have begun: a loop that ends at once must not find coroutines unawaited."""
        if self._host is None:
            begun = asyncio.Event()
            self._host = asyncio.create_task(self._serve(begun), name="millstream reconcile")
            await begun.wait()

    async def stop(self) -> None:
        """Stop, and return when nothing is being done any more."""
        host, self._host = self._host, None
        await end(host)

    async def _serve(self, begun: asyncio.Event) -> None:
        async with anyio.create_task_group() as group:
            for duty in self._duties:
                group.start_soon(self._keep_doing, duty)
            await asyncio.sleep(0)
            begun.set()

    async def _keep_doing(self, duty: Duty) -> None:
        wait = _FIRST_WAIT
        in_background.set(True)
        if duty.waits:
            await duty.rest()
        while True:
            try:
                await duty.act()
                self._manages(duty)
            except (LedgerUnavailableError, StorageFullError) as error:
                self._is_hindered(duty, error)
            except Exception as error:  # noqa: BLE001  a duty that ended by one failure would never be done again
                trace = record_failure(error).traceback  # plain: a log must not show the values of variables
                _log.error("a duty failed; it will be tried again", duty=duty.name, trace=trace)
            else:
                wait = _FIRST_WAIT
                await duty.rest()
                continue
            await anyio.sleep(_about(wait))
            wait = min(2 * wait, _LAST_WAIT)

    def _is_hindered(self, duty: Duty, error: Exception) -> None:
        """Say so for the first duty only, and not again before all have been done: a full ledger can be read."""
        if not self._hindered:
            _log.warning("the ledger is not available; waiting for it", why=str(error))
        self._hindered.add(duty.name)

    def _manages(self, duty: Duty) -> None:
        if duty.name in self._hindered:
            self._hindered.remove(duty.name)
            if not self._hindered:
                _log.warning("the ledger is available again")


async def pull(dispatcher: Dispatcher) -> None:
    """Look for queued segments."""
    dispatcher.wake()


class Look:
    """Takes note of what others did to the jobs that this process holds: cancels, and answers.

    What it holds without executing it, by whatever mishap between claim and execution, it lays down again.

    Args:
        ledger: Says what is held.
        membership: By whom.
        segments: What is executed here.
        canceller: Stops it.
        log: Tells how much of each job is known here.
    """

    def __init__(
        self,
        ledger: SharedLedger,
        membership: Membership,
        segments: Segments,
        canceller: Canceller,
        log: EventLog,
    ) -> None:
        """Have seen nothing yet."""
        self._ledger = ledger
        self._membership = membership
        self._segments = segments
        self._canceller = canceller
        self._log = log
        self._idle_since: dict[Held, float] = {}

    async def __call__(self) -> None:
        """Look once.

        Raises:
            LedgerUnavailableError: The ledger does not answer.
        """
        me, now, idle = self._membership.id, time.monotonic(), dict[Held, float]()
        mine, all_held = self._segments.sides(), await self._ledger.held(me)
        for held in all_held:
            seen = self._segments.seen(held.job_id, held.segment)
            if seen is None:
                idle[held] = self._idle_since.get(held, now)
                if now - idle[held] > IDLE_SECONDS:
                    await self._lay_down(held, me)
            elif held.cancel_requested:
                self._canceller.cancel(held.job_id)
            elif held.segment == MAIN and (held.head > seen or self._log.lacks(held.job_id, held.head)):
                await self._segments.refresh(held.job_id)
        for job_id, segment in mine - {(held.job_id, held.segment) for held in all_held}:
            self._segments.stop(job_id, segment)  # its job has ended, or has taken it back
        self._idle_since = idle

    async def _lay_down(self, held: Held, me: str) -> None:
        _log.warning("a job was held without being executed; others may have it", job=held.job_id)
        claim = Claim(await self._ledger.get(held.job_id), held.segment, held.attempt, me, held.head)
        self._ledger.record(claim, (), Pause("shutdown", 0.0, held.head), lambda _first, _kept: None)


async def reap(ledger: SharedLedger, dispatcher: Dispatcher, ring: Callable[[str], None]) -> None:
    """Take from the dead what they held, so that it can be claimed again.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    for job_id in await ledger.reap():
        _log.warning("a process died in a job; it goes on where it can", job=job_id)
        ring(job_id)
        dispatcher.wake()


async def count(ledger: SharedLedger, hand_out: HandOut) -> None:
    """Take note of how many processes execute.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    hand_out.members = await ledger.members()


async def expire(ledger: SharedLedger, membership: Membership, segments: Segments) -> None:
    """Fail the jobs that did not start in time, of flows that nobody here knows too.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    for claim in await ledger.claim_expired(membership.id, _AT_ONCE) if membership.is_member else ():
        segments.accept(claim)
        await segments.execute(claim)  # which finds that it is too late


async def trim(ledger: SharedLedger, log: EventLog) -> None:
    """Forget ended jobs that are kept no longer.

    Raises:
        LedgerUnavailableError: The ledger does not answer.
    """
    reach("retention")
    while forgotten := await ledger.trim():
        for job_id in forgotten:
            log.forget(job_id)
        await anyio.sleep(_BETWEEN_BATCHES)


def _about(seconds: float) -> float:
    """Return a time near this one, so that processes that started together do not look at the ledger together."""
    return seconds * (0.8 + 0.4 * chance())
