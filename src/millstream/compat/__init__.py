"""Celery's names, so that an application moves over by changing its imports: `celery` to `millstream.compat`.

No Celery needs to be installed. `docs/howto/move-from-celery.md` says what stays and what differs.
"""

from __future__ import annotations

from millstream.compat._state import current_app, current_task
from millstream.compat.app import Celery, Task, shared_task
from millstream.compat.canvas import (
    Signature,
    chain,
    chord,
    chunks,
    group,
    maybe_signature,
    signature,
    subtask,
    xmap,
    xstarmap,
)
from millstream.compat.conf import NotYetWarning
from millstream.compat.utils import uuid

__all__ = [
    "Celery",
    "NotYetWarning",
    "Signature",
    "Task",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]
