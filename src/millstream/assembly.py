"""Puts the parts of an app together on one event loop. It and `carrier.py` alone import adapters."""

from __future__ import annotations

import asyncio
import os
from contextvars import Context
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from millstream.backends.anyio import AnyIOSegmentBackend
from millstream.backends.role import Role
from millstream.carrier import Carrier
from millstream.clock import Clock
from millstream.engine.cache import MemoryCache
from millstream.engine.processes import ProcessPool
from millstream.engine.services import HandOut, Programs, Services
from millstream.engine.threads import ThreadPool
from millstream.errors import DefinitionError
from millstream.events.memory import MemoryEventLog
from millstream.execution.again import Repeats
from millstream.execution.answer import Answers
from millstream.execution.audience import Audience, Patience
from millstream.execution.cancel import Cancels
from millstream.execution.library import Library
from millstream.execution.membership import Membership
from millstream.execution.segment import Segments
from millstream.execution.sharing import Sharing
from millstream.execution.submit import Order, Submitter
from millstream.ledger.base import SharedLedger
from millstream.ledger.bell import Bell, SocketBell
from millstream.ledger.identity import Identity
from millstream.ledger.proof import ProofOfLife, directory_beside, directory_for
from millstream.ledger.tiered import TieredLedger
from millstream.model.job import JobRecord
from millstream.points import reach
from millstream.portal import run_on
from millstream.settings import Settings
from millstream.urls import database_url

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from millstream.backends.celery.outbox import Outbox

_TURN_SECONDS = 1.0
"""How long a pool process of a worker goes on with further segments before Celery has its turn again."""


