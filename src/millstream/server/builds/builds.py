"""`Builds`: the jobs that somebody looks at in this process, each with one feed for all who do."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Any, Final, Self

from msgspec.structs import replace

from millstream.app import Millstream
from millstream.authoring.result import Job
from millstream.clock import Clock
from millstream.desk.jobs import JobDesk
from millstream.errors import JobNotFoundError, MillstreamError, NotSerializableError
from millstream.execution.audience import Audience
from millstream.graph.shape import Shape
from millstream.log import get_logger
from millstream.model.component import Component
from millstream.model.event import START, Cursor, Event
from millstream.model.value import Reference
from millstream.server.builds.feed import BATCH_BYTES, Feed, Lines, Reader
from millstream.server.builds.lines import Line, encode_lines
from millstream.server.builds.shapes import Build
from millstream.server.builds.translate import Translator
from millstream.server.builds.works import is_id

_log = get_logger("millstream.server")

_MOST: Final = 10_000
"""Builds that are known here though nobody reads them; of older ones the ledger knows all but who looks at them."""

_LINGER_SECONDS: Final = 10.0
"""How long the lines of an ended build are kept after the last one read them: whoever polls asks once more."""

_LARGEST_VALUE: Final = 1 << 20
"""Bytes of a value up to which it is told whole; of a larger one, what it is, and its size."""

_SHAPES: Final = 256
_LOOK_SECONDS: Final = 1.0


class Watched:
    """A job that is known in this process.

    Attributes:
        build: What lines tell of it beside its events.
        owner: Id of the user whose it is.
        graph: Digest of its graph.
        is_interactive: Whether it is cancelled when nobody looks at it any more.
        feed: Its lines, once somebody read them.
        left_at: When the last reader of its ended feed went; by the clock that never runs backwards.
    """

    __slots__ = ("build", "feed", "graph", "is_interactive", "left_at", "owner")

    def __init__(self, build: Build, owner: str | None, graph: str, *, is_interactive: bool) -> None:
        """Have no feed yet."""
        self.build, self.owner, self.graph, self.is_interactive = build, owner, graph, is_interactive
        self.feed: Feed | None = None
        self.left_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether nothing of it is lost here when it is forgotten."""
        return self.feed is None or (self.feed.is_over and not self.feed.readers)


