"""What a task can do while it runs, as `self` of `@task(bind=True)`: ask about itself, retry, grow, tell its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timedelta
from functools import wraps
from math import inf
from types import TracebackType
from typing import Any, Final, Literal, NoReturn, Self

from millstream.authoring.canvas.signature import Signature
from millstream.authoring.growth import Grown, Replaced
from millstream.engine.context import Running, running
from millstream.engine.control import seconds_until
from millstream.engine.request import DIRECT, Request
from millstream.engine.signatures import signature_of
from millstream.errors import DefinitionError, MaxRetriesExceededError, Retry

UNSET: Final[Any] = object()
"""Says that an argument was not given, where `None` has a meaning of its own."""


_direct: ContextVar[Request | None] = ContextVar("millstream_direct_call", default=None)
"""The request of a bound task that was called like any function, while it runs."""

_added: ContextVar[list[Signature] | None] = ContextVar("millstream_added", default=None)
"""What the task that runs here has added to its chord."""


class Bound:
    """What a task can ask and do while one of its nodes runs.

    A task that was called like any function, as a unit test may call it, has `request.called_directly`.

    Attributes:
        name: The task's name.
        function: The user's function.
        binds: Whether it takes the task first.
        form: Whether it is a plain or a coroutine function.
    """

    name: str
    function: Callable[..., Any]
    binds: bool
    form: Literal["plain", "coroutine"]

    @property
    def request(self) -> Request:
        """The attempt that runs here; where no job runs this task here, one that says `called_directly`.

        Example:
            >>> from millstream import task
            >>> @task(name="place_of", bind=True)
            ... def place_of(self, *args: int) -> str:
            ...     return f"attempt {self.request.retries + 1} of {self.request.task}{self.request.args}"
            >>> place_of.delay(1, 2).get()
            'attempt 1 of place_of(1, 2)'
        """
        direct = _direct.get()
        if direct is not None and direct.task == self.name:
            return direct
        here = running.get()
        request = here.request if here is not None else DIRECT
        return request if request.task == self.name else DIRECT

    def retry(
        self,
        exc: BaseException | None = None,
        countdown: float | timedelta | None = None,
        max_retries: float | None = UNSET,
        expires: float | timedelta | datetime | None = None,
        eta: datetime | None = None,
        throw: bool = True,  # noqa: FBT001, FBT002  as Celery's
    ) -> Retry:
        """Ask for another attempt of this task; does not return, unless `throw` is false.

        Args:
            exc: What went wrong: raised when no attempt is left, in place of `MaxRetriesExceededError`.
            countdown: Seconds until the next attempt; without it the task's back-off decides.
            max_retries: Attempts after the first one, for this retry; `None` sets no bound. By default `retries` of
                the task, or of its signature, decides.
            expires: When the next attempt must have started, else the task fails as expired: seconds from now, a
                `timedelta`, or a `datetime` with a time zone.
            eta: When the next attempt starts, in place of `countdown`.
            throw: Whether to raise the `Retry`; else it is returned, for the task to raise.

        Raises:
            Retry: So that the engine starts another attempt.
            MaxRetriesExceededError: No attempt is left, and there is no `exc`.
            Exception: `exc`, where no attempt is left, or the task was called directly.

        Example:
            >>> from millstream import task
            >>> @task(bind=True, retries=5)
            ... def fetch(self, url: str) -> bytes:
            ...     try:
            ...         return download(url)
            ...     except ConnectionError as error:
            ...         raise self.retry(exc=error, countdown=60)
        """
        request = self.request
        if request.called_directly:
            raise exc or Retry(f"{self.name} asks for a retry, but it was called directly")
        limit = request.max_retries if max_retries is UNSET else inf if max_retries is None else max_retries
        if request.retries >= limit:
            raise self._spent(request, exc)
        now = self._here("retry").now()
        wait = eta if countdown is None else countdown
        again = Retry(
            "asked for a retry" if exc is None else f"{type(exc).__name__}: {exc}",
            delay=None if wait is None else seconds_until(wait, now),
            limit=limit,
            expires=None if expires is None else seconds_until(expires, now),
            exc=exc,
        )
        if throw:
            raise again
        return again

    def replace(self, sig: Signature) -> NoReturn:
        """End this task, and let a signature or a whole canvas run in its place: its result is this task's.

        Raises:
            Ignore: Always; write `raise self.replace(...)` or `return self.replace(...)` to show that nothing follows.
            DefinitionError: No job runs the task, or the signature cannot be drawn.

        Example:
            >>> from millstream import task
            >>> @task(bind=True)
            ... def total(self, numbers: list[int]) -> int:
            ...     if len(numbers) > 1:
            ...         raise self.replace(total.s([sum(numbers)]))
            ...     return numbers[0]
            >>> total.delay([1, 2, 3]).get()
            6
        """
        if self.request.called_directly:
            raise DefinitionError(f"{self.name} was called directly; self.replace has a meaning only in a job")
        raise Replaced(sig)

    def add_to_chord(self, sig: Signature) -> None:
        """Add a signature to the chord whose header this task is in; it starts when this task has returned.

        The chord's body gets the results of what was added behind those of its header.

        Raises:
            ValueError: The task is in no chord's header.
        """
        added = _added.get()
        if self.request.chord is None or added is None:
            raise ValueError(f"{self.name} is in no chord's header here, so self.add_to_chord has nothing to add to")
        added.append(sig)

    def update_state(self, state: str | None = None, meta: Any = None) -> None:
        """Record a state of one's own, which results show until the task ends; kept like any recorded event.

        Does nothing where no job runs the task.

        Args:
            state: Its name, such as `PROGRESS`.
            meta: What else there is to say; anything that can be written down.

        Raises:
            NotSerializableError: `meta` cannot be written down.
        """
        if not self.request.called_directly:
            self._here("update_state").record("state", {"state": state, "meta": meta})

    def tell_revoked(self, result: Any, *, was_running: bool) -> None:
        """Be told that a node of it was cancelled from here, by its result; a subclass may do something then."""

    def perform(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function for a node, and return its value, or a `Growth`; a subclass may put more around it."""
        with _Growing() as growing:
            growing.value = self.function(*self._first(args), **kwargs)
        return growing.outcome()

    async def perform_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the coroutine function for a node; see `perform`."""
        with _Growing() as growing:
            growing.value = await self.function(*self._first(args), **kwargs)
        return growing.outcome()

    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function like any other, for whoever called the task outside of a job's graph."""
        request = Request(task=self.name, args=args, kwargs=kwargs, called_directly=True)
        if self.form == "coroutine":
            return self._called_async(request, args, kwargs)
        with _calling(request):
            return self.function(*self._first(args), **kwargs)

    async def _called_async(self, request: Request, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with _calling(request):
            return await self.function(*self._first(args), **kwargs)

    def _first(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self, *args) if self.binds else args

    def _performing(self) -> Callable[..., Any]:
        """Return what the engine calls in the function's place; it has the function's name, and signature."""
        function = self.function
        if self.form == "coroutine":

            @wraps(function)
            async def perform_async(*args: Any, **kwargs: Any) -> Any:
                return await self.perform_async(args, kwargs)

            return _without_self(perform_async, function) if self.binds else perform_async

        @wraps(function)
        def perform(*args: Any, **kwargs: Any) -> Any:
            return self.perform(args, kwargs)

        return _without_self(perform, function) if self.binds else perform

    def _here(self, what: str) -> Running:
        here = running.get()
        if here is None:
            raise LookupError(f"self.{what} says something only while a job runs {self.name}")
        return here

    def _spent(self, request: Request, exc: BaseException | None) -> BaseException:
        """Return what is raised when no attempt is left."""
        spent = MaxRetriesExceededError(
            f"no retry is left for {self.name} [{request.id}] after {request.retries}; "
            f"args: {request.args!r}, kwargs: {request.kwargs!r}"
        )
        if exc is None:
            return spent
        spent.__cause__, exc.__cause__ = exc.__cause__, spent  # which tells the engine that this is the end
        return exc


class _Growing:
    """Takes what a function returns, or asks for in place of that.

    Attributes:
        value: What it returned.
    """

    __slots__ = ("_added", "_replaced", "_token", "value")

    def __init__(self) -> None:
        self.value: Any = None
        self._added: list[Signature] = []
        self._replaced: Signature | None = None

    def __enter__(self) -> Self:
        self._token = _added.set(self._added)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _tb: TracebackType | None
    ) -> bool:
        _added.reset(self._token)
        self._replaced = error.sig if isinstance(error, Replaced) else None
        return self._replaced is not None

    def outcome(self) -> Any:
        """Return the value, or what is to stand in its place."""
        if self._replaced is None and not self._added:
            return self.value
        return Grown(self.value, self._replaced, self._added)


@contextmanager
def _calling(request: Request) -> Iterator[None]:
    token = _direct.set(request)
    try:
        yield
    finally:
        _direct.reset(token)


def _without_self(perform: Callable[..., Any], function: Callable[..., Any]) -> Callable[..., Any]:
    """Give what the engine calls the function's signature without the task itself.

    Raises:
        DefinitionError: The function takes nothing by position.
    """
    signature = signature_of(function)
    first = next(iter(signature.parameters.values()), None)
    if first is None or first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        raise DefinitionError(f"{function.__qualname__} has bind=True, so it must take the task first, as `self`")
    rest = list(signature.parameters.values())[first.kind is not first.VAR_POSITIONAL :]
    perform.__signature__ = signature.replace(parameters=rest)  # type: ignore[attr-defined]
    return perform
