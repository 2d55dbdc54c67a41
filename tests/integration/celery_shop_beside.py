"""The tasks of `celery_shop` in a worker that also has a Celery task of its user's."""

# mypy: disable-error-code="untyped-decorator"
from __future__ import annotations

import time

from millstream.worker import celery_app
from tests.integration.celery_shop import *  # noqa: F403  a worker takes what stands at the top level of its module


@celery_app.task
def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds
