"""Who looks at interactive jobs: this process's readers, what others say of theirs, and the end of what is given up."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio

from millstream.clock import Clock, new_id
from millstream.ledger.activity import Activity, ActivityUnavailableError, Look, MemoryActivity, Sighting
from millstream.log import get_logger
from millstream.model.job import JobRecord, JobState
from millstream.portal import end

_log = get_logger("millstream.execution")

_MOST: Final = 10_000
"""Jobs that were looked at here and are remembered, since nobody told that they have ended."""

_MOST_BEGUN: Final = 1000
"""Jobs that were handed in here and are remembered; those that run somewhere are looked after there, too."""

_LEAST_RENEWAL, _LONGEST_RENEWAL = 0.2, 2.0
_GATHER_SECONDS: Final = 0.1
"""How long news is gathered before it is told: a build that is over by then costs nothing."""

_AGAIN_SECONDS: Final = 0.5
_LAST_WORD_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long an interactive job goes on that nobody looks at any more.

    Attributes:
        disconnect_seconds: After its last stream was closed.
        polling_seconds: After its last poll, if it was ever polled; 0 sets no bound.
    """

    disconnect_seconds: float
    polling_seconds: float

    @property
    def renewal_seconds(self) -> float:
        """How often a process says that somebody still looks there."""
        return min(max(self.disconnect_seconds / 2.5, _LEAST_RENEWAL), _LONGEST_RENEWAL)

    @property
    def silence_seconds(self) -> float:
        """After such a silence of a process nobody is taken to look there."""
        return max(self.disconnect_seconds, 3 * self.renewal_seconds)

    def left(self, sightings: Sequence[Sighting]) -> float | None:
        """Return in how many seconds a job is given up; `None` where somebody looks, nobody ever did, or for ever.

        >>> def at(age: float, **look: bool) -> Sighting:
        ...     return Sighting("process", Look(**look), age)
        >>> patience = Patience(disconnect_seconds=5.0, polling_seconds=90.0)
        >>> patience.left([at(1.5, is_open=False)]), patience.left([at(6.0, is_open=False), at(1.0, is_open=True)])
        (3.5, None)
        >>> patience.left([at(6.0, is_open=False, is_polled=True)])
        84.0
        """
        if not sightings or any(said.look.is_open and said.age < self.silence_seconds for said in sightings):
            return None
        is_polled = any(said.look.is_polled for said in sightings)
        if is_polled and not self.polling_seconds:
            return None
        bound = self.polling_seconds if is_polled else self.disconnect_seconds
        return max(0.0, bound - min(said.age for said in sightings))


class _Viewers:
    """Those who look at one job in this process."""

    __slots__ = ("is_polled", "readers", "seen_at")

    def __init__(self) -> None:
        self.readers, self.is_polled, self.seen_at = 0, False, 0.0

    @property
    def look(self) -> Look:
        return Look(self.readers > 0, self.is_polled)