class Process:
    """The running parts of an app on one event loop.

    `start` and `stop` may be called twice, and `stop` before `start`.

    Args:
        settings: The settings.
        library: The tasks and flows that can be executed; the app keeps it from one loop to the next.
        clock: The time.
        ledger: The record of jobs; as the library.
        log: Their events; as the ledger.
        context: What running tasks find in their context.
        role: What this process does for its ledger.

    Attributes:
        loop: The loop that they live on.
        segments: What executes segments.
        submitter: Hands jobs in.
        cancels: Cancels jobs.
        answers: Answers what waits.
        repeats: Submits ended jobs once more.
        carrier: Carries events, cancels, and who looks, between the processes of the ledger.
        audience: Who looks at interactive jobs here.
        is_started: Whether all is there that the settings ask for.
    """

    def __init__(
        self,
        settings: Settings,
        library: Library,
        clock: Clock,
        ledger: TieredLedger,
        log: MemoryEventLog,
        *,
        context: Context,
        role: Role,
    ) -> None:
        """Put the parts together, and start nothing yet."""
        self.loop = asyncio.get_running_loop()
        self._settings, self._clock, self._ledger, self._log = settings, clock, ledger, log
        self._role, self._executes = role, role.executes
        self.is_started = False
        self._opening = asyncio.Lock()
        self._sharing: Sharing | None = None
        self._shared: SharedLedger | None = None
        self._outbox: Outbox | None = None
        self.carrier = Carrier(settings, log, ledger, clock)
        told = self.carrier.log
        hand_out = _hand_out(settings, role)
        self._services = Services(
            clock=clock,
            threads=ThreadPool(settings.max_threads, clock, spares=hand_out is not None),
            processes=ProcessPool(settings.max_processes or os.cpu_count() or 1, clock),
            cache=MemoryCache(),
            programs=Programs(),
            code=library,
            linger=0.0 if role.is_gated else settings.conduct_linger,
            max_crashes=settings.max_crashes,
            hand_out=hand_out,
        )
        self.segments = segments = Segments(ledger, told, self._services, library, role.journal)
        self._membership = Membership(self._stop_shared, settings.effective_job_queue_type, executes=role.executes)
        me = self._membership.current
        slots = role.slots or settings.max_segments
        self._backend = AnyIOSegmentBackend(me, ledger, segments, clock, slots, context, role.queues)
        if role.is_gated:
            self._backend.close_gate()
        self.submitter = Submitter(me, ledger, told, clock, segments, self._backend)
        self.cancels = Cancels(ledger, told, clock, self._backend, segments, self.carrier.signal)
        self.audience = self._audience(settings)
        self.carrier.attach(self._membership, segments, self._backend, self.audience)
        self.answers = Answers(ledger, told, clock, segments, self._backend)
        self.repeats = Repeats(ledger, told, self.submitter, self._backend)
        ledger.heard = lambda topic, _: self._backend.wake() if topic == "queued" else None

    def _audience(self, settings: Settings) -> Audience:
        patience = Patience(settings.disconnect_grace, settings.redis_queue_polling_stale_threshold_s)
        executing = partial(self.segments.running, interactive=True)
        ledger = self._ledger
        return Audience(self._clock, patience, ledger.get, self.cancels.cancel, executing, ledger.memory.__contains__)

    async def start(self) -> None:
        """Begin to execute; what was left in a shared ledger too, if the settings name one.

        Where nothing is executed, a ledger that is not there yet is looked for again at the next use: looking makes
        none.

        Raises:
            LedgerUnavailableError: The ledger cannot be opened.
            SettingsError: A process that shares it uses another event log.
        """
        if self._executes:
            await self._backend.start()
        if self._settings.durability != "off":
            if not self._executes and not await asyncio.to_thread(holds_ledger, self._settings):
                return
            await self.share()
        self.is_started = True

    async def share(self) -> SharedLedger:
        """Open the ledger of durable jobs, if it is not open yet, and return it.

        Raises:
            LedgerUnavailableError: It cannot be opened.
            SettingsError: A process that shares it uses another event log.
        """
        async with self._opening:
            if self._shared is None:
                shared, bell = open_shared(self._settings, self._clock)
                outbox = open_outbox(self._settings, shared, self._services.hand_out)
                if outbox is not None:
                    bell = outbox.bell(bell)
                try:
                    tail, told = await self.carrier.start(shared), self.carrier.log
                    sharing = Sharing(
                        shared, bell, self._ledger, told, tail, self._membership, self.segments, self._backend
                    )
                    others = [] if outbox is None else [outbox.duty]
                    others += self.carrier.duties() if self._role.is_member else []
                    await sharing.start(executes=self._executes, is_member=self._role.is_member, others=others)
                except BaseException:
                    await self.carrier.stop()
                    await shared.close()
                    raise
                self._shared, self._sharing, self._outbox = shared, sharing, outbox
            return self._shared

    @property
    def is_event_log_away(self) -> bool:
        """Whether events reach this or other processes by the ledger alone, since what should carry them is away.

        A process that has nothing to send finds out by what it hears.
        """
        transport = self.carrier.transport
        return transport is not None and (transport.is_away or not transport.subscription.is_connected)

    @property
    def is_broker_away(self) -> bool:
        """Whether jobs wait for a broker that is away."""
        return self._outbox is not None and self._outbox.is_away

    async def submit(self, order: Order) -> JobRecord:
        """Record a job, and start it where there is room; its flow may ask for the ledger that the settings do not.

        Raises:
            DefinitionError: It could never run: it is not durable, and nothing is executed here.
            IdempotencyConflictError: The key belongs to a job with another flow or other inputs, or a `task_id` to
                another job.
            LedgerUnavailableError: The ledger does not answer.
            WorkflowServiceUnavailableError: Too much waits for a broker that is away.
        """
        if order.durability == "off" and not self._executes:
            raise DefinitionError(
                f"{order.flow} has durability off: it runs in its own app only, and this one runs nothing"
            )
        if order.durability != "off" and self._shared is None:
            await self.share()
        if self._outbox is not None:
            self._outbox.check()
        return await self.submitter.submit(order)

    async def serve(self) -> None:
        """Execute what can be claimed, since a message told of something.

        Behind a gate it returns when nothing is left to claim, or a second after something ended; else at once.
        """
        if self._role.is_gated:
            self._backend.open_gate()
            await self._backend.until_idle(_TURN_SECONDS)
        else:
            self._backend.wake()

    async def submit_in(self, connection: Connection | AsyncConnection, order: Order) -> JobRecord:
        """Record a job in a user's own transaction, on the loop or thread that the transaction is used on.

        Raises:
            DefinitionError: The job is not durable, or `connection` no connection to the ledger's database.
            IdempotencyConflictError: The key belongs to a job with another flow or other inputs, or a `task_id` to
                another job.
        """
        from millstream.ledger.database import check_connection  # noqa: PLC0415  SQLAlchemy: as below

        if order.durability == "off":
            raise DefinitionError("a job with durability off is in no database; submit it without connection=")
        check_connection(connection)
        shared = await run_on(self.loop, self.share())
        job, graph, drafts = self.submitter.prepare(order)
        run_sync = getattr(connection, "run_sync", None)
        if run_sync is None:
            recorded = shared.submit_in(connection, job, graph, drafts)
        else:
            recorded = await run_sync(shared.submit_in, job, graph, drafts)
        if recorded.id == job.id:
            self.segments.keep(job, order.drawn, order.aliases)
        return recorded

    async def abandon(self) -> None:
        """Leave the ledger from another loop, since this one does not run: others go on with what is held."""
        sharing, self._sharing = self._sharing, None
        self.carrier.abandon()
        if sharing is not None:
            await sharing.leave()

    async def stop(self, grace: float = 0.0) -> None:
        """Take nothing more, hand on what runs, and release everything.

        Args:
            grace: Seconds in which what runs may still end here.
        """
        reach("drain")
        sharing, self._sharing = self._sharing, None
        await self._backend.drain(grace)
        await self.audience.close()
        if sharing is not None:
            await sharing.stop()
        outbox, self._outbox = self._outbox, None
        if outbox is not None:
            await outbox.close()
        self._stop_shared()  # first: what is merely cancelled would say so in the record
        await self._backend.stop()
        await self.segments.give_up(self._ledger.memory, self._membership.id)
        await self.carrier.stop()
        if sharing is not None:
            await sharing.leave()
        for job_id in self._log.watched():
            self._log.forget(job_id)
        self._services.threads.close()
        await self._services.processes.close()

    def _stop_shared(self) -> None:
        """Stop what runs of a ledger whose other processes go on with it, and record nothing of that."""
        for job_id in self.segments.running():
            if job_id not in self._ledger.memory:
                self.segments.stop(job_id)


