"""Celery's tasks in the pool: their functions are called where they belong, whatever wraps them."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from celery.exceptions import Ignore, Reject, Retry

from millstream.backends.celery.pool.job import Dropped, Job, Place, current, identity
from millstream.backends.celery.pool.tracers import await_on_loop
from millstream.errors import SettingsError

_MARK = "_millstream_is_async"
_PLACES = ("auto", "thread", "process")


def is_async(task: Any) -> bool:
    """Whether a task's function is a coroutine function.

    Args:
        task: A Celery task that was adapted.
    """
    return bool(getattr(task, _MARK))


def is_adapted(task: Any) -> bool:
    """Whether `adapt` has seen a task."""
    return _MARK in vars(task)


def adapt(task: Any) -> None:
    """Let a task's function be called by its job: a coroutine on the loop, others where they can be interrupted.

    What stands around the function stays around it: `autoretry_for`, and a `__call__` of the task's class.

    Args:
        task: A Celery task; nothing happens if it was adapted before.

    Raises:
        SettingsError: Its `run_in` is no place of this pool, or Celery was told by its environment variable to keep
            requests by thread.
    """
    if is_adapted(task):
        return
    if (where := getattr(task, "run_in", "auto")) not in _PLACES:
        raise SettingsError(f"task {task.name}: run_in={where!r} is none of {', '.join(_PLACES)}")
    keep_by_job(task.request_stack)
    name = "_orig_run" if hasattr(task, "_orig_run") else "run"  # Celery's name for what `autoretry_for` wraps
    function = getattr(task, name)
    setattr(task, _MARK, inspect.iscoroutinefunction(inspect.unwrap(function)))
    setattr(task, name, _called_by_job(task, function))
    task.retry = partial(_retry, task, task.retry)
    task.on_replace = partial(_on_replace, task.on_replace)
    task.update_state = partial(_update_state, task, task.update_state)


def keep_by_job(stack: Any) -> None:
    """Let one of Celery's stacks be kept by the job whose code runs.

    Raises:
        SettingsError: Celery was told by its environment variable to keep it by thread.
    """
    if not hasattr(type(stack), "__ident_func__"):
        raise SettingsError("USE_FAST_LOCALS is set; Celery then keeps requests by thread: unset it for the async pool")
    stack.__ident_func__ = identity


def _called_by_job(task: Any, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        job = current.get()
        if job is None or job.task is not task or job.has_body:
            return function(*args, **kwargs)  # called as a function, not as a task
        job.has_body = True
        if job.is_dropped:
            raise Dropped
        try:
            return _call(job, partial(function, *args, **kwargs))
        except _Replaced as replaced:
            return replaced.act()
        finally:
            _publish(job)

    return call


def _call(job: Job, body: Callable[[], Any]) -> Any:
    if job.place is Place.LOOP:
        value = body()
        return await_on_loop(job, value) if inspect.iscoroutine(value) else value
    value = job.run_in_thread(body)
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError(
            f"{job.task.name} is a plain function that returned a coroutine: write it as `async def`, or let its "
            "decorator use functools.wraps, so that the pool can tell that it has to run on the loop"
        )
    if job.is_dropped:
        raise Dropped
    return value


def _publish(job: Job) -> None:
    """Publish the retries that a coroutine asked for, in the tracer's thread.

    Raises:
        Reject: One could not be published, as in Celery's own `retry`.
    """
    later, job.later = job.later, []
    if job.is_dropped:
        return
    for retry in later:
        try:
            retry.sig.apply_async()
        except Exception as error:
            raise Reject(error, requeue=False) from error


def _job_on_loop(task: Any) -> Job | None:
    """Return the job of this task that runs here, if this is the loop's thread."""
    job = current.get()
    if job is None or job.task is not task or threading.get_ident() != job.pool.loop_thread:
        return None
    return job


def _retry(
    task: Any,
    retry: Callable[..., Any],
    args: Any = None,
    kwargs: Any = None,
    exc: Any = None,
    throw: bool = True,  # noqa: FBT001, FBT002
    **options: Any,
) -> Any:
    """Celery's `retry`; on the loop all but the publishing, which follows when the coroutine has ended."""
    job = _job_on_loop(task)
    if job is None:
        return retry(args, kwargs, exc, throw, **options)
    request = task.request
    request.is_eager = True  # Celery then makes the signature and leaves publishing it to the caller
    try:
        answer: Retry = retry(args, kwargs, exc, throw=False, **options)
    finally:
        request.is_eager = False
    answer.is_eager = False
    job.later.append(answer)
    if throw:
        raise answer
    return answer


class _Replaced(Ignore):  # type: ignore[misc]
    """Raised by `self.replace` on the loop: the publishing follows in the tracer's thread."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__("Replaced by new task")
        self.act = act


def _on_replace(on_replace: Callable[[Any], Any], sig: Any) -> Any:
    job = current.get()
    if job is None or threading.get_ident() != job.pool.loop_thread:
        return on_replace(sig)
    raise _Replaced(partial(on_replace, sig))


def _update_state(
    task: Any, update: Callable[..., Any], task_id: Any = None, state: Any = None, meta: Any = None, **kwargs: Any
) -> Any:
    """Celery's `update_state`; on the loop it is stored a moment later, in order, by the tracer's thread."""
    job = _job_on_loop(task)
    if job is None or job.tracer is None:
        return update(task_id, state, meta, **kwargs)
    request = task.request

    def store() -> None:
        if not job.is_dropped:
            task.backend.store_result(task_id or request.id, meta, state, request=request, **kwargs)

    job.tracer.do(store)
    return None
