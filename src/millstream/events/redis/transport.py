"""One process's part in a ledger's Redis: everything that lives as long as the ledger is open, started and stopped."""

from __future__ import annotations

from functools import partial

from millstream.events.memory import MemoryEventLog
from millstream.events.redis.keys import Keys
from millstream.events.redis.link import Bounds, Link
from millstream.events.redis.outgoing import Outgoing, Recorded
from millstream.events.redis.reading import Reading
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
        self.subscription.hear(keys.wake, partial(self.reading.heard, script.emitter))
        self.subscription.on_connected.append(self.reading.read_all)
        link.on_back.append(self.reading.read_all)

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

    async def stop(self) -> None:
        """Bring away what is left, as far as that is quickly done, and close everything."""
        await self._sweep.stop()
        await self.outgoing.stop()
        await self.reading.stop()
        await self.subscription.stop()
        await self.link.close()

    def abandon(self) -> None:
        """Leave everything as it is, from another loop than its own, which does not run any more."""
        self.link.drop()
