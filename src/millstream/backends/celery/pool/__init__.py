"""A worker pool for Celery that runs `async def` tasks natively: thousands of waiting ones in one process.

    CELERY_CUSTOM_WORKER_POOL=millstream.backends.celery.pool:TaskPool celery -A shop worker -P custom

Where a task runs:

- `async def` tasks on the one asyncio loop of the worker process, which is in a thread of its own;
- plain functions in threads: at most `millstream_max_threads` (40, or `-c` if that is less) at once;
- plain functions with a hard time limit, and tasks with the option `run_in="process"`, in processes of their own that
  can be killed: at most `millstream_max_processes` (as many as CPUs, or `-c` if that is less) at once. A plain task
  with the option `run_in="thread"` stays in a thread whatever its limits.

A thread cannot be killed. When a task in one is terminated or over its hard limit, its state is stored at once, its
result is dropped and its slot is free, and the function gets an exception that ends it at its next Python instruction;
what it is in outside of Python (a blocking call) goes on until it returns.

Celery's `current_task` and `self.request` are kept by a context variable. So they are right in the coroutine, in what
it starts (`asyncio.gather`, task groups) and in `asyncio.to_thread`. Whatever waits for a broker or a result backend on
behalf of a task is done by other threads: the loop does not wait for storing its state and result, for what it links
to, for `self.retry`, `self.replace` and `self.update_state`. A task's own calls of `other.delay()` are the task's:
`await asyncio.to_thread(other.delay)` keeps them off the loop.
"""

from millstream.backends.celery.pool.signals import loop_closing, loop_draining, loop_started
from millstream.backends.celery.pool.task_pool import TaskPool

__all__ = ["TaskPool", "loop_closing", "loop_draining", "loop_started"]
