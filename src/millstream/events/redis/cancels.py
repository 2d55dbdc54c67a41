"""The cancel channel: makes a cancel that the ledger has reach whoever runs the job at once, in any process."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Collection, Coroutine
from typing import Any, Final

from millstream.events.redis.keys import Keys
from millstream.events.redis.link import Link, RedisUnavailableError
from millstream.events.redis.subscription import Subscription
from millstream.log import get_logger
from millstream.portal import end

_log = get_logger("millstream.events")

_ID: Final = re.compile(rb"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


STATS: Final = (
    "published",
    "marker_hit",
    "dispatched_owned",
    "dispatched_foreign",
    "publish_errors",
    "dispatcher_reconnects",
    "dispatcher_internal_errors",
)
"""What is counted, by the names that the monitor has for it."""


class CancelChannel:
    """Signals cancels to all processes of a ledger, and hears theirs.

    A signal is a marker, which is kept for a while, and a message. Messages are lost on those who do not hear them at
    that moment; so whoever has (re)connected looks for markers of all that runs there. Nothing depends on either: the
    ledger has the cancel, and each process looks there every second.

    Args:
        link: Where Redis is.
        keys: The names there.
        subscription: Hears the channel; it is not started yet.
        marker_seconds: How long a marker is kept, 1 or more.
        running: Returns the jobs that run here.
        owns: Says of a job whether it runs here, or did until a cancel reached it another way.
        cancel: Stops a job that runs here.

    Attributes:
        published: Signals given here.
        publish_errors: Signals that could not be given.
        marker_hits: Markers found of jobs that ran here.
        dispatched_owned: Signals heard for jobs that ran here.
        dispatched_foreign: Signals heard for others.
        internal_errors: Messages that were no signals, and failures in acting on one.
    """

    def __init__(
        self,
        link: Link,
        keys: Keys,
        subscription: Subscription,
        marker_seconds: int,
        running: Callable[[], Collection[str]],
        owns: Callable[[str], bool],
        cancel: Callable[[str], None],
    ) -> None:
        """Hear signals once the subscription runs."""
        self._link, self._keys, self._subscription = link, keys, subscription
        self._marker_seconds, self._running, self._owns, self._cancel = marker_seconds, running, owns, cancel
        self._tasks: set[asyncio.Task[None]] = set()
        self.published = self.publish_errors = self.marker_hits = 0
        self.dispatched_owned = self.dispatched_foreign = self.internal_errors = 0
        subscription.hear(keys.cancels, self._heard)
        subscription.on_connected.append(lambda: self._start(self._look_for_markers()))

    @property
    def is_running(self) -> bool:
        """Whether signals are heard just now."""
        return self._subscription.is_connected

    @property
    def tasks(self) -> int:
        """How many signals are just being given, and looks for markers taken."""
        return len(self._tasks)

    def stats(self) -> dict[str, int]:
        """Return what was counted, by the names in `STATS`."""
        told = self.published, self.marker_hits, self.dispatched_owned, self.dispatched_foreign
        failed = self.publish_errors, self._subscription.reconnects, self.internal_errors
        return dict(zip(STATS, (*told, *failed), strict=True))

    def signal(self, job_id: str) -> None:
        """Tell all processes that a job is cancelled, which the ledger has by now; neither waits nor fails."""
        self._start(self._publish(job_id))

    async def stop(self) -> None:
        """Give no signal any more."""
        for task in list(self._tasks):
            await end(task)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _publish(self, job_id: str) -> None:
        marker: list[str | bytes | float] = ["SET", self._keys.cancel_marker(job_id), 1, "EX", self._marker_seconds]
        try:
            await self._link.commands.pipeline([marker, ["PUBLISH", self._keys.cancels, job_id]])
        except RedisUnavailableError as error:
            self.publish_errors += 1
            _log.warning("a cancel cannot be signalled; others find it in the ledger", job=job_id, why=str(error))
        else:
            self.published += 1

    def _heard(self, message: bytes) -> None:
        try:
            if _ID.fullmatch(message) is None:
                raise ValueError(f"{message[:80]!r} is no job's id")  # noqa: TRY301  all that is wrong goes one way
            self._dispatch(message.decode())
        except Exception as error:  # noqa: BLE001  whatever it is, the next signal is heard
            self.internal_errors += 1
            _log.error("a signal of a cancel could not be acted on", why=str(error))

    def _dispatch(self, job_id: str) -> None:
        if self._owns(job_id):
            self.dispatched_owned += 1
            self._cancel(job_id)
        else:
            self.dispatched_foreign += 1

    async def _look_for_markers(self) -> None:
        jobs = sorted(self._running())
        if not jobs:
            return
        try:
            found = await self._link.commands.call("MGET", *map(self._keys.cancel_marker, jobs))
        except RedisUnavailableError as error:
            _log.debug("no look for markers of cancels; it follows with the next connection", why=str(error))
            return
        for job_id, marker in zip(jobs, found, strict=True):
            if marker is not None:
                self.marker_hits += 1
                self._cancel(job_id)
