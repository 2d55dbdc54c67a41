"""Sees that workers hear of what is queued: the ledger is the outbox, and messages are only sent from what it says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice
from typing import Final

from millstream.authoring.aside import in_daemon_thread
from millstream.backends.celery.bell import BrokerBell
from millstream.backends.celery.messages import Signer
from millstream.backends.celery.publisher import Publisher
from millstream.clock import new_id
from millstream.errors import WorkflowServiceUnavailableError
from millstream.execution.reconcile import Duty
from millstream.ledger.base import SharedLedger
from millstream.ledger.bell import Bell

AGAIN_SECONDS: Final = 1.0
"""About how often it is seen to that there are messages for what is queued: a pool process works so long for one."""

_TURN_SECONDS: Final = 3.0
"""After so long without a sign of the process that sees to it another one does."""

_BREATH: Final = 0.02
"""Seconds between two looks, so that a thousand submits in a second are fifty looks."""

_AT_ONCE: Final = 1000
"""Of so many jobs the ledger is asked at a time; a statement has room for some ten thousand."""


class Outbox:
    """Sends messages for what is queued in a ledger, as many as keep its workers busy.

    Each process does so at once for what it queued itself. One at a time sees to the rest: to what waits for a time,
    what the dead held, and whatever else a message was lost for.

    Args:
        ledger: Says what is queued.
        publisher: Sends.
        key: What messages are signed with; `None`: the ledger's own key.
        limit: How many segments may be queued while the broker is away; 1 or more.
        on_members: Told now and then how many processes execute segments of the ledger.

    Attributes:
        duty: Does it.
    """

    def __init__(
        self,
        ledger: SharedLedger,
        publisher: Publisher,
        key: bytes | None,
        limit: int,
        on_members: Callable[[int], None],
    ) -> None:
        """Send nothing yet."""
        self._ledger = ledger
        self._publisher = publisher
        self._key = key
        self._limit = limit
        self._on_members = on_members
        self._signer: Signer | None = None
        self._me = new_id()
        self._rung: set[str] = set()
        self._members = 0
        self._again_at = self._turn_until = 0.0
        self._is_over = False
        self.duty = Duty("outbox", self.look, AGAIN_SECONDS)

    def bell(self, inner: Bell) -> Bell:
        """Return a bell that wakes workers as well as those whom another one wakes."""
        return BrokerBell(inner, self._hurry)

    def _hurry(self, job_id: str) -> None:
        self._rung.add(job_id)
        self.duty.now.set()

    @property
    def is_away(self) -> bool:
        """Whether the broker is: what is handed in waits for it."""
        return self._publisher.is_away

    def check(self) -> None:
        """Refuse to hand in more where too much waits for a broker that is away.

        Raises:
            WorkflowServiceUnavailableError: It is so; submit again later.
        """
        if self._is_over and self._publisher.is_away:
            raise WorkflowServiceUnavailableError(
                f"the broker is away, and {self._limit} segments wait for it already (outbox_limit); submit again later"
            )

    async def look(self) -> None:
        """Send what is due.

        Raises:
            LedgerUnavailableError: The ledger does not answer.
        """
        if self._signer is None:
            self._signer = Signer(await self._ledger.identity(), self._key)
        now = time.monotonic()
        if is_due := now >= self._again_at:
            self._again_at = now + AGAIN_SECONDS / 2
            self._members = await self._ledger.members()
            self._on_members(self._members)
        most = 2 * max(1, self._members)
        if rung := set(islice(self._rung, _AT_ONCE)):
            self._publisher.send(self._signer, await self._ledger.waiting(most, rung), most)
            self._rung -= rung
            if self._rung:
                self.duty.now.set()
        if is_due:
            is_away = self._publisher.is_away
            self._is_over = is_away and await self._ledger.backlog(self._limit) >= self._limit
            if not is_away and await self._ledger.backlog(1) and await self._has_turn(now):
                self._publisher.top_up(self._signer, await self._ledger.waiting(most), most)
        await asyncio.sleep(_BREATH)

    async def close(self) -> None:
        """Send what waits, for a second at most; may be called twice."""
        await in_daemon_thread(self._publisher.close)  # others take no work any more where a program ends

    async def _has_turn(self, now: float) -> bool:
        """Return whether it is this process that looks after all that is queued, and not only what it queued itself."""
        if now >= self._turn_until - _TURN_SECONDS / 2:
            is_mine = await self._ledger.take_turn("outbox", self._me, _TURN_SECONDS)
            self._turn_until = now + _TURN_SECONDS if is_mine else 0.0
        return now < self._turn_until
