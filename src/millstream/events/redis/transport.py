"""One process's part in a ledger's Redis: everything that lives as long as the ledger is open, started and stopped."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from functools import partial
from typing import Any

from millstream.events.memory import MemoryEventLog
from millstream.events.redis.activity import RedisActivity
from millstream.events.redis.cancels import STATS, CancelChannel
from millstream.events.redis.keys import Keys
from millstream.events.redis.link import Bounds, Link, RedisUnavailableError
from millstream.events.redis.outgoing import Outgoing, Recorded
from millstream.events.redis.reading import Reading
from millstream.events.redis.roll import Roll
from millstream.events.redis.script import AppendScript
from millstream.events.redis.subscription import Subscription
from millstream.events.redis.sweep import Sweep
from millstream.events.tail import Tail


class Transport:
    """Brings events to Redis and from there to readers. `start` and `stop` may be called twice.

    Args:
        url: Where Redis is; with user, password and database.
        ledger: Id of the ledger.
        ttl_seconds: How long the keys of an ended job are kept.
        view: What this process's readers see.
        recorded: Reads a job's durable events: `Ledger.events`.
        tail: Brings into the view what the ledger has of a job.
        bounds: How long Redis is waited for.

    Attributes:
        keys: The names in Redis.
        link: The connections.
        subscription: Hears all channels; one may be added before `start`.
        outgoing: Takes what happens here.
        reading: Reads what is watched here.
        activity: Who looks at interactive jobs.
        roll: What processes tell of themselves.
        cancels: Signals cancels, and hears of them, where that is asked for.
    """

    def __init__(
        self,
        url: str,
        ledger: str,
        ttl_seconds: int,
        view: MemoryEventLog,
        recorded: Recorded,
        tail: Tail,
        bounds: Bounds | None = None,
    ) -> None:
        """Put the parts together, and connect to nothing yet."""
        self.keys = keys = Keys(ledger)
        self.link = link = Link(url, keys.probe, bounds)
        self.subscription = Subscription(link)
        script = AppendScript(link, keys, ttl_seconds)
        self.reading = Reading(link, keys, view, tail.fill)
        self.outgoing = Outgoing(link, script, view, recorded, self.reading.read, tail.hurry)
        self._sweep = Sweep(link, keys, self.outgoing, ttl_seconds)
        self.activity = RedisActivity(link, keys)
        self.roll = Roll(link, keys)
        self.cancels: CancelChannel | None = None
        self.subscription.hear(keys.wake, partial(self.reading.heard, script.emitter))
        self.subscription.on_connected.append(self.reading.connected)
        link.on_back.append(self.reading.read_all)

    def hear_cancels(
        self,
        marker_seconds: int,
        running: Callable[[], Collection[str]],
        owns: Callable[[str], bool],
        cancel: Callable[[str], None],
    ) -> None:
        """Signal cancels, and hear of them; before `start`. See `CancelChannel`."""
        self.cancels = CancelChannel(self.link, self.keys, self.subscription, marker_seconds, running, owns, cancel)

    def figures(self, carried: int, read: int, tasks: int, kills: int) -> dict[str, Any]:
        """Return what this process does by Redis just now, and what has happened so far.

        Args:
            carried: How many jobs run here whose events go to Redis.
            read: How many are read here.
            tasks: How many small tasks run here, beside those of the cancel channel.
            kills: How many jobs the watchdog has cancelled.
        """
        cancels, activity = self.cancels, self.activity
        return {
            "bridge_count": carried,
            "consumer_wrapper_count": read,
            "background_task_count": tasks + (0 if cancels is None else cancels.tasks),
            "cancel_dispatcher_running": cancels is not None and cancels.is_running,
            "cancel_stats": {
                **(dict.fromkeys(STATS, 0) if cancels is None else cancels.stats()),
                "polling_watchdog_kills": kills,
                "activity_touch_errors": activity.touch_errors,
                "activity_get_errors": activity.get_errors,
                "activity_parse_errors": activity.parse_errors,
            },
        }

    @property
    def is_away(self) -> bool:
        """Whether Redis did not answer, or took nothing, when it was last asked."""
        return self.link.is_away

    async def start(self) -> None:
        """Begin; returns at once, whether or not Redis is there."""
        self.outgoing.start()
        self.reading.start()
        self._sweep.start()
        await self.subscription.start()

    async def stop(self, process: str = "") -> None:
        """Bring away what is left, as far as that is quickly done, and close everything.

        Args:
            process: Of which nothing is told any more.
        """
        await self._sweep.stop()
        await self.outgoing.stop()
        if self.cancels is not None:
            await self.cancels.stop()
        with suppress(RedisUnavailableError):
            await self.roll.leave(process)
        await self.reading.stop()
        await self.subscription.stop()
        await self.link.close()

    def abandon(self) -> None:
        """Leave everything as it is, from another loop than its own, which does not run any more."""
        self.link.drop()
