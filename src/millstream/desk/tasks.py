"""How a task stands, under the names and in the shape that clients of Celery know: for the server and for Flask."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from millstream.authoring.results import states
from millstream.errors import JobNotFoundError

if TYPE_CHECKING:
    from millstream.authoring.current import App
    from millstream.authoring.results.watch import Watch

STARTED: Final = "Task started"
"""What whoever starts a task is told as its `status`."""

_WITHOUT_RESULT = (states.PENDING, states.STARTED, states.RETRY)


async def task_status(app: App, task_id: str) -> dict[str, Any] | None:
    """Return how a task stands: `task_id`, `status` and `result`; `None` where no task is known under the id.

    The status is one of Celery's, or the task's own. The result is what the task returned; of one that failed or was
    revoked its error, `{"type", "message"}`; of one with a state of its own what it said with that; else `None`.

    Args:
        app: The app that knows the task.
        task_id: A job's id, `<job id>.<node>`, or the id that the task was submitted under.
    """
    place = await app.locate(task_id)
    if place is None:
        return None
    watch, node = app.watch(place[0]), place[1]
    try:
        await watch.refresh()
        standing = watch.standing(node)
        result: Any
        if standing.is_bad:
            result = await _error(watch, node)
        elif standing.is_ready:
            (result,) = await watch.outcomes([node])
        else:
            result = None if standing.state in _WITHOUT_RESULT else await watch.meta(node)
    except JobNotFoundError:
        return None
    return {"task_id": task_id, "status": standing.state, "result": result}


async def _error(watch: Watch, node: str | None) -> dict[str, str]:
    failure = await watch.failure(node)
    if failure is not None:
        return {"type": failure.short_type, "message": failure.message}
    (error,) = await watch.outcomes([node])
    return {"type": type(error).__name__, "message": str(error)}


def as_json(content: Mapping[str, Any]) -> bytes:
    """Return an object as strict JSON; what JSON does not have is in it as Python shows it.

    Example:
        >>> as_json({"status": "SUCCESS", "result": {"ratio": float("nan"), "size": 1 + 2j}})
        b'{"status":"SUCCESS","result":{"ratio":null,"size":"(1+2j)"}}'
    """
    parts = b",".join(b"%b:%b" % (msgspec.json.encode(key), _value(value)) for key, value in content.items())
    return b"{%b}" % parts


def _value(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, enc_hook=repr)
    except (TypeError, ValueError, OverflowError, RecursionError):
        return msgspec.json.encode(repr(value))