class Audience:
    """Cancels interactive jobs that nobody looks at any more, in any process.

    One that nobody ever looked at runs to its end. When the last reader here has gone, what other processes said is
    looked up after the grace; a watchdog does the same now and then for all jobs that run here, were handed in here,
    or were looked at here: it finds those whose readers ended with their process. It believes only what it finds twice
    in a row, with time for others to say something in between: what keeps the activity may have been away. Without an
    answer nothing is cancelled.

    Args:
        clock: The time.
        patience: When a job is given up.
        find: Returns one.
        cancel: Cancels one.
        executing: Returns the interactive jobs that run here.
        is_private: Says of a job whether no other process knows it.

    Attributes:
        kills: How many jobs the watchdog has cancelled.
    """

    def __init__(
        self,
        clock: Clock,
        patience: Patience,
        find: Callable[[str], Awaitable[JobRecord]],
        cancel: Callable[[str], Awaitable[JobRecord]],
        executing: Callable[[], Collection[str]],
        is_private: Callable[[str], bool],
    ) -> None:
        """Know of nobody yet."""
        self._clock, self._patience, self._find, self._cancel = clock, patience, find, cancel
        self._executing, self._is_private = executing, is_private
        self._me = new_id()
        self._activity: Activity = MemoryActivity(clock)
        self._viewers: OrderedDict[str, _Viewers] = OrderedDict()
        self._begun: OrderedDict[str, None] = OrderedDict()
        self._news: set[str] = set()
        self._has_news = asyncio.Event()
        self._unsure_until = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.kills = 0

    @property
    def tasks(self) -> int:
        """How many jobs are just being looked up or cancelled, since their last reader here has gone."""
        return len(self._tasks)

    def share(self, activity: Activity) -> None:
        """Tell others of readers here, and hear of theirs, by this from now on."""
        self._activity = activity

    def doubt(self) -> None:
        """Take note that what others said may be lost: for a while nothing is given up."""
        self._unsure_until = self._clock.monotonic() + 2 * self._patience.renewal_seconds

    # ------------------------------------------------------------------------------------------------ who looks here
    def begun(self, job_id: str) -> None:
        """Take note of an interactive job that was handed in here."""
        self._begun[job_id] = None
        if len(self._begun) > _MOST_BEGUN:
            self._begun.popitem(last=False)

    @contextmanager
    def looking(self, job_id: str, *, is_poll: bool = False) -> Iterator[None]:
        """Count one who looks at an interactive job, as long as the block runs."""
        viewers = self._viewers.setdefault(job_id, _Viewers())
        viewers.readers += 1
        self._tell(job_id)
        try:
            yield
        finally:
            viewers.readers -= 1
            viewers.is_polled = viewers.is_polled or is_poll
            viewers.seen_at = self._clock.monotonic()
            if job_id in self._viewers and not viewers.readers:
                self._tell(job_id)
                self._look_up_in(job_id, self._patience.disconnect_seconds)
                self._forget_old()

    def ended(self, job_id: str) -> None:
        """Forget a job: it has ended."""
        self._viewers.pop(job_id, None)
        self._begun.pop(job_id, None)
        self._news.discard(job_id)

    def _forget_old(self) -> None:
        if len(self._viewers) > _MOST:
            idle = [job_id for job_id, viewers in self._viewers.items() if not viewers.readers]
            for job_id in idle[: len(idle) // 2 + 1]:
                del self._viewers[job_id]

    def _tell(self, job_id: str) -> None:
        if not self._is_private(job_id):
            self._news.add(job_id)
            self._has_news.set()

    async def renew(self) -> None:
        """Wait until there is news, or it is time to say that somebody still looks, and tell all of it at once."""
        is_any = any(viewers.readers for viewers in self._viewers.values())
        with anyio.move_on_after(self._patience.renewal_seconds if is_any else None):
            await self._has_news.wait()
        await anyio.sleep(_GATHER_SECONDS)
        self._has_news.clear()
        if not await self._tell_all():
            await anyio.sleep(_AGAIN_SECONDS)

    async def _tell_all(self) -> bool:
        news, self._news = self._news, set()
        looks = {
            job_id: viewers.look
            for job_id, viewers in self._viewers.items()
            if job_id in news or (viewers.readers and not self._is_private(job_id))
        }
        if not looks:
            return True
        try:
            await self._activity.touch(self._me, looks)
        except ActivityUnavailableError as error:
            _log.debug("nobody can be told who looks at jobs here", why=str(error))
            self._news |= news
            self._has_news.set()
            self.doubt()
            return False
        return True

    # ------------------------------------------------------------------------------------------------ what is given up
    def _look_up_in(self, job_id: str, seconds: float) -> None:
        def look_up() -> None:
            if not self._is_closed:
                self._start(self._look_up(job_id))

        self._clock.call_later(seconds, look_up)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_up(self, job_id: str) -> None:
        """Cancel a job whose last reader here has gone, unless there are others; polled ones are the watchdog's."""
        viewers = self._viewers.get(job_id)
        if viewers is None or viewers.readers:
            return None
        said = (await self._said([job_id])).get(job_id)
        if said is None:
            return self._look_up_in(job_id, self._patience.silence_seconds)
        left = self._patience.left(said)
        if left is None or any(one.look.is_polled for one in said):
            return None
        if left:
            return self._look_up_in(job_id, left)
        await self._give_up(job_id)
        return None

    async def watch(self) -> None:
        """Cancel what was given up though no reader here has just gone."""
        suspects = await self._given_up({*self._executing(), *self._begun, *self._viewers})
        if suspects:
            await anyio.sleep(2 * self._patience.renewal_seconds)
            for job_id in await self._given_up(suspects):
                self.kills += await self._give_up(job_id)

    async def _given_up(self, job_ids: Collection[str]) -> list[str]:
        said = await self._said(job_ids)
        return [job_id for job_id in said if self._patience.left(said[job_id]) == 0.0]

    async def _said(self, job_ids: Collection[str]) -> dict[str, list[Sighting]]:
        """Return what is known of who looks at jobs, here and elsewhere; nothing where nobody can tell for sure."""
        shared = [job_id for job_id in job_ids if not self._is_private(job_id)]
        try:
            found = await self._activity.seen(shared) if shared else {}
        except ActivityUnavailableError as error:
            _log.debug("nobody can say who looks at jobs", why=str(error))
            self.doubt()
        now = self._clock.monotonic()
        if now < self._unsure_until:
            return {}
        said = {job_id: [one for one in found.get(job_id, ()) if one.process != self._me] for job_id in job_ids}
        for job_id in job_ids:
            viewers = self._viewers.get(job_id)
            if viewers is not None:
                age = 0.0 if viewers.readers else now - viewers.seen_at
                said[job_id].append(Sighting(self._me, viewers.look, age))
        return said

    async def _give_up(self, job_id: str) -> bool:
        """Cancel a job, unless it has ended or somebody has cancelled it, and return whether it is so."""
        if self._is_closed:
            return False
        try:
            record = await self._find(job_id)
            is_over = record.state.is_final or record.cancel_requested
            if not is_over:
                record = await self._cancel(job_id)
        except Exception as error:  # noqa: BLE001  whatever it is, the next job is looked after
            _log.warning("a build that nobody looks at cannot be cancelled", job=job_id, why=str(error))
            return False
        if record.state.is_final:
            self.ended(job_id)
        is_cancelled = not is_over and (record.cancel_requested or record.state is JobState.CANCELLED)
        if is_cancelled:
            _log.info("cancelled a build that nobody looks at any more", job=job_id, state=record.state)
        return is_cancelled

    async def close(self) -> None:
        """Give up nothing any more, and tell others that nobody looks here, if that is quickly done."""
        self._is_closed = True
        for task in list(self._tasks):
            await end(task)
        with anyio.move_on_after(_LAST_WORD_SECONDS):
            await self._tell_all()
