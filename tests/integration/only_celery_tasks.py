"""Tasks of Celery alone, for a worker of millstream."""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import asyncio
import os

from millstream.worker import celery_app


@celery_app.task
async def light() -> int:
    await asyncio.sleep(0)
    return os.getpid()


@celery_app.task(run_in="process")
def heavy() -> int:
    return os.getpid()
