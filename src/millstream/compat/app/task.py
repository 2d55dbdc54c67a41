"""`Task`: a task with Celery's attributes and handlers; what `@app.task` returns, and the base of class-based tasks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import wraps
from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self

from millstream.authoring.results.async_result import AsyncResult
from millstream.authoring.task import Task as PlainTask
from millstream.clock import chance
from millstream.compat._state import get_current_app, performing
from millstream.compat.app.models import Models
from millstream.compat.app.naming import gen_task_name
from millstream.compat.app.options import ATTRIBUTES, OWN_POLICIES, policy_of
from millstream.compat.app.retries import counted, headers_after
from millstream.compat.app.times import aware, countdown_of
from millstream.compat.app.trace import Trace, told, told_revoked, tracing
from millstream.compat.exceptions import Ignore, MaxRetriesExceededError, OperationalError, Retry
from millstream.engine.request import Request as Context
from millstream.engine.signatures import signature_of
from millstream.errors import Reject, Skip
from millstream.errors import Retry as PlainRetry
from millstream.model.policy import Policy

if TYPE_CHECKING:  # an app makes tasks
    from millstream.compat.app.base import Celery

__all__ = ["Context", "Task"]


class Task(PlainTask[..., Any]):
    """A task with Celery's attributes, methods and handlers.

    A class of one's own defines `run`, and is registered by `app.register_task(MyTask())`; or it is the `base` of tasks
    that are made of functions. One object is made of each, so its attributes are shared by all runs in a process.

    Attributes:
        name: The name under which it is known.
        max_retries: How often `self.retry()` may be used; `None` sets no bound.
        default_retry_delay: Seconds until the next attempt, where `self.retry()` does not say.
        autoretry_for: Exceptions after which the task is retried by itself; not those in `dont_autoretry_for`.
        retry_kwargs: What `self.retry()` then gets.
        retry_backoff: Seconds before the first retry, doubled for each further one, up to `retry_backoff_max`, with
            `retry_jitter` drawn from [0, delay]; `True` is 1 second.
        throws: Exceptions that are expected; kept, and nothing more: what fails is never logged as an error here.
        ignore_result, track_started, serializer, trail, typing, send_events, store_errors_even_if_ignored,
            reject_on_worker_lost, resultrepr_maxsize: Kept; they mean nothing here. `conf.report()` says why of the
            settings of these names.
        rate_limit: Not there yet.
        follows_app: Whether its class is that of the current app's tasks: so it is for `shared_task` without `base`.
    """

    performs: ClassVar[bool] = True
    follows_app: ClassVar[bool] = False
    MaxRetriesExceededError = MaxRetriesExceededError
    OperationalError = OperationalError

    name: str = None  # type: ignore[assignment]  # a class may do without: the object always has one
    max_retries: int | None = 3
    default_retry_delay: float = 180
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = {}
    retry_backoff: float | bool = False
    retry_backoff_max: float = 600
    retry_jitter: bool = True
    time_limit: float | None = None
    soft_time_limit: float | None = None
    acks_late: bool | None = None
    reject_on_worker_lost: bool | None = None
    priority: int | None = None
    queue: Any = None
    expires: Any = None
    rate_limit: str | None = None
    ignore_result: bool | None = None
    track_started: bool | None = None
    serializer: str | None = None
    store_errors_even_if_ignored: bool | None = None
    send_events: bool = True
    trail: bool = True
    typing: bool | None = None
    throws: tuple[type[BaseException], ...] = ()
    resultrepr_maxsize: int = 1024
    abstract: bool = True

    _app: ClassVar[Celery | None] = None
    _models: ClassVar[Models | None] = None
    _origin: ClassVar[Callable[..., Any] | None] = None

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self:
        """Define the task: a subclass's `__init__` may do what it likes, also without calling this one."""
        made = super().__new__(cls)
        made._define()
        return made

    def __init__(self) -> None:
        """Nothing is left to do."""

    def _define(self) -> None:
        app = self._app
        name = type(self).name or gen_task_name(app or get_current_app(), type(self).__name__, type(self).__module__)
        self._policy_key: tuple[Any, ...] = ()
        PlainTask.__init__(self, self._entry(), name=name)
        self.__dict__.pop("__wrapped__", None)
        self.__wrapped__ = self._origin or self.run

    def _entry(self) -> Callable[..., Any]:
        """Return the function that a run calls: `run`, or the task itself where its class says what a call does."""
        run = self.run

        def called(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return (self.run if type(self).__call__ is Task.__call__ else self)(*args, **kwargs)

        if inspect.iscoroutinefunction(run):

            @wraps(run)
            async def entry_async(*args: Any, **kwargs: Any) -> Any:
                try:
                    return told(await called(args, kwargs))
                except Exception as error:
                    self._autoretry(error)
                    raise

            return entry_async

        @wraps(run)
        def entry(*args: Any, **kwargs: Any) -> Any:
            try:
                return told(called(args, kwargs))
            except Exception as error:
                self._autoretry(error)
                raise

        return entry

    # ---------------------------------------------------------------------------------------------------- the app
    @property
    def app(self) -> Celery:
        """The app that it belongs to: the current one for tasks that belong to all."""
        return self._app or get_current_app()

    @classmethod
    def bind(cls, app: Celery) -> Celery:
        """Make the class belong to an app."""
        cls._app = app
        cls.on_bound(app)
        return app

    @classmethod
    def on_bound(cls, app: Celery) -> None:
        """Do what is due when the class is bound to an app; for subclasses."""

    @property
    def runs_on(self) -> Any:
        """What its signatures are submitted to."""
        return self.app.door

    @property
    def policy(self) -> Policy:
        """How it is run: its attributes, and the app's settings where it has none."""
        app = self.app
        app.finalize(auto=True)
        key = (app, app.conf.revision, *(getattr(self, name) for name in ATTRIBUTES), *_own(self))
        if key != self._policy_key:
            self._policy = policy_of(self, self._base_policy)
            self._policy_key = key
        return self._policy

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self._base_policy = policy

    def is_same_as(self, other: Task) -> bool:
        """Return whether another task is made of the same function, maybe of a former load of its module."""
        return bool(_place(self) == _place(other))

    # ------------------------------------------------------------------------------------------------- running it
    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Do what the task does; a class-based task says what.

        Raises:
            NotImplementedError: It does not.
        """
        raise NotImplementedError(f"{type(self).__name__} must define run(): what the task does")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function; in the body of a flow add a node."""
        if performing.get() is self:
            return self.run(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def called(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call the function for somebody who called the task like one."""
        self.app.finalize(auto=True)  # which gives a shared task its class
        token = performing.set(self)
        try:
            return super().called(args, kwargs)
        finally:
            performing.reset(token)

    def perform(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the function for a node, with handlers and signals around it."""
        with Trace(self, args, kwargs) as trace:
            trace.start()
            return super().perform(args, kwargs)

    async def perform_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the coroutine function for a node, with handlers and signals around it."""
        with Trace(self, args, kwargs) as trace:
            trace.start()
            return await super().perform_async(args, kwargs)

    # ------------------------------------------------------------------------------------------- for a running task
    @property
    def request(self) -> Context:
        """The attempt that runs here; it counts retries also over those with other arguments."""
        return counted(super().request)

    def retry(  # type: ignore[override]  # Celery's order
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Ask for another attempt; does not return, unless `throw` is off.

        Args:
            args: Other arguments by position for the next attempt, which then replaces this task.
            kwargs: As `args`, by name.
            exc: What went wrong; raised when no attempt is left, in place of `MaxRetriesExceededError`.
            throw: Whether to raise the `Retry`; else it is returned, for the task to raise.
            eta: When the next attempt starts.
            countdown: Seconds until the next attempt; by default `default_retry_delay`.
            max_retries: Replaces the task's own for this retry.
            options: `expires`; others mean nothing for an attempt of the same job.

        Raises:
            Retry: So that another attempt is made.
            MaxRetriesExceededError: No attempt is left, and there is no `exc`.
            Exception: `exc`, where no attempt is left, or the task was called directly.
        """
        request = self.request
        if request.called_directly:
            raise exc or Retry("Task can be retried", None)
        limit = self.max_retries if max_retries is None else max_retries
        if max_retries is None and limit is not None:
            limit = request.max_retries  # which a signature's option may have changed
        when = eta or (self.default_retry_delay if countdown is None else countdown)
        again = super().retry(
            exc,
            None if eta is not None else countdown_of(when),
            limit,
            options.get("expires"),
            aware(self.app.conf, eta),
            throw=False,
        )
        if (args is not None and tuple(args) != request.args) or (kwargs is not None and kwargs != request.kwargs):
            self._go_on_with(args, kwargs, again)
        told = Retry(None, exc, when, request.is_eager, limit=again.limit, expires=again.expires)
        told.delay = again.delay
        if throw:
            raise told
        return told

    def _go_on_with(self, args: Iterable[Any] | None, kwargs: Mapping[str, Any] | None, again: PlainRetry) -> NoReturn:
        """Let a task with other arguments run in this one's place, with the retries that are left."""
        request = self.request
        if args is None and kwargs is not None:  # a name that was given by position before
            args, kwargs = (), {**signature_of(self.run).bind_partial(*(request.args or ())).arguments, **kwargs}
        left = {} if again.limit in (None, inf) else {"max_retries": int(again.limit or 0) - request.retries - 1}
        named = request.kwargs if kwargs is None else kwargs
        options = {"countdown": again.delay, "headers": headers_after(request), **left}
        self.replace(self.signature(tuple(args or ()), named, immutable=True, **options))

    def _autoretry(self, error: Exception) -> None:
        """Ask for another attempt after an exception of `autoretry_for`."""
        if isinstance(error, (Skip, Reject, PlainRetry, *self.dont_autoretry_for)):
            return
        if isinstance(error, tuple(self.autoretry_for)):
            options = dict(self.retry_kwargs)
            if self.retry_backoff:
                first = max(1, int(self.retry_backoff))
                delay = min(self.retry_backoff_max, first * 2**self.request.retries)
                options["countdown"] = chance() * delay if self.retry_jitter else delay
            raise self.retry(exc=error, **options)

    def replace(self, sig: Any) -> NoReturn:
        """End this task, and let a signature or a whole canvas run in its place: its result is this task's.

        Raises:
            Ignore: Always.
        """
        self.on_replace(sig)
        raise Ignore("replaced by another task")

    def on_replace(self, sig: Any) -> Any:
        """Replace the task; an override must call this one."""
        if (trace := tracing.get()) is not None:
            trace.is_replaced = True
        super().replace(sig)

    def update_state(  # type: ignore[override]  # Celery's order
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **_others: Any
    ) -> None:
        """Record a state of one's own, which results show until the task ends.

        Raises:
            NotImplementedError: `task_id` is that of another task.
        """
        if task_id is not None and task_id != self.request.id:
            raise NotImplementedError(f"{self.name} can tell its own state only, not that of {task_id}")
        super().update_state(state, meta)

    def tell_revoked(self, result: Any, *, was_running: bool) -> None:
        """Send `task_revoked` in the process that cancels a node of it, where no run of it does."""
        told_revoked(self, result, was_running=was_running)

    # ------------------------------------------------------------------------------------------------- handlers
    def before_start(self, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Do something before each attempt; what it raises fails the attempt. For subclasses."""

    def on_success(self, retval: Any, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Do something after the task has succeeded. For subclasses."""

    def on_retry(self, exc: Any, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any], einfo: Any) -> None:
        """Do something after the task has asked for another attempt. For subclasses."""

    def on_failure(self, exc: Any, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any], einfo: Any) -> None:
        """Do something after the task has failed. For subclasses."""

    def after_return(
        self, status: str, retval: Any, task_id: str, args: tuple[Any, ...], kwargs: dict[str, Any], einfo: Any
    ) -> None:
        """Do something after the task has succeeded or failed. For subclasses."""

    # ---------------------------------------------------------------------------------------------- submitting it
    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,  # noqa: ARG002  there is no message that it could send
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,  # noqa: ARG002  jobs are shown by their task's name
        **options: Any,
    ) -> Any:
        """Submit it, and return its `AsyncResult` without waiting for it.

        Args:
            args: Arguments by position.
            kwargs: Arguments by name.
            task_id: An id of one's own.
            producer: Means nothing here.
            link: Signatures that run after it has succeeded, with its result.
            link_error: Signatures that run after it has failed.
            shadow: Means nothing here.
            options: `countdown, eta, expires, priority, queue, time_limit, soft_time_limit, max_retries, headers`; what
                speaks of messages and brokers means nothing here.
        """
        return self.signature(args, kwargs).apply_async(task_id=task_id, link=link, link_error=link_error, **options)

    def AsyncResult(self, task_id: str, **_options: Any) -> AsyncResult:
        """Return the result of a task of this kind by its id."""
        return self.app.AsyncResult(task_id)

    def signature_from_request(
        self, request: Any = None, args: Any = None, kwargs: Any = None, queue: str | None = None, **options: Any
    ) -> Any:
        """Return a signature with the arguments of a request, or with others."""
        request = self.request if request is None else request
        given = request.args if args is None else args
        named = request.kwargs if kwargs is None else kwargs
        return self.signature(given, named, immutable=True, queue=queue, **options)

    subtask_from_request = signature_from_request

    @property
    def models(self) -> Models | None:
        """The models of a task with `pydantic=True`."""
        return self._models


def _own(task: Task) -> tuple[Any, ...]:
    """Return what a task says in millstream's own names of policies."""
    return tuple(vars(task).get(name, vars(type(task)).get(name)) for name in OWN_POLICIES)


def _place(task: Task) -> Any:
    code = getattr(inspect.unwrap(task.fn), "__code__", None)
    return (code.co_filename, code.co_qualname) if code else type(task)
