"""Large values between the moment when they are sealed and the one when what refers to them is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Lock

from millstream.ledger.base import Claim
from millstream.ledger.rows import digests_in
from millstream.model.event import Draft
from millstream.model.value import Sealed


class Apart:
    """Keeps large values by job and digest; one that was sealed twice is kept until it was taken twice.

    Values are sealed in whatever thread a task runs in.
    """

    def __init__(self) -> None:
        """Keep nothing yet."""
        self._lock = Lock()
        self._of: dict[str, dict[str, list[bytes]]] = {}
        self._held: dict[str, set[int]] = {}

    def keep(self, job_id: str, values: Mapping[str, bytes]) -> None:
        """Keep values that were sealed for a job."""
        if not values:
            return
        with self._lock:
            known = self._of.setdefault(job_id, {})
            for digest, raw in values.items():
                known.setdefault(digest, []).append(raw)

    def take(self, job_id: str, drafts: Sequence[Draft]) -> dict[str, bytes]:
        """Return the values that drafts refer to, as far as they were sealed here."""
        if job_id not in self._of:
            return {}
        with self._lock:
            return self._take(job_id, self._of[job_id], drafts)

    def _take(self, job_id: str, known: dict[str, list[bytes]], drafts: Sequence[Draft]) -> dict[str, bytes]:
        found = {}
        for draft in drafts:
            for digest in digests_in(draft[4].raw) if type(draft[4]) is Sealed else ():
                if digest in known:
                    found[digest] = known[digest].pop()
                    if not known[digest]:
                        del known[digest]
        if not known:
            del self._of[job_id]
        return found

    def begin(self, claim: Claim) -> None:
        """Take note of a segment that is held here."""
        self._held.setdefault(claim.job.id, set()).add(claim.segment)

    def end(self, claim: Claim) -> None:
        """Take note that a segment is held here no longer, and with the job's last one keep nothing of the job."""
        held = self._held.get(claim.job.id, set())
        held.discard(claim.segment)
        if not held:
            self._held.pop(claim.job.id, None)
            self.drop(claim.job.id)

    def drop(self, job_id: str) -> dict[str, bytes]:
        """Keep nothing of a job any more, and return what was kept."""
        return {digest: raws[0] for digest, raws in self._of.pop(job_id, {}).items()}
