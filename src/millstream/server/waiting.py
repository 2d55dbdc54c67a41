"""`Prefer: wait=30`: an answer that waits for the result of a job, so long as the client likes (RFC 7240).

Whoever sends no such header gets 202 at once, and the address of the job in `Location`.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from millstream.model.job import JobRecord
from millstream.server.site import Site

MOST_SECONDS = 60
"""So long an answer waits at most, whatever is preferred: proxies on the way give up soon after."""

_WAIT = re.compile(r'\s*wait\s*=\s*(?:"(?P<quoted>\d{1,9})"|(?P<bare>\d{1,9}))\s*(?:;.*)?', re.IGNORECASE)


@dataclass(frozen=True)
class Preference:
    """How long a client would wait for the result of what it hands in.

    Attributes:
        seconds: So long at most, 0 to `MOST_SECONDS`; `None` where it does not say, and is answered at once.
    """

    seconds: int | None = None

    @property
    def applied(self) -> dict[str, str]:
        """The header of an answer that tells which preference was followed."""
        return {} if self.seconds is None else {"Preference-Applied": f"wait={self.seconds}"}

    async def ended(self, here: Site, job_id: str) -> JobRecord | None:
        """Wait for the end of a job; return it, or `None` where it has not ended in the time that is preferred.

        A server that stops waits no more: the job goes on without it.

        Raises:
            JobNotFoundError: There is no such job.
        """
        if self.seconds is None:
            return None
        ended = asyncio.ensure_future(here.app.ended(job_id))
        stopping = asyncio.ensure_future(here.stopping.wait())
        either: set[asyncio.Future[Any]] = {ended, stopping}
        try:
            await asyncio.wait(either, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
            return ended.result() if ended.done() else None
        finally:
            for waiting in either:
                waiting.cancel()


def preference(headers: list[str]) -> Preference:
    """Return what the headers `Prefer` of a request say; what is not understood in them is left alone.

    Example:
        >>> preference(["respond-async, wait=10"])
        Preference(seconds=10)
        >>> preference(["wait=soon"])
        Preference(seconds=None)
    """
    for part in ",".join(headers).split(","):
        if found := _WAIT.fullmatch(part):
            return Preference(min(int(found["quoted"] or found["bare"]), MOST_SECONDS))
    return Preference()


async def _preferred(request: Request) -> Preference:
    return preference(request.headers.getlist("prefer"))


Preferred = Annotated[Preference, Depends(_preferred)]
"""How long whoever sends a request would wait for its result."""
