"""Calls of plain functions that are attempts of nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from millstream.engine.threads import ThreadCall
from millstream.graph.frame import Frame

if TYPE_CHECKING:
    from millstream.engine.run import Run

_COMPUTES = 0.1
"""Share of its time that a function has the interpreter for, if it computes: it may have to share it with others."""


class NodeCall(ThreadCall):
    """A node's attempt in a thread.

    Attributes:
        run: The run whose node it is.
        frame: The node's frame.
        index: The node's index there.
    """

    __slots__ = ("frame", "index", "run")

    def __init__(self, fn: Callable[..., Any], args: Sequence[Any], run: Run, frame: Frame, index: int) -> None:
        """Take the call, and the node that it is for."""
        super().__init__(fn, args)
        self.run = run
        self.frame = frame
        self.index = index

    @property
    def job_id(self) -> str:
        """Id of the job."""
        return self.run.job_id

    def execute(self) -> tuple[BaseException | None, Any]:
        """Run the function; where nodes may be handed out, note what it costs."""
        port = self.run.services.hand_out
        if port is None:
            return super().execute()
        wall, cpu = time.perf_counter(), time.thread_time()
        try:
            return super().execute()
        finally:
            wall, cpu = time.perf_counter() - wall, time.thread_time() - cpu
            # A function that computes waits for the interpreter too, which says nothing of what it costs elsewhere.
            port.note(self.frame.content.work(self.index).name, cpu if cpu > _COMPUTES * wall else wall)

    def disarm(self) -> None:
        """Take time-outs back, where there are any."""
