"""The Celery app of the comparison; both its worker and its client import it, in an environment of Celery's own."""

from __future__ import annotations

import json
import os
from typing import Any

import celery
import redis
from celery import signals

from tests.differential.tasks import define
from tests.valkey import URL_VARIABLE, announce

NOTES = "tests:notes"
OPEN = "tests:open"
"""How many messages are published whose task has not ended: at 0, nothing of any canvas can happen any more."""

URL = os.environ[URL_VARIABLE]
app = celery.Celery("differential", broker=URL, backend=URL)
app.conf.update(worker_hijack_root_logger=False, task_default_retry_delay=0, broker_connection_retry_on_startup=True)
store = redis.Redis.from_url(URL)


def _note(what: list[Any]) -> None:
    store.rpush(NOTES, json.dumps(what))


def _published(**_: Any) -> None:
    store.incr(OPEN)


def _ended(task: Any, **_: Any) -> None:
    if not task.request.is_eager:  # as Celery runs some errbacks: without a message
        store.decr(OPEN)


tasks = define(app.task, celery.group, _note)
signals.before_task_publish.connect(_published, weak=False)
signals.task_postrun.connect(_ended, weak=False)
signals.worker_ready.connect(announce, weak=False)
