"""`|`: what two canvases become when one follows the other; neither of them is changed."""

from __future__ import annotations

from typing import Any

from millstream.authoring.canvas.depth import within_limits
from millstream.authoring.canvas.primitives import chain, chord, group
from millstream.authoring.canvas.signature import Signature, to_signature
from millstream.errors import DefinitionError


@within_limits()
def join(left: Any, right: Any) -> Any:
    """Return the canvas in which `right` follows `left`; `NotImplemented` where one of them is no signature.

    As in Celery a group of one is that one when it follows something, a group of nothing is nothing, what follows a
    group makes it the header of a chord, and what follows a chord follows its body.
    """
    try:
        before, after = to_signature(left), to_signature(right)
    except DefinitionError:
        return NotImplemented
    if isinstance(before, group):
        return before if _is_nothing(after) else chord(before, after)
    if isinstance(after, group) and len(after.tasks) <= 1:
        return join(before, after.tasks[0]) if after.tasks else before
    return _follow(before, after)


def _follow(before: Signature, after: Signature) -> Signature:
    """Let `after` follow what is no group; both are the new canvas's own."""
    match before, after:
        case chain(tasks=[]), group():
            return after
        case chain(), _:
            steps = before.unchain_tasks()
            for step in _steps(after):
                append(steps, step)
            return chain.of(steps)
        case chord(), Signature() if not isinstance(after, chain | group):
            _extend(before, after)
            return before
        case _:
            return chain.of([before, *_steps(after)])


def append(steps: list[Signature], step: Signature) -> None:
    """Let a further step follow the steps of a chain, in place; the step becomes theirs."""
    match steps[-1] if steps else None, step:
        case _, group(tasks=[]):
            return
        case group() as header, group() if len(steps) == 1:
            steps[:] = [chord(header, step)]
        case _, group(tasks=[only]):
            append(steps, only)
        case _, chain():
            for inner in step.unchain_tasks():
                append(steps, inner)
        case group() as header, _:
            steps[-1] = chord(header, step)
        case chord() as last, _ if not isinstance(step, chord):
            _extend(last, step)
        case _:
            steps.append(step)


def _is_nothing(canvas: Signature) -> bool:
    return isinstance(canvas, group) and not canvas.tasks


def _steps(canvas: Signature) -> list[Signature]:
    return canvas.unchain_tasks() if isinstance(canvas, chain) else [canvas]


def _extend(last: chord, step: Signature) -> None:
    """Let a step follow a chord's body, in place."""
    body = last.behind()
    if isinstance(body, chain) and not body.options:
        append(body.tasks, step)
    else:
        last.kwargs["body"] = join(body, step)
