"""What a pool tells those who live on its loop beside the tasks: Celery signals, sent by the worker's main thread."""

from __future__ import annotations

from celery.utils.dispatch import Signal

loop_started = Signal(name="loop_started", providing_args={"loop"})
"""The loop runs and no task has begun. `sender` is the pool; `loop` is the asyncio loop."""

loop_draining = Signal(name="loop_draining", providing_args={"loop"})
"""No further task begins; those that run may end. `sender` is the pool; `loop` is the asyncio loop."""

loop_closing = Signal(name="loop_closing", providing_args={"loop"})
"""No task runs any more; the loop ends when the receivers return. `sender` is the pool; `loop` is the asyncio loop."""
