"""Sees that workers hear of what is queued: the ledger is the outbox, and messages are only sent from what it says."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from millstream.authoring.aside import in_daemon_thread
from millstream.backends.celery.bell import BrokerBell
from millstream.backends.celery.messages import Signer
from millstream.backends.celery.publisher import Publisher
from millstream.errors import WorkflowServiceUnavailableError
from millstream.execution.reconcile import Duty
from millstream.ledger.base import Queued, SharedLedger
from millstream.ledger.bell import Bell

AGAIN_SECONDS: Final = 2.0
"""About how often messages are sent again for what is still queued."""

_BREATH: Final = 0.02
"""Seconds between two looks, so that a thousand submits in a second are fifty looks."""


class Outbox:
    """Sends messages for the queued segments of a ledger, at once when told to, and again every few seconds.

    A message that is lost costs a few seconds, one too many a look into the ledger.

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
        self._told: frozenset[tuple[str, int, int]] = frozenset()
        self._again_at = 0.0
        self._is_over = False
        self.duty = Duty("outbox", self.look, AGAIN_SECONDS)

    def bell(self, inner: Bell) -> Bell:
        """Return a bell that wakes workers as well as those whom another one wakes."""
        return BrokerBell(inner, self.duty.now.set)

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
        waiting = await self._ledger.waiting()
        self._publisher.send(self._signer, [one for one in waiting if _key(one) not in self._told])
        self._told = frozenset(map(_key, waiting))
        if (now := time.monotonic()) >= self._again_at:
            self._again_at = now + AGAIN_SECONDS / 2
            members = await self._ledger.members()
            self._on_members(members)
            self._publisher.top_up(self._signer, _first(waiting, 2 * max(1, members)))
            self._is_over = self._publisher.is_away and await self._is_full()
        await asyncio.sleep(_BREATH)

    async def close(self) -> None:
        """Send what waits, for a second at most; may be called twice."""
        await in_daemon_thread(self._publisher.close)  # others take no work any more where a program ends

    async def _is_full(self) -> bool:
        return len(await self._ledger.waiting(self._limit)) >= self._limit


def _key(queued: Queued) -> tuple[str, int, int]:
    return queued.job, queued.segment, queued.attempt


def _first(waiting: Sequence[Queued], most: int) -> list[Queued]:
    """Return the first ones of each queue, as many as are worth a message."""
    counts: Counter[str | None] = Counter()
    chosen = []
    for queued in waiting:
        counts[queued.queue] += 1
        if counts[queued.queue] <= most:
            chosen.append(queued)
    return chosen
