"""What keeps a task from taking more than its share, where what it does is decided by whoever drew the flow.

Python's regular expressions and templates can be made to run for ever, or to fill the memory, by a line of text. So the
tasks that take them run in a process of the pool (`run_in="process"`), which the engine kills when their `timeout` is
over or their job is cancelled. Before that the soft time-out tells in one line what took too long; it interrupts all
but arithmetic on huge numbers. The hard one leaves time for a process to start.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from millstream.authoring import current
from millstream.engine.context import running
from millstream.errors import SoftTimeLimitExceeded

MOST_MEMORY = 512 << 20
"""Bytes of memory that a template or a pattern may take."""


@contextmanager
def bounds(what: str) -> Iterator[None]:
    """Bound the memory of what runs in a block of a pool process, and say what it was that took too much.

    Args:
        what: What runs there, as errors call it: `the template`.

    Raises:
        TimeoutError: The task's soft time-out was over.
        MemoryError: It wanted more than `MOST_MEMORY` bytes.
        RecursionError: It is nested too deeply.
    """
    try:
        with _memory_bounded():
            yield
    except SoftTimeLimitExceeded:
        raise TimeoutError(f"{what} took too long, and was stopped") from None
    except MemoryError:
        raise MemoryError(f"{what} wanted more than {MOST_MEMORY >> 20} MiB of memory") from None
    except RecursionError:
        raise RecursionError(f"{what} is nested too deeply") from None


@contextmanager
def _memory_bounded() -> Iterator[None]:
    """Let this process take no more than `MOST_MEMORY` beyond what it has; only where it is one of the pool.

    Elsewhere, as in a test that calls the task itself, it would be a bound on the whole program.
    """
    is_in_pool = running.get() is not None and current.override() is None  # as `current.app` tells it, too
    if sys.platform != "linux" or not is_in_pool:
        yield
        return
    import resource  # noqa: PLC0415  it is not there on every platform

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    wanted = pages * resource.getpagesize() + MOST_MEMORY
    limits = [limit for limit in (wanted, soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
