"""Parking: the runners of a run, those who wait among them, and what wakes them."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence

import anyio

from millstream.engine.calls import Calls
from millstream.engine.deadline import is_cancelled_here
from millstream.engine.handing import Handing
from millstream.engine.priority import PriorityQueue
from millstream.engine.waits import Kind, Waits
from millstream.errors import MillstreamError
from millstream.graph.plan import Place, Plan


class StalledError(MillstreamError):
    """Raised when nodes are left but nothing runs that could release them: a defect of millstream."""


class Parking(ABC):
    """The half of a run that says who runs, who waits, and whether to go on.

    Args:
        plan: What is run.
        is_prioritised: Whether some nodes go before others.

    Attributes:
        ready: Nodes that may start.
        chains: Whether a runner goes on with what its node released.
        spare: Runners that were started and have taken nothing yet.
        running: Runners, the parked one among them.
        paused: What the run was laid down for, and until when.
    """

    job_id: str
    group: anyio.abc.TaskGroup
    waits: Waits
    calls: Calls
    handing: Handing | None

    def __init__(self, plan: Plan, *, is_prioritised: bool) -> None:
        """Start with no runner."""
        self.plan = plan
        self.ready: deque[Place] | PriorityQueue = PriorityQueue() if is_prioritised else deque()
        self.chains = not is_prioritised
        self.loop = asyncio.get_running_loop()
        self.spare = self.running = 0
        self.is_cancelled = self.is_stopped = self.has_revoked = self._cancels_around = False
        self.paused: tuple[Kind, float | None] | None = None
        self._elsewhere = 0
        self._parked: asyncio.Future[None] | None = None
        self._is_over = False

    def hold(self) -> None:
        """Note that something outside the runners will call `resume` later."""
        self._elsewhere += 1

    def resume(self, places: Sequence[Place]) -> None:
        """Take what followed from something outside the runners (see `hold`)."""
        self._elsewhere -= 1
        self.release(places)

    def release(self, places: Sequence[Place]) -> None:
        """Hand nodes that may start to a runner: the parked one, else a new one; to none when all is over."""
        if self._is_over:
            return
        self.ready.extend(places)
        if self._parked is not None:
            if places or self.plan.is_done or not self._elsewhere:
                self.wake()
        elif places:
            self.spawn()

    @abstractmethod
    def spawn(self) -> None:
        """Start a spare runner, unless there is one or there are too many."""

    async def park(self) -> bool:
        """Wait until something is ready, or the plan is done; return whether to go on, not to pause.

        Raises:
            StalledError: Nothing can ever become ready.
        """
        # Where all is cancelled the others may just be gone first.
        if not self._elsewhere and self.running == 1 and not is_cancelled_here():
            if not self.waits:
                raise StalledError(f"job {self.job_id} has {self.plan.root.todo} nodes left, and nothing runs")
            if self.waits.may_pause():
                self.paused = self.waits.next()
                self.is_stopped = True
                return False
        if self.handing is not None:
            self.handing.watch()
        self._parked = self.loop.create_future()
        try:
            await self._parked
        finally:
            self._parked = None
        return True

    @property
    def is_over(self) -> bool:
        """Whether the run takes nothing more: it has ended, or is about to."""
        return self._is_over or self.is_stopped

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs but the bodies of conducting flows, which await what is recorded of them."""
        runners = self.running - (self._parked is not None)
        return not (self.ready or self._elsewhere or self.spare) and runners <= self.calls.bodies

    @property
    def has_no_other(self) -> bool:
        """Whether nothing could go on beside the runner that asks, but for the bodies of conducting flows."""
        others = self.running - (self._parked is not None) - 1
        return not (self.ready or self._elsewhere) and others <= self.calls.bodies

    def stop(self) -> None:
        """Stop everything that runs, and record nothing of it: another run goes on with the job."""
        self.is_stopped = self.has_revoked = True
        if hasattr(self, "group"):
            self.group.cancel_scope.cancel()

    def pause(self) -> None:
        """End the run until a wait is over: bodies of conducting flows are stopped, and run again then."""
        self.paused = self.waits.next()
        self.stop()

    def wake(self) -> None:
        """Wake the parked runner, if one is parked."""
        if self._parked is not None and not self._parked.done():
            self._parked.set_result(None)
