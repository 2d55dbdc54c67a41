"""Conducting: the body of an `async def` flow runs while its job runs, and each call it awaits is recorded.

A recorded call is keyed by (branch path, n): a branch is a concurrent asyncio task of the body, numbered by the order
in which the body spawned it, and n counts the calls of that branch. So a body that runs again after a crash asks for
the same keys in whatever order its branches proceed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from itertools import chain
from typing import Any, NoReturn, TypeVar

from millstream.authoring.draw import Drawing, Shapes
from millstream.authoring.handle import Handle
from millstream.engine.attempt import Attempt
from millstream.engine.context import running
from millstream.errors import MillstreamError

T = TypeVar("T")

MAX_CALLS = 10_000
"""Calls that one conducting flow may record."""


class RecordLimitError(MillstreamError):
    """Raised when a conducting flow has recorded as many calls as it may."""


class ContinueAsNew(BaseException):
    """Raised in a conducting flow's body to begin it anew.

    Attributes:
        args: Its arguments by position.
        kwargs: Its arguments by name.
    """

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take the arguments."""
        super().__init__(*args)
        self.kwargs = kwargs


class _Branch:
    """A concurrent asyncio task of a body."""

    __slots__ = ("calls", "conductor", "path", "spawned")

    def __init__(self, conductor: Conductor, path: tuple[int | str, ...]) -> None:
        self.conductor = conductor
        self.path = path
        self.calls = 0
        self.spawned = 0

    def next_key(self) -> str:
        """Return the key of the branch's next call, such as `#0` or `#1.0.4`."""
        key = ".".join(str(number) for number in (*self.path, self.calls))
        self.calls += 1
        return f"#{key}"

    def spawn(self) -> _Branch:
        """Return the branch that the body spawns next."""
        child = _Branch(self.conductor, (*self.path, self.spawned))
        self.spawned += 1
        return child


_branch: ContextVar[_Branch | None] = ContextVar("millstream_branch", default=None)


class Conductor(Attempt):
    """The attempt of a conducting flow: what `ctx` is in its body, and where its calls go."""

    __slots__ = ("_count", "_shapes", "_times")

    def __init__(self, attempt: Attempt, shapes: Shapes) -> None:
        """Take over from the attempt that the engine started."""
        super().__init__(attempt.run, attempt.frame, attempt.index, attempt.attempt, attempt.deadline)
        self._count = 0
        self._shapes = shapes
        self._times = 0

    async def conduct(self, body: Callable[..., Coroutine[Any, Any, T]], args: Any, kwargs: Any) -> T:
        """Run the body, with its calls recorded here, until it returns; `continue_as_new` runs it again."""
        place = self.frame, self.index
        calls = self.run.calls
        self._times, args, kwargs = calls.continued.get(self.node, (0, args, kwargs))
        loop = asyncio.get_running_loop()
        if not isinstance(loop.get_task_factory(), _NumberBranches):
            loop.set_task_factory(_NumberBranches(loop.get_task_factory()))
        while True:
            tokens = running.set(self), _branch.set(_Branch(self, self._first_branch()))
            calls.timers.add(self._has_timer)
            try:
                return await body(*args, **kwargs)
            except ContinueAsNew as anew:
                args, kwargs = anew.args, anew.kwargs
            finally:
                calls.timers.discard(self._has_timer)
                calls.revoke_all(place)
                running.reset(tokens[0])
                _branch.reset(tokens[1])
            self._times += 1
            self._count = 0
            calls.begin_anew(place, self._times, args, kwargs)

    def _first_branch(self) -> tuple[str, ...]:
        """Return how the body's keys begin: a further attempt or turn must not be answered with what others asked."""
        attempt = (f"r{self.attempt}",) if self.attempt > 1 else ()
        return (*attempt, f"c{self._times}") if self._times else attempt

    def _has_timer(self) -> bool:
        """Whether a task of the body has set a timer, such as that of `asyncio.timeout` or `wait_for`, or has a turn.

        When a timer is due on a busy loop, its call waits for its turn with all others.
        """
        timers, turns = getattr(self.run.loop, "_scheduled", None), getattr(self.run.loop, "_ready", None)
        if timers is None or turns is None:  # a loop of another make: it may have one
            return True
        calls = (call for call in chain(timers, tuple(turns)) if not call.cancelled())  # threads add turns meanwhile
        branches = (call._context.get(_branch) for call in calls)  # noqa: SLF001
        return any(branch is not None and branch.conductor is self for branch in branches)

    def continue_as_new(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Begin anew with other arguments."""
        raise ContinueAsNew(args, kwargs)

    def call(self, add: Callable[[Drawing], Handle]) -> Coroutine[Any, Any, Any]:
        """Return the coroutine of a recorded call; its key is taken now, and it starts when it is awaited."""
        key = self._next_key()
        inner = Drawing()
        drawn = inner.finish(add(inner), self._shapes)

        place = (self.frame, self.index)

        async def answer() -> Any:
            # In an empty context: what the engine starts for the call is no branch of the body.
            try:
                return await Context().run(self.run.calls.call, place, key, drawn)
            except asyncio.CancelledError:
                self.run.calls.revoke(place, key)
                raise

        return answer()

    def now(self) -> float:
        """Return the time, recorded."""
        return self._noted(super().now)

    def random(self) -> float:
        """Return a random number in [0, 1), recorded."""
        return self._noted(super().random)

    def uuid(self) -> str:
        """Return a new id, recorded."""
        return self._noted(super().uuid)

    def _noted(self, make: Callable[[], T]) -> T:
        value: T = self.run.calls.note(self.node + self._next_key(), make)
        return value

    def _next_key(self) -> str:
        self._count += 1
        if self._count > MAX_CALLS:
            raise RecordLimitError(
                f"{self.node} has recorded {MAX_CALLS} calls; go on with ctx.continue_as_new(...), or use sub-flows"
            )
        branch = _branch.get()
        if branch is None:
            raise MillstreamError("a recorded call must be made in the flow's own asyncio tasks")
        return branch.next_key()


class _NumberBranches:
    """A task factory that gives each asyncio task which a body spawns a branch of its own, by order of spawning."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __call__(self, loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> Any:
        branch = _branch.get()
        if branch is not None:
            context = options.get("context") or copy_context()
            context.run(_branch.set, branch.spawn())
            options["context"] = context
        if self._inner is not None:
            return self._inner(loop, coro, **options)
        return asyncio.Task(coro, loop=loop, **options)