def _hand_out(settings: Settings, role: Role) -> HandOut | None:
    """Return by what nodes are handed out to others: only where there are workers."""
    if not settings.celery_enabled or not role.executes:
        return None
    return HandOut(queues=role.queues, default_queue=settings.default_queue)


def open_outbox(settings: Settings, ledger: SharedLedger, hand_out: HandOut | None) -> Outbox | None:
    """Return what tells workers of what is queued, where there are any, and keeps count of them.

    Raises:
        SettingsError: There is no broker.
    """
    if not settings.celery_enabled:
        return None
    from millstream.backends.celery.outbox import Outbox  # noqa: PLC0415  only who has workers pays for it
    from millstream.backends.celery.publisher import Publisher  # noqa: PLC0415  as above

    publisher = Publisher(settings.effective_broker_url, settings.default_queue)

    def count(members: int) -> None:
        if hand_out is not None:
            hand_out.members = members

    return Outbox(ledger, publisher, settings.message_secret, settings.outbox_limit, count)


def holds_ledger(settings: Settings) -> bool:
    """Return whether there is a ledger where the settings say; blocks.

    Raises:
        SettingsError: It needs a package that is not installed.
        LedgerUnavailableError: It cannot be reached.
    """
    from millstream.ledger.database import database  # noqa: PLC0415  SQLAlchemy: as below

    return database(settings.effective_database_url).holds_ledger()


async def identify(settings: Settings, clock: Clock) -> Identity:
    """Return what tells the ledger of the settings from others, and leave nothing open.

    Raises:
        SettingsError: It needs a package that is not installed; or a member that is alive uses another event log.
        LedgerUnavailableError: It cannot be reached.
    """
    shared, _ = open_shared(settings, clock)
    try:
        await shared.open()
        await shared.agree(settings.effective_job_queue_type)
        return await shared.identity()
    finally:
        await shared.close()


def open_shared(settings: Settings, clock: Clock) -> tuple[SharedLedger, Bell]:
    """Return the ledger that the settings name, and the bell that belongs to it; both open on first use.

    Raises:
        SettingsError: It needs a package that is not installed.
    """
    from millstream.ledger.sql import SqlLedger  # noqa: PLC0415  SQLAlchemy: only who shares a ledger pays for it

    url = database_url(settings.effective_database_url)
    kind, _, rest = url.partition("://")
    is_file = kind == "sqlite"
    directory = directory_beside(Path(rest[1:])) if is_file else directory_for(rest.rpartition("@")[2])
    ledger = SqlLedger(  # before the bell: it says what to install where the driver is missing
        url,
        clock,
        lease_seconds=settings.lease_seconds,
        retention=timedelta(days=settings.retention_days) if settings.retention_days else None,
        max_value_bytes=settings.max_value_bytes,
        proof=ProofOfLife(directory),
    )
    if is_file:
        return ledger, SocketBell(directory)
    from millstream.ledger.notify import NotifyBell  # noqa: PLC0415  psycopg: as SQLAlchemy

    return ledger, NotifyBell(f"postgresql://{rest}")
