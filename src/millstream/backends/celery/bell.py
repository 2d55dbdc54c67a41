"""The bell of processes that have a broker: what can be claimed is told to its workers too."""

from __future__ import annotations

from collections.abc import Callable

from millstream.ledger.bell import Bell, Heard, Topic


class BrokerBell:
    """Rings the ledger's own bell, and has workers woken where a segment can be claimed.

    See `Bell` for what its methods promise.

    Args:
        inner: The ledger's own bell.
        hurry: Has messages sent for the segments of a job, given by its id; neither blocks nor fails.
    """

    def __init__(self, inner: Bell, hurry: Callable[[str], None]) -> None:
        """Ring nothing yet."""
        self._inner = inner
        self._hurry = hurry

    async def listen(self, heard: Heard) -> None:
        """Hear what others ring; see `Bell.listen`."""
        await self._inner.listen(heard)

    def ring(self, topic: Topic, job_id: str, queue: str | None = None) -> None:
        """Wake the others, and workers too; see `Bell.ring`."""
        self._inner.ring(topic, job_id, queue)
        if topic == "queued":
            self._hurry(job_id)

    async def close(self) -> None:
        """Stop; see `Bell.close`."""
        await self._inner.close()
