"""The canvas, as `celery.canvas` has it; the classes are millstream's own."""

from __future__ import annotations

from typing import Any

from millstream.authoring.canvas.maps import chunks, xmap, xstarmap
from millstream.authoring.canvas.primitives import chain, chord, group
from millstream.authoring.canvas.signature import Signature
from millstream.authoring.canvas.stamps import StampingVisitor
from millstream.compat import _state

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]


def signature(varies: Any, *args: Any, app: Any = None, **options: Any) -> Signature:
    """Return a signature: of a task, of a task by its name, or of a dict; or the signature that is given.

    Args:
        varies: What it is made of.
        args: For a task: its arguments by position as a tuple, those by name as a dict, its options as a dict.
        app: The app that finds the task; by default the current one.
        options: `args, kwargs, immutable`, and options of the task.

    Example:
        >>> signature("tasks.add", args=(2, 2), countdown=10)
        tasks.add(2, 2)
    """
    if isinstance(varies, Signature):
        return varies.clone()
    made: Signature = (app or _state.get_current_app()).signature(varies, *args, **options)
    return made


subtask = signature


def maybe_signature(varies: Any, app: Any = None, **_options: Any) -> Signature | None:
    """Return a signature of what may be one already, or a dict; `None` for `None`."""
    if varies is None or isinstance(varies, Signature):
        return varies
    return signature(varies, app=app)
