"""Runners: the coroutines that await nodes. This is the engine's hot path.

The segment's own coroutine is the first runner; a chain, or a fan of nodes that do not suspend, needs no other. Before
a runner awaits a node while others are ready it makes sure that a spare runner is on its way, which then takes over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from millstream.engine import control, elsewhere
from millstream.engine.again import check_expiry
from millstream.engine.attempt import Attempt, cache_key
from millstream.engine.context import running
from millstream.engine.deadline import Deadline, is_cancelled_here
from millstream.engine.program import Mode, Recalled, mode_in_worker
from millstream.engine.recall import recall
from millstream.graph.frame import Frame
from millstream.graph.plan import Place
from millstream.model.failure import record_failure
from millstream.points import reach

if TYPE_CHECKING:
    from millstream.engine.run import Run

_TURN = 64
"""Nodes after which a runner lets the loop run: else nodes that never suspend would hold up everything else."""


async def work(run: Run, is_host: bool = False) -> None:  # noqa: FBT001, FBT002  a task group passes it by position
    """Take ready nodes until there are none; the host goes on until the plan is done."""
    if not is_host:
        run.spare -= 1
    run.running += 1
    deadline = Deadline(run.services.clock)
    run.deadlines.add(deadline)
    try:
        while True:
            while run.ready:
                frame, index = run.ready.popleft()
                await _chain(run, frame, index, deadline)
            if not is_host:
                return
            if run.plan.is_done or not await run.park():
                return
    except asyncio.CancelledError:
        if not is_cancelled_here():
            run.cancel_around()
        raise
    finally:
        run.running -= 1
        deadline.close()
        run.deadlines.discard(deadline)
        if not is_host:
            run.wake()


async def _chain(run: Run, frame: Frame, index: int, deadline: Deadline) -> None:
    """Run a node, then in place the first of those that it releases, and so on."""
    done = 0
    following: Sequence[Place]
    while not (run.is_cancelled or run.is_stopped):
        program = frame.content.program
        mode = program.modes[index]
        if not run.is_fresh:
            following = await _anew(run, frame, index, deadline)
        elif mode is Mode.THREAD and program.guards[index] is None:
            following = elsewhere.start_thread(run, frame, index)
        elif mode or program.guards[index] is not None:
            following = await _special(run, frame, index, deadline)
        else:
            following = await _plain(run, frame, index, deadline)
        deadline.frame = None  # what is revoked from here on does not concern this runner
        done += 1
        if done % _TURN == 0:
            await asyncio.sleep(0)
        if not following:
            return
        if not run.chains:
            run.ready.extend(following)
            return
        if len(following) > 1:
            run.ready.extend(following[1:])
        frame, index = following[0]


async def _anew(run: Run, frame: Frame, index: int, deadline: Deadline) -> Sequence[Place]:
    """Take a node in a run that goes on from a record, or in which processes died."""
    if run.past is not None:
        following = recall(run, run.past, frame, index)
        if following is not None:
            return following
    return await _special(run, frame, index, deadline)


async def _plain(run: Run, frame: Frame, index: int, deadline: Deadline) -> Sequence[Place]:
    """Await a coroutine function that has no say before or during its attempt: the most common node by far."""
    scope = frame.content
    program = scope.program
    attempt = run.attempts.get((frame, index), 1) if run.attempts else 1
    run.put((False, "node_started", run.now(), frame.name(index), None))
    running.set(Attempt(run, frame, index, attempt))
    if run.ready:
        run.spawn()
    deadline.frame = frame
    reach("before-effect")
    try:
        source = program.sources[index]
        if source is None:
            value = await _call(scope, program.fns[index], index, deadline)
        else:
            values = scope.values
            value = await program.fns[index](*[values[i] for i in source])
    except BaseException as error:
        if deadline.take_revoked():
            return ()
        if is_stopping(run, error):
            raise
        return run.failed(frame, index, record_failure(error, frame.name(index)), attempt)
    if run.has_revoked and deadline.take_revoked():
        return ()
    return run.succeeded(frame, index, value, attempt)


async def _special(run: Run, frame: Frame, index: int, deadline: Deadline) -> Sequence[Place]:
    """Run or start a node that is anything else; what it raises ends its attempt."""
    attempt = run.attempt_of(frame, index)
    try:
        mode = mode_of(run, frame, index)
        if mode is Mode.CONTROL:
            return control.act(run, frame, index)
        if mode is Mode.MAP:
            return elsewhere.open_map(run, frame, index)
        return await _start(run, frame, index, attempt, mode, deadline)
    except BaseException as error:
        if deadline.take_revoked():
            return ()
        if is_stopping(run, error):
            raise
        return run.failed(frame, index, record_failure(error, frame.name(index)), attempt)


async def _start(run: Run, frame: Frame, index: int, attempt: int, mode: Mode, deadline: Deadline) -> Sequence[Place]:
    """Start an attempt under its policy: not when it came too late, nor when its result is known."""
    scope = frame.content
    following = _instead(run, frame, index, attempt)
    if following is not None:
        return following
    policy, calls, key = scope.policy(index), scope.calls(index), None
    if policy.cache_ttl is not None:
        key = cache_key(scope.work(index), policy, calls)
        is_known, value = run.services.cache.get(key, run.now())
        if is_known:
            return run.succeeded(frame, index, value, 0)
    if policy.run_in == "worker" and run.services.hand_out is not None and run.isolation is None:
        mode = mode_in_worker(scope.work(index))
    started = elsewhere.Started(run, frame, index, attempt, policy, calls, key)
    if not started.announce():
        return run.gate.recorded([(frame, index)])
    reach("before-effect")
    if mode is Mode.THREAD:
        started.in_thread()
        return ()
    if mode is Mode.PROCESS:
        started.in_process()
        return ()
    if run.ready:
        run.spawn()
    deadline.frame = frame
    following = await started.on_loop(mode, deadline)
    return () if run.has_revoked and deadline.take_revoked() else following


def _instead(run: Run, frame: Frame, index: int, attempt: int) -> Sequence[Place] | None:
    """Return what follows where no attempt is made here: it gave a graph, it is too late, or others execute it."""
    known = run.past.drawn(frame.name(index)) if run.past is not None else None
    if known is not None:
        return run.expand(frame, index, "", Recalled(*known, run.services.code.find))
    late = check_expiry(run, frame, index, attempt)
    if late is not None:
        return run.ended_badly(frame, index, late, attempt)
    return None if run.handing is None else run.handing.take(frame, index)


def mode_of(run: Run, frame: Frame, index: int) -> Mode:
    """Return where a node runs in this run.

    Raises:
        PoisonError: It kills whatever runs it.
    """
    scope = frame.content
    mode: Mode = scope.program.modes[index]
    if run.isolation is None or mode in {Mode.CONTROL, Mode.MAP}:
        return mode
    return run.isolation.mode(mode, scope.work(index), frame.node(index).kind)


async def _call(scope: Any, fn: Any, index: int, deadline: Deadline) -> Any:
    """Await a coroutine function whose arguments are not simply other nodes' values."""
    calls = scope.calls(index)
    if getattr(scope, "is_chunked", False):
        return await elsewhere.await_calls(fn, calls, deadline)
    ((args, kwargs),) = calls
    return await fn(*args, **kwargs)


def is_stopping(run: Run, error: BaseException) -> bool:
    """Whether an exception is meant for the runner itself, not the doing of the task's own code."""
    if not isinstance(error, asyncio.CancelledError):
        # A coroutine that is thrown away with its loop ends; a task that raises this itself fails like any other.
        return isinstance(error, GeneratorExit) and run.loop.is_closed()
    task = asyncio.current_task()
    return run.group.cancel_scope.cancel_called or (task is not None and task.cancelling() > 0)
