"""What carries between a ledger's processes what the ledger alone would bring late: events, cancels, who looks."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

from millstream.clock import Clock
from millstream.events.memory import MemoryEventLog
from millstream.events.tail import Follower, Tail
from millstream.execution.audience import Audience
from millstream.execution.membership import Membership
from millstream.execution.ports import Canceller
from millstream.execution.reconcile import Duty
from millstream.execution.segment import Segments
from millstream.ledger.base import SharedLedger
from millstream.ledger.tiered import TieredLedger
from millstream.settings import Settings

if TYPE_CHECKING:
    from millstream.events.redis.log import RedisEventLog
    from millstream.events.redis.transport import Transport


class Carrier:
    """One process's part in that: by the settings Redis, else the ledger.

    Args:
        settings: The settings.
        view: What this process's readers see.
        ledger: All ledgers of this process as one.
        clock: The time.

    Attributes:
        log: Where the events go that happen here.
        transport: The part in Redis, from `start` to `stop`, where the settings say so.
    """

    def __init__(self, settings: Settings, view: MemoryEventLog, ledger: TieredLedger, clock: Clock) -> None:
        """Carry nothing yet."""
        self._settings, self._view, self._ledger, self._clock = settings, view, ledger, clock
        self.transport: Transport | None = None
        self.log: MemoryEventLog | RedisEventLog = view
        if settings.effective_job_queue_type == "redis":
            from millstream.events.redis.log import RedisEventLog  # noqa: PLC0415  Redis: only who shares it pays for it

            self.log = RedisEventLog(view, ledger.memory.__contains__)

    def attach(self, membership: Membership, segments: Segments, canceller: Canceller, audience: Audience) -> None:
        """Take those for whom it carries; once, before anything else.

        Args:
            membership: Under which id this process is known.
            segments: What runs here.
            canceller: Stops it.
            audience: Who looks here.
        """
        self._membership, self._segments, self._canceller, self._audience = membership, segments, canceller, audience

    async def start(self, shared: SharedLedger) -> Follower:
        """Begin to carry between the processes of a ledger, and return what brings events to this process's readers."""
        memory, settings, segments, audience = self._ledger.memory, self._settings, self._segments, self._audience
        self._shared = shared
        audience.share(shared.activity)
        if isinstance(self.log, MemoryEventLog):
            return Tail(shared, self.log, lambda job_id: job_id in memory or segments.is_running(job_id))
        from millstream.events.redis.follow import RedisTail  # noqa: PLC0415  as above
        from millstream.events.redis.transport import Transport  # noqa: PLC0415  as above

        tail = Tail(shared, self._view, memory.__contains__)
        identity = (await shared.identity()).id
        url, ttl = settings.effective_redis_queue_url, settings.redis_queue_ttl
        self.transport = transport = Transport(url, identity, ttl, self._view, shared.events, tail)
        if settings.redis_queue_cancel_channel_enabled:
            kept, stops = settings.redis_queue_cancel_marker_ttl, self._canceller
            transport.hear_cancels(kept, segments.running, stops.has, stops.cancel)
        transport.subscription.on_connected.append(audience.doubt)
        audience.share(transport.activity)
        await transport.start()
        self.log.carry(transport.outgoing)
        return RedisTail(tail, shared, self._view, transport, self._clock)

    def duties(self) -> list[Duty]:
        """Return what a member does now and then, beside its duties towards the ledger."""
        duties = [Duty("renew", self._audience.renew, 0.0)]
        if self._settings.redis_queue_polling_stale_threshold_s:
            seconds = self._settings.redis_queue_polling_watchdog_interval_s
            duties.append(Duty("watch", self._audience.watch, seconds, waits=True))
        if self.transport is not None:
            duties.append(Duty("enrol", self._enrol, self.transport.roll.renew_seconds))
        return duties

    async def _enrol(self) -> None:
        """Tell other processes of this one; without Redis they hear nothing, and neither does anybody here."""
        if self.transport is not None:
            await self.transport.roll.keep_telling(self._membership.id, self._entry())

    def _entry(self) -> dict[str, Any]:
        return {"id": self._membership.id, "host": socket.gethostname(), "pid": os.getpid(), **self.figures()}

    def signal(self, job_id: str) -> None:
        """Make a cancel that the ledger has known to all processes at once, where there is a way beside the bell."""
        transport = self.transport
        if transport is not None and transport.cancels is not None and job_id not in self._ledger.memory:
            transport.cancels.signal(job_id)

    def figures(self) -> dict[str, Any]:
        """Return what this process has to do just now, and what has happened in it so far."""
        running = self._segments.running()
        told = {"backend": self._settings.effective_job_queue_type, "active_jobs": len(running)}
        if self.transport is None:
            return told
        memory = self._ledger.memory
        carried = sum(job_id not in memory for job_id in running)
        read = sum(job_id not in memory for job_id in self._view.watched())
        return told | self.transport.figures(carried, read, self._audience.tasks, self._audience.kills)

    async def fleet(self) -> list[dict[str, Any]]:
        """Return what each process that lives has to do just now, the oldest first.

        Of others the ledger tells less than they do by Redis; it is asked where that is away, or not used.

        Raises:
            LedgerUnavailableError: The ledger is asked, and does not answer.
        """
        own = self._entry()
        told = await self._told_by_redis()
        if told is None:
            kind = own["backend"]
            told = [
                {"id": one.id, "host": one.host, "pid": one.pid, "backend": kind, "active_jobs": one.jobs}
                for one in await self._shared.processes()
            ]
        others = [entry for entry in told if entry["id"] != own["id"]]
        return sorted([own, *others], key=lambda entry: str(entry["id"]).partition("-")[2])

    async def _told_by_redis(self) -> list[dict[str, Any]] | None:
        """Return what the processes tell of themselves, or `None` where that cannot be had."""
        if self.transport is None:
            return None
        from millstream.events.redis.link import RedisUnavailableError  # noqa: PLC0415  as above

        try:
            return await self.transport.roll.told()
        except RedisUnavailableError:
            return None

    async def stop(self) -> None:
        """Bring what is left to others; what still happens here is told here only."""
        transport, self.transport = self.transport, None
        if transport is not None:
            await transport.stop(self._membership.id)
        if not isinstance(self.log, MemoryEventLog):
            self.log.carry(None)

    def abandon(self) -> None:
        """Leave everything as it is, from another loop than its own, which does not run any more."""
        transport, self.transport = self.transport, None
        if transport is not None:
            transport.abandon()
