"""The Celery app that is measured; both its worker and its client import it."""

from __future__ import annotations

import os

import celery
from celery.signals import worker_ready

from benchmarks import canvases, places, works
from tests.valkey import URL_VARIABLE, announce

results = os.environ[URL_VARIABLE]
app = celery.Celery("bench", broker=os.environ.get(places.BROKER_VARIABLE, results), backend=results)
step = app.task(name="step")(canvases.step)
total = app.task(name="total")(canvases.total)
wait = app.task(name="wait")(works.wait)
burn = app.task(name="burn")(works.burn)
hold = app.task(name="hold")(works.hold)
worker_ready.connect(announce, weak=False)
