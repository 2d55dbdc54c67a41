"""Who may wait for results, and what of Celery's arguments is taken though it has no meaning here."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from millstream.engine.context import running
from millstream.errors import BlockingCallError

_may_wait: ContextVar[bool] = ContextVar("millstream_may_wait", default=False)

POLLING: Final = frozenset(
    {"interval", "no_ack", "follow_parents", "on_message", "on_interval", "EXCEPTION_STATES", "PROPAGATE_STATES"}
)
"""How Celery asks its result backend; here results come as events, and a failure before a task is its own at once."""

CONTROL: Final = frozenset({"connection", "reply", "signal", "timeout", "wait"})
"""How Celery tells its workers of a cancel; here it is recorded, and the answer tells what came of it."""


def refuse_inside_tasks() -> None:
    """Refuse to wait where that could wait for itself.

    Raises:
        BlockingCallError: A task runs here, outside of a block of `allow_join_result`; and not eagerly, for then all
            that it handed in has ended.
    """
    here = running.get()
    if here is not None and not here.request.is_eager and not _may_wait.get():
        raise BlockingCallError(
            "get() inside a task could wait for itself, and holds its place meanwhile; compose a chain or chord, "
            "or say get(disable_sync_subtasks=False) where you know that it cannot"
        )


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Let the code of a block wait for results inside a task; Celery's name for it.

    >>> with allow_join_result():
    ...     refuse_inside_tasks()
    """
    token = _may_wait.set(True)
    try:
        yield
    finally:
        _may_wait.reset(token)


def check_known(given: Collection[str], known: Collection[str], what: str) -> None:
    """Refuse arguments that Celery has not either.

    Raises:
        TypeError: One is unknown.
    """
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise TypeError(f"{what} takes no {', '.join(unknown)}")