class Builds:
    """The jobs that are looked at here. Use it as a context manager: what it has begun ends with it.

    Args:
        app: The app that runs them, or follows those that run elsewhere.
        components: What tasks are as components, by the tasks' names.
        clock: The time.
        audience: Is told who looks, and cancels builds that nobody looks at any more.
        stopping: Set when the server stops: streams then end.
    """

    def __init__(
        self,
        app: Millstream,
        components: Mapping[str, Component],
        clock: Clock,
        audience: Audience,
        stopping: asyncio.Event,
    ) -> None:
        """Know of none yet."""
        self._app, self._components, self._clock, self._audience = app, components, clock, audience
        self._watched: OrderedDict[str, Watched] = OrderedDict()
        self._shapes: OrderedDict[str, Shape] = OrderedDict()
        self._readers: set[Reader] = set()
        self._stopping = stopping
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Begin to look after builds."""
        self._start(self._look_after())
        self._start(self._stop_streams())
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """End all streams, and stop."""
        self._stopping.set()
        self._stop_readers()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stop_streams(self) -> None:
        await self._stopping.wait()
        self._stop_readers()

    def _stop_readers(self) -> None:
        """End all streams between two events; whoever reads goes on elsewhere, from their last cursor."""
        for reader in self._readers:
            reader.stop()

    # ----------------------------------------------------------------------------------------------- which jobs
    def begin(self, job: Job, owner: str | None, session: str, *, is_interactive: bool) -> Watched:
        """Take note of a job that was just handed in, and return what is known of it.

        Args:
            job: The job.
            owner: Id of the user whose it is.
            session: Id of the conversation; empty for one of its own.
            is_interactive: Whether it is cancelled when nobody who looked at it does any more.
        """
        known = self._watched.get(job.id)
        if known is None:
            build = Build(job.id, job.flow, session or job.id)
            known = self._know(Watched(build, owner, job.graph, is_interactive=is_interactive))
            if is_interactive:
                self._audience.begun(job.id)
        return known

    async def find(self, job_id: str, owner: str | None) -> Watched:
        """Return a job.

        Args:
            job_id: Its id.
            owner: Id of the user who asks; `None` for one who may see everybody's.

        Raises:
            JobNotFoundError: There is none, or it is somebody else's.
        """
        known = self._watched.get(job_id)
        if known is None and not is_id(job_id):  # and no text that a database does not take
            raise JobNotFoundError(f"there is no job {job_id!r}")
        if known is None:
            record = await JobDesk(self._app, owner).record(job_id)
            is_interactive = record.is_interactive and not record.state.is_final
            found = Watched(Build.of(record), record.owner, record.graph, is_interactive=is_interactive)
            return self._watched.get(job_id) or self._know(found)
        if owner not in (None, known.owner):
            raise JobNotFoundError(f"there is no job {job_id!r}")
        return known

    def _know(self, watched: Watched) -> Watched:
        self._watched[watched.build.job_id] = watched
        if len(self._watched) > _MOST:
            self._forget_old()
        return watched

    def _forget_old(self) -> None:
        """Forget the older half of those that nobody reads; seldom, since it looks at all of them."""
        idle = [job_id for job_id, watched in self._watched.items() if watched.is_idle]
        for job_id in idle[: len(idle) // 2 + 1]:
            del self._watched[job_id]

    # ------------------------------------------------------------------------------------------------- reading
    @contextmanager
    def reading(self, watched: Watched, after: Cursor = START, *, is_poll: bool = False) -> Iterator[Reader]:
        """Read a job's lines after a cursor, as a stream or to answer a poll."""
        feed = self._feed(watched)
        reader = feed.read(after)
        self._readers.add(reader)
        if self._stopping.is_set():
            reader.stop()
        job_id = watched.build.job_id
        looks = watched.is_interactive and not feed.is_over
        try:
            with self._audience.looking(job_id, is_poll=is_poll) if looks else nullcontext():
                yield reader
        finally:
            self._readers.discard(reader)
            reader.close()
            watched.left_at = self._clock.monotonic()

    def _feed(self, watched: Watched) -> Feed:
        if watched.feed is None:
            watched.feed = Feed(lambda: self._lines(watched))
            self._start(self._pump(watched.feed, watched.build.job_id))
        return watched.feed

    async def _pump(self, feed: Feed, job_id: str) -> None:
        try:
            await feed.pump()
        except JobNotFoundError:
            self._watched.pop(job_id, None)  # it was purged: whoever comes again is told so
        except MillstreamError as error:
            _log.warning("a build's events cannot be read", job=job_id, why=str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, it ends this build's streams alone
            _log.error("a build's events cannot be told", job=job_id, exc_info=error)
        if feed.has_end:
            self._audience.ended(job_id)
        watched = self._watched.get(job_id)
        if not feed.has_end and watched is not None and watched.feed is feed:
            watched.feed = None  # its readers come again, and begin a new one

    async def _lines(self, watched: Watched) -> Lines:
        """Yield a job's lines from its first one on, as they come; each time about as much as a reader is given."""
        build = watched.build
        translator = Translator(build, await self._shape(watched), self._components)
        async for batch in self._app.read_batches(build.job_id, START):
            lines: list[Line] = []
            size = 0
            for event in batch:
                is_apart = _holds_reference(event) and translator.wants(event)
                told = translator.take(await self._whole(build.job_id, event) if is_apart else event)
                for line in encode_lines(event, told):
                    lines.append(line)
                    size += len(line.body)
                if size >= BATCH_BYTES:
                    yield lines
                    lines, size = [], 0
            if lines:
                yield lines

    async def _shape(self, watched: Watched) -> Shape:
        shape = self._shapes.get(watched.graph)
        if shape is None:
            graph, _ = await self._app.graph(watched.build.job_id)
            shape = self._shapes[watched.graph] = Shape(graph)
            if len(self._shapes) > _SHAPES:
                self._shapes.popitem(last=False)
        return shape

    async def _whole(self, job_id: str, event: Event) -> Event:
        """Return an event with its values, but those that are too large to be told."""
        told = {name: value for name, value in event.data.items() if isinstance(value, Reference)}
        if any(value.size > _LARGEST_VALUE for value in told.values()):
            return event
        try:
            return replace(event, data=await self._app.data(job_id, event.seq))
        except NotSerializableError:  # of a class that is not to be found here
            return event

    async def _look_after(self) -> None:
        """Forget lines that nobody reads any more."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = self._clock.monotonic()
            for job_id, watched in list(self._watched.items()):
                if watched.feed is not None and watched.is_idle and now - watched.left_at >= _LINGER_SECONDS:
                    del self._watched[job_id]


def _holds_reference(event: Event) -> bool:
    return isinstance(event.data, dict) and any(type(value) is Reference for value in event.data.values())
