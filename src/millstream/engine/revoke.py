"""Takes back a part of a run while the rest goes on: a recorded call that its conducting flow no longer wants."""

from __future__ import annotations

from typing import TYPE_CHECKING

from millstream.graph.frame import Frame

if TYPE_CHECKING:
    from millstream.engine.run import Run


def revoke(run: Run, frame: Frame) -> None:
    """Cancel whatever runs in a frame and in the frames below it; its nodes end as cancelled, and nobody is told.

    Coroutines are cancelled, pool processes killed, results of threads dropped, sleeps and approvals forgotten.
    """
    below = f"{frame.path}/"
    inside = {other for other in run.plan.frames.values() if other is frame or other.path.startswith(below)}
    run.has_revoked = True
    _end_nodes(run, inside)
    _stop_coroutines_and_processes(run, inside)
    _drop_what_would_come_back(run, inside)


def _end_nodes(run: Run, inside: set[Frame]) -> None:
    for part in inside:
        for index in part.released():
            run.put((True, "node_cancelled", run.now(), part.name(index), None))
        part.cancel()
    for _ in range(len(run.ready)):
        place = run.ready.popleft()
        if place[0] not in inside:
            run.ready.extend([place])


def _stop_coroutines_and_processes(run: Run, inside: set[Frame]) -> None:
    for deadline in run.deadlines:
        if deadline.frame in inside:
            deadline.revoke()
    for (part, _), scope in run.scopes.items():
        if part in inside:
            scope.cancel()


def _drop_what_would_come_back(run: Run, inside: set[Frame]) -> None:
    for call in [call for call in run.threads if call.frame in inside]:
        call.disarm()
        run.threads.discard(call)
        run.services.threads.abandon(call)
        run.resume(())
    if run.handing is not None:
        run.handing.revoke(inside)
    run.waits.forget(inside)
