"""What `celery.utils` has for tasks."""

from __future__ import annotations

from uuid import uuid4

__all__ = ["gen_unique_id", "uuid"]


def uuid() -> str:
    """Return a new id."""
    return str(uuid4())


gen_unique_id = uuid
