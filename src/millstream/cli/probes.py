"""The trivial tasks that `millstream doctor` runs, one in each place where tasks run."""

from __future__ import annotations

import os
import threading

from millstream.authoring.task import task

_SECONDS = 30.0


@task(timeout=_SECONDS)
async def on_loop() -> str:
    """Say which process the event loop lives in."""
    return f"process {os.getpid()}"


@task(timeout=_SECONDS)
def in_thread() -> str:
    """Say which thread this is."""
    return f"thread {threading.current_thread().name}"


@task(run_in="process", timeout=_SECONDS)
def in_process() -> str:
    """Say which process this is."""
    return f"process {os.getpid()}"
