"""What all routes share: the app, the accounts, the flows, and the moment at which the server stops."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import Depends, Request

from millstream.app import Millstream
from millstream.authoring.documents.catalogue import Catalogue
from millstream.clock import Clock
from millstream.ledger.accounts import Accounts
from millstream.ledger.flow_store import FlowStore
from millstream.server.access.attempts import Attempts
from millstream.server.access.door import Door
from millstream.server.access.sessions import Sessions
from millstream.server.builds.builds import Builds
from millstream.server.builds.works import Works
from millstream.server.passwords import Passwords
from millstream.settings import Settings


class Site:
    """One running server. What is not an argument is there from the start of the lifespan on.

    Args:
        settings: The settings.
        app: The app whose jobs the server hands in and shows.
        clock: The time.

    Attributes:
        accounts: The users, their sessions and API keys, as they are stored.
        flows: The flow documents and projects, as they are stored.
        catalogue: All that a node of a document can be.
        sessions: Begins, finds and ends sessions.
        passwords: Makes and checks hashes of passwords.
        attempts: Counts tries to sign in.
        door: Tells who makes a request.
        works: Finds what is to be run.
        builds: The jobs that somebody looks at here.
        stopping: Set when the server takes no more requests: streams then end politely.
    """

    accounts: Accounts
    flows: FlowStore
    catalogue: Catalogue
    sessions: Sessions
    passwords: Passwords
    attempts: Attempts
    door: Door
    works: Works
    builds: Builds

    def __init__(self, settings: Settings, app: Millstream, clock: Clock) -> None:
        """Take what is there before the event loop runs."""
        self.settings, self.app, self.clock = settings, app, clock
        self.stopping = asyncio.Event()
        self._patience = settings.drain_grace
        self._gone_at = clock.monotonic()

    def stop(self) -> None:
        """Take no more requests: what is open ends within `drain_grace`."""
        self._gone_at = self.clock.monotonic() + self._patience
        self.stopping.set()

    def hurry(self) -> None:
        """Have `grace` end now, before or after `stop`."""
        self._patience, self._gone_at = 0.0, self.clock.monotonic()

    @property
    def startup_grace_seconds(self) -> float:
        """How old the id of a job may be that is waited for, though the ledger does not have it (yet)."""
        is_shared = self.settings.effective_job_queue_type == "redis"
        return self.settings.redis_queue_startup_grace_s if is_shared else 0.0

    @property
    def grace(self) -> float:
        """Seconds that are left of `drain_grace`."""
        return max(0.0, self._gone_at - self.clock.monotonic())


async def site_of(request: Request) -> Site:
    """Return the site that a request came to."""
    site: Site = request.app.state.site
    return site


Here = Annotated[Site, Depends(site_of)]
"""What a route's parameter is annotated with to get the site: `async def show(here: Here)`."""
