"""What makes a process one of several on one ledger: its membership, its duties, and the bell between them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from millstream.events.base import EventLog
from millstream.events.tail import Follower
from millstream.execution import reconcile
from millstream.execution.membership import Membership
from millstream.execution.ports import Executor
from millstream.execution.reconcile import Duty, Reconciler
from millstream.execution.segment import Segments
from millstream.ledger.base import SharedLedger
from millstream.ledger.bell import Bell, Topic
from millstream.ledger.tiered import TieredLedger


class Sharing:
    """One process's share in a ledger.

    Args:
        shared: The ledger that processes share.
        bell: Wakes them.
        ledger: All ledgers of this process as one; from `start` to `leave` the shared one is among them.
        log: Gets the events of jobs.
        tail: Brings those of jobs that run elsewhere, where somebody reads them.
        membership: Under which id this process claims.
        segments: What is executed here.
        executor: Where it is executed.
    """

    def __init__(
        self,
        shared: SharedLedger,
        bell: Bell,
        ledger: TieredLedger,
        log: EventLog,
        tail: Follower,
        membership: Membership,
        segments: Segments,
        executor: Executor,
    ) -> None:
        """Start nothing yet."""
        self._shared = shared
        self._bell = bell
        self._ledger = ledger
        self._membership = membership
        self._executor = executor
        self._tail = tail
        self._follow = Duty("follow", self._tail.follow, 0.0)
        look = reconcile.Look(shared, membership, segments, executor, log)
        self._revive = Duty("revive", membership.revive, 0.0)
        self._look = Duty("look", look, reconcile.LOOK_SECONDS)
        reap = partial(reconcile.reap, shared, executor, partial(bell.ring, "queued"))
        self._duties: tuple[Duty, ...] = (
            self._follow,
            self._look,
            self._revive,
            Duty("pull", partial(reconcile.pull, executor), reconcile.PULL_SECONDS),
            Duty("reap", reap, reconcile.REAP_SECONDS),
            Duty("expire", partial(reconcile.expire, shared, membership, segments), reconcile.REAP_SECONDS),
            Duty("trim", partial(reconcile.trim, shared, log), reconcile.TRIM_SECONDS, waits=True),
        )
        if segments.hand_out is not None:
            counting = partial(reconcile.count, shared, segments.hand_out)
            self._duties += (Duty("count", counting, reconcile.REAP_SECONDS),)
        self._reconciler = Reconciler(())

    async def start(self, *, executes: bool, is_member: bool, others: Sequence[Duty] = ()) -> None:
        """Join the ledger and begin to do the duties.

        Args:
            executes: Whether segments are executed here; without, this process only follows what others do.
            is_member: Whether it is a member of the ledger; who executes is.
            others: Further duties.

        Raises:
            LedgerUnavailableError: The ledger does not answer.
            SettingsError: A member that is alive uses another event log.
        """
        await self._shared.open()
        if is_member:
            await self._membership.start(self._shared)
        else:
            await self._shared.agree(self._membership.job_queue)
        await self._bell.listen(self._heard)
        self._ledger.heard = self._heard
        self._ledger.share(self._shared, self._bell)
        mine = self._duties if executes else (self._follow, self._revive) if is_member else (self._follow,)
        self._reconciler = Reconciler([*mine, *others])
        await self._reconciler.start()

    async def stop(self) -> None:
        """Do no duties any more, and have nothing wait long for a ledger that takes nothing."""
        await self._reconciler.stop()
        self._shared.hasten()

    async def leave(self) -> None:
        """Leave the ledger, so that others go on at once with what is still held."""
        await self._membership.stop()
        self._bell.ring("queued", "")
        await self._bell.close()
        self._ledger.share(None, None)
        await self._shared.close()

    def _heard(self, topic: Topic, job_id: str) -> None:
        match topic:
            case "queued":
                self._executor.wake()
            case "changed":
                self._look.now.set()
            case "ended":
                self._tail.heard(job_id)
