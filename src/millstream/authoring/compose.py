"""What shapes a flow beside its tasks: branches, short-circuits, loops, sleeps and approvals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from millstream.authoring.draw import Drawing, NodeOptions, Shapes
from millstream.authoring.handle import Handle
from millstream.authoring.mode import need_flow
from millstream.engine.control import DEFAULT_LABEL, label_of
from millstream.errors import DefinitionError
from millstream.model.graph import NodeKind

Way = Callable[[], Any]
"""Draws one way of a branch: a function without arguments that calls tasks and returns a handle, or nothing."""

_MERGE = NodeOptions(join="none_failed_min_one_success")


def branch(value: Any, ways: Mapping[Any, Way] | Way, otherwise: Way | None = None) -> Any:
    """Choose a way by a task's result; the ways that are not chosen are skipped.

    Args:
        value: The handle (or value) that decides.
        ways: Either one way, taken when `value` is true (then `otherwise` is the way for false); or ways by value,
            where the key is compared as text.
        otherwise: The way when `value` is false, or equal to no key.

    Returns:
        The handle of the chosen way's result; `None` is its value where the way returned nothing.

    Raises:
        DefinitionError: It is called outside of a drawing flow, or there is no way.

    >>> from millstream import flow, task
    >>> @task
    ... def size(text: str) -> int: return len(text)
    >>> @task
    ... def shorten(text: str) -> str: return text[:3]
    >>> @flow
    ... def short(text: str):
    ...     return branch(size.options(id="long")(text), lambda: shorten(text))
    >>> short.run(text="millstream")
    'mil'
    """
    canvas = _canvas("branch")
    by_label: dict[str, Way] = {}
    if isinstance(ways, Mapping):
        by_label = {label_of(key): way for key, way in ways.items()}
        if len(by_label) < len(ways):
            raise DefinitionError(f"branch has two ways for one value: {', '.join(repr(key) for key in ways)}")
        if otherwise is not None:
            by_label[DEFAULT_LABEL] = otherwise
    else:
        by_label = {"true": ways} if otherwise is None else {"true": ways, "false": otherwise}
    if not by_label or not all(callable(way) for way in by_label.values()):
        raise DefinitionError("branch needs ways, each a function without arguments: branch(value, lambda: task(...))")
    labels = ("true", "false") if set(by_label) <= {"true", "false"} else tuple(by_label)
    router = canvas.add_router("branch", value, labels)
    results = [_draw_way(canvas, router, label, way) for label, way in by_label.items()]
    return canvas.add("merge", "merge", results, options=_MERGE)


def short_circuit(value: Any) -> Handle:
    """Go on only if a task's result is true: what is ordered behind the handle is skipped otherwise.

    Args:
        value: The handle (or value) that decides.

    Returns:
        A handle to order other nodes behind: `short_circuit(has_news()) >> send()`.

    Raises:
        DefinitionError: It is called outside of a drawing flow.
    """
    canvas = _canvas("short_circuit")
    return canvas.add_router("short_circuit", value, ("true", "false")).way("true")


def loop(body: Callable[..., Any], *state: Any, until: Callable[..., Any], max_turns: int = 1000) -> Any:
    """Repeat a part of the graph until a condition holds.

    Args:
        body: Draws one turn: takes a handle per value of the state, calls tasks, and returns the next state (a handle,
            or a tuple of them). A `@task` will do.
        state: The values (or handles) that the first turn begins with, at least one.
        until: Draws the condition on the next state: takes its handles, and returns a handle whose truth ends the loop.
            A `@task` will do.
        max_turns: More turns than this fail the loop with `LoopLimitError`.

    Returns:
        The handle of the last state: the value itself where the state is one value, else a tuple.

    Raises:
        DefinitionError: It is called outside of a drawing flow, without a state, or `max_turns` is below 1.

    >>> from millstream import flow, task
    >>> @task
    ... def halve(x: int) -> int: return x // 2
    >>> @task
    ... def is_odd(x: int) -> bool: return x % 2 == 1
    >>> @flow
    ... def odd_part(x: int):
    ...     return loop(halve, x, until=is_odd)
    >>> odd_part.run(x=24)
    3
    """
    canvas = _canvas("loop")
    if not state:
        raise DefinitionError("loop needs a state to begin with: loop(body, first, until=...)")
    if max_turns < 1:
        raise DefinitionError(f"max_turns is {max_turns}, but must be 1 or more")
    turn = Drawing()
    handles = turn.parameters(len(state))
    with turn.opened():
        following = body(*handles)
        following = following if isinstance(following, tuple) else (following,)
        if len(following) != len(state):
            raise DefinitionError(f"the loop's state is {len(state)} values, but its body returned {len(following)}")
        is_last = until(*following)
    drawn = turn.finish([list(following), is_last], Shapes(1))
    canvas.adopt(drawn.works)
    handle = canvas.add("loop", "loop", (*state, *drawn.bindings[len(state) :]))
    canvas.nodes[-1].extra.update(body=drawn.shape.graph, max_turns=max_turns)
    return handle


def sleep(length: float | timedelta | datetime | Handle) -> Any:
    """Wait; no thread and no process is held meanwhile.

    Args:
        length: Seconds, a `timedelta`, an instant (a `datetime` with a time zone), or a handle of one of these.

    Returns:
        In a drawing flow a handle to order with (`a >> sleep(60) >> b`); in an `async def` flow a coroutine.

    Raises:
        DefinitionError: It is called outside of a flow's body.
    """
    return _wait("sleep", "sleep", (length,))


def approval(question: Any = None, *, id: str | None = None) -> Any:  # noqa: A002  the word for a node's name
    """Wait for a person: until `app.approve(job, node, answer)` gives an answer.

    Args:
        question: What to show whoever decides; anything that JSON can hold, or a handle of it.
        id: The node's id, by which it is approved; by default `approval`.

    Returns:
        In a drawing flow the handle of the answer; in an `async def` flow a coroutine of it.

    Raises:
        DefinitionError: It is called outside of a flow's body.
    """
    return _wait("approval", id or "approval", () if question is None else (question,))


# ------------------------------------------------------------------------------------------------------- inside
def _canvas(what: str) -> Drawing:
    here = need_flow(what)
    if not isinstance(here, Drawing):
        raise DefinitionError(f"{what} draws; in an `async def` flow use Python's own `if` and `while`")
    return here


def _wait(kind: NodeKind, name: str, args: tuple[Any, ...]) -> Any:
    here = need_flow(kind)
    if isinstance(here, Drawing):
        return here.add(kind, name, args)
    return here.call(lambda canvas: canvas.add(kind, name, args))


def _draw_way(canvas: Drawing, router: Handle, label: str, way: Way) -> Any:
    """Draw a way, and return what stands for its result: a node of the way, so that it has none when it is not chosen.

    A plain value, and the handle of a node outside of the way, get such a node.
    """
    before = len(canvas.nodes)
    with canvas.only_if(router, label):
        result = way()
        if isinstance(result, Handle) and result._index >= before:  # noqa: SLF001  handles and drawings are one mechanism
            return result
        return canvas.add("merge", "value", (result,))
