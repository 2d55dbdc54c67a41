"""The painter: adds the nodes of a canvas to a drawing, each behind what it follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from millstream.authoring.canvas.combine import append
from millstream.authoring.canvas.errbacks import FAILED_TASK, errback_arguments
from millstream.authoring.canvas.maps import chunks, xmap, xstarmap
from millstream.authoring.canvas.options import check_options, delay_of, policy_changes
from millstream.authoring.canvas.primitives import chain, chord, group
from millstream.authoring.canvas.signature import LINKS, Signature, listed
from millstream.authoring.canvas.spine import GroupSpine, Spine, TaskSpine
from millstream.authoring.canvas.stamps import put_over, stamps_in
from millstream.authoring.draw import NO_OPTIONS, Drawing, NodeOptions
from millstream.authoring.handle import Handle
from millstream.engine.program import GATHER, OWN_VALUE, Work
from millstream.engine.request import STAMPS
from millstream.engine.signatures import signature_of
from millstream.errors import DefinitionError, InvalidInputError
from millstream.model.graph import Failed, JoinRule, Map
from millstream.model.policy import Policy


class Given(NamedTuple):
    """What a canvas gets from what stands before it, and around it.

    Attributes:
        args: Arguments that come before its own.
        kwargs: Arguments by name that go over its own.
        before: The nodes that must have ended before it starts.
        is_carried: Whether the arguments hold results of all of them, so that they are waited for in any case.
        suspects: Nodes whose failure its errbacks answer for, too: of a chord's body, the header.
        options: Options that go over its own.
        parent: What came before it in its chain.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    before: tuple[Handle, ...] = ()
    is_carried: bool = True
    suspects: tuple[int, ...] = ()
    options: Mapping[str, Any] = {}
    parent: Spine | None = None


START = Given()
"""What the first of all gets."""


class Done(NamedTuple):
    """A canvas that was drawn.

    Attributes:
        value: Its result: a handle, or a list of such.
        ends: The nodes that end last.
        spine: What its result is made of.
    """

    value: Any
    ends: tuple[Handle, ...]
    spine: Spine


class Painter:
    """Adds canvases to one drawing.

    Attributes:
        drawing: The drawing.
        aliases: The task ids that were given, each with the id of its node.
    """

    def __init__(self, find: Callable[[str], Work]) -> None:
        """Begin with an empty drawing; `find` returns the task or flow of a name."""
        self.drawing = Drawing()
        self.aliases: dict[str, str] = {}
        self._find = find
        self._works: dict[str, Any] = {}
        self._tasks: list[int] = []
        self._later: list[tuple[Signature, Given | tuple[int, ...]]] = []
        self._policies: dict[Any, Policy] = {}
        self._fitting: set[Any] = set()
        self._growing: set[str] = set()
        self._joined: set[str] = set()

    def draw(self, sig: Signature, given: Given) -> Done:
        """Add a canvas of any type."""
        match sig:
            case chain():
                return self._chain(sig, given)
            case chord():
                return self._chord(sig, given)
            case group():
                return self._group(sig.tasks, sig.options, given)
            case chunks():
                parts = sig.group()
                return self._group(parts.tasks, parts.options, given)
            case xmap() | xstarmap():
                return self._map(sig, given)
            case _:
                return self._task(sig, given)

    def draw_callbacks(self) -> None:
        """Add the callbacks and errbacks of what was drawn, and theirs."""
        while self._later:
            callback, given = self._later.pop(0)
            if isinstance(given, Given):
                self.draw(callback, given if callback.immutable else self._own(given))
            else:
                self._errback(callback, given)

    def gather(self, value: Any) -> Handle:
        """Add the node that joins results into one list."""
        return self.drawing.add_work("task", self._work(GATHER), (value,), {})

    # ------------------------------------------------------------------------------------------- canvases of many
    def _chain(self, sig: chain, given: Given) -> Done:
        options = put_over(sig.options, given.options)
        errbacks = listed(options.pop("link_error", None))
        steps: list[Signature] = []
        for step in sig.unchained(options):
            append(steps, step)
        if not steps:
            raise DefinitionError("a chain of nothing cannot be run")
        start, last = len(self._tasks), steps.pop()
        done: Done | None = None
        for step in steps:
            done = self._step(step, done, given)
        if isinstance(last, group | chunks):  # each of its members answers for itself
            for errback in errbacks:
                last.link_error(errback)
            self._watch(errbacks, given.suspects, start)
            return self._step(last, done, given)
        done = self._step(last, done, given)
        self._watch(errbacks, given.suspects, start)
        return done

    def _watch(self, errbacks: Sequence[Signature], suspects: tuple[int, ...], start: int) -> None:
        """Let errbacks answer for the tasks from `start` on, each once for all of them."""
        if watched := self._tasks[start:]:
            self._later += [(errback, (*suspects, *watched)) for errback in errbacks]

    def _step(self, step: Signature, before: Done | None, given: Given) -> Done:
        """Add a step of a chain: the first one gets what the chain gets."""
        if before is None:
            return self.draw(step, given._replace(options={}))
        value, ends = self._handed_on(before, step)
        return self.draw(step, Given((value,), before=ends, parent=before.spine))

    def _group(self, tasks: Sequence[Signature], own: Mapping[str, Any], given: Given) -> Done:
        options = put_over(own, given.options)
        check_options(options, "group")
        if options.pop("link", None):
            raise DefinitionError("a group takes no link: use a chord, or link of its members")
        name = options.pop("task_id", None) or ""
        errbacks = listed(options.pop("link_error", None))
        inner = self._put_off(given, options)._replace(options=_now(options), parent=None)
        done = [self.draw(task, inner) for task in _flat(tasks, errbacks)]
        spine = GroupSpine(tuple(each.spine for each in done), given.parent, name)
        return Done([each.value for each in done], tuple(end for each in done for end in each.ends), spine)

    def _chord(self, sig: chord, given: Given) -> Done:
        options = put_over(sig.options, given.options)
        check_options(options, "chord")
        body = sig.behind().clone()
        if "task_id" in options:
            body.set(task_id=options.pop("task_id"))
        for callback in listed(options.pop("link", None)):
            body.link(callback)
        for errback in listed(options.pop("link_error", None)):
            body.link_error(errback)
        start = len(self._tasks)
        header = self._group(sig.tasks, {}, given._replace(options=options, suspects=()))
        behind = Given(
            suspects=(*given.suspects, *self._tasks[start:]), options=_now(options), parent=header.spine, args=([],)
        )
        if not header.ends:
            return self.draw(body, behind._replace(before=given.before, is_carried=False))
        value, ends = self._handed_on(header, body)
        return self.draw(body, behind._replace(args=(value,), before=ends))

    def _handed_on(self, done: Done, following: Signature) -> tuple[Any, tuple[Handle, ...]]:
        """Return what a canvas gives to the one that follows, and the nodes that it waits for.

        A list of results is joined by a node of its own where more than one node takes it, and where a task among them
        may add to it.
        """
        is_shared = len(done.ends) > 1 and bool(following.children())
        if isinstance(done.value, list) and (is_shared or any(end.id in self._growing for end in done.ends)):
            self._joined |= {end.id for end in done.ends} & self._growing
            joined = self.gather(done.value)
            return joined, (joined,)
        return done.value, done.ends

    def _put_off(self, given: Given, options: Mapping[str, Any]) -> Given:
        """Put a wait in front of what comes, where options ask for it."""
        delay = delay_of(options)
        if delay is None:
            return given
        wait = self.drawing.add("sleep", "sleep", (delay,))
        for before in given.before:
            self.drawing.order(before, wait)
        return given._replace(before=(wait,), is_carried=False)

    # ------------------------------------------------------------------------------------------------ single nodes
    def _task(self, sig: Signature, given: Given) -> Done:
        args, kwargs = sig.args, sig.kwargs
        if not sig.immutable:
            args, kwargs = (*given.args, *args), {**kwargs, **given.kwargs}
        return self._node(sig, self._work_of(sig), args, kwargs, given)

    def _map(self, sig: xmap | xstarmap, given: Given) -> Done:
        each = sig.each
        columns = [sig.it] if isinstance(sig, xmap) else _columns(sig.it)
        if not sig.it or not columns:
            return self._one_by_one(sig, given)
        work = self._work_of(each)
        self._check_fit(work, (*columns, *each.args), each.kwargs)
        options = put_over(each.options, sig.options)
        whole = Signature(work, (), {}, options, immutable=True)
        done = self._node(whole, work, (*columns, *each.args), each.kwargs, given)
        self.drawing.nodes[-1].extra["map"] = Map(tuple(range(len(columns))))
        return done

    def _one_by_one(self, sig: xmap | xstarmap, given: Given) -> Done:
        """Add a node for each item: where there are none, or the tuples are not of one length."""
        alone = Given(before=given.before, is_carried=False, options=given.options)
        rows = [self.draw(sig.each.clone(row if isinstance(sig, xstarmap) else (row,)), alone) for row in sig.it]
        whole = Signature(GATHER, (), {}, {key: sig.options[key] for key in _OF_RESULT & sig.options.keys()})
        before = tuple(row.value for row in rows) or given.before
        joined = Given(before=before, is_carried=bool(rows), suspects=given.suspects, parent=given.parent)
        return self._node(whole, self._work(GATHER), ([row.value for row in rows],), {}, joined)

    def _own(self, given: Given) -> Given:
        """Return what a callback gets: of a task that may add to its chord, what that itself returns."""
        (of,) = given.before
        if of.id not in self._joined:
            return given
        own = self.drawing.add_work("task", self._work(OWN_VALUE), (of,), {})
        return given._replace(args=(own,), before=(own,))

    def _errback(self, sig: Signature, suspects: tuple[int, ...]) -> None:
        """Add an errback: directly where it takes the failure, else behind a node that stands for the failure."""
        takes_failure = not (sig.immutable or sig.children())
        is_delayed = delay_of(sig.options) is not None
        behind = START
        if is_delayed or not takes_failure:
            failure = (Failed(suspects, "id"),)
            guard = self.drawing.add_work("task", self._work(FAILED_TASK), failure, {}, NodeOptions(join="one_failed"))
            behind = Given((guard,), before=(guard,))
        if not takes_failure:
            self.draw(sig, behind)
            return
        work = self._work_of(sig)
        args = (*errback_arguments(work, len(sig.args), suspects), *sig.args)
        # Where nothing has failed the delay is skipped, and then what the failure would be asked for is, too.
        self._node(sig, work, args, sig.kwargs, behind, join="all_done" if is_delayed else "one_failed")

    def _node(
        self,
        sig: Signature,
        work: Any,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        given: Given,
        *,
        join: JoinRule = "all_success",
    ) -> Done:
        """Add one node; the signature says how it is run, and what follows it."""
        options = put_over(sig.options, given.options)
        check_options(options, sig.task)
        self._check_fit(work, args, kwargs)
        first = self._put_off(given, options)
        policy = self._policy(work, options)
        how = NodeOptions(join=join, policy=policy) if policy or join != "all_success" else NO_OPTIONS
        handle = self.drawing.add_work(work.node_kind, work, args, kwargs, how)
        if sig.immutable or not first.is_carried:
            for before in first.before:
                self.drawing.order(before, handle)
        headers = {**(options.get("headers") or {})}
        if stamps := stamps_in(options):
            headers[STAMPS] = stamps
        if headers:
            self.drawing.nodes[-1].extra["headers"] = self.drawing.template(headers)
        node, index = handle.id, len(self.drawing.nodes) - 1
        self._name(options.get("task_id"), node)
        self._tasks.append(index)
        if work.is_bound:
            self._growing.add(node)
        spine = TaskSpine(node, given.parent, options.get("task_id") or "")
        after = Given((handle,), before=(handle,), parent=spine)
        self._later += [(callback, after) for callback in listed(options.get("link"))]
        self._later += [(errback, (*given.suspects, index)) for errback in listed(options.get("link_error"))]
        return Done(handle, (handle,), spine)

    def _name(self, task_id: str | None, node: str) -> None:
        if task_id is None:
            return
        if task_id in self.aliases:
            raise DefinitionError(f"the task id {task_id!r} is given twice in one canvas")
        self.aliases[task_id] = node

    def _work_of(self, sig: Signature) -> Any:
        return sig.work if sig.work is not None else self._work(sig.task)

    def _work(self, name: str) -> Any:
        found = self._works.get(name)
        if found is None:
            found = self._works[name] = self._find(name)
        return found

    def _policy(self, work: Any, options: Mapping[str, Any]) -> Policy | None:
        """Return a node's policy where options change that of its task; equal ones are one object."""
        changes = policy_changes(options)
        if not changes:
            return None
        key = (work.name, repr(changes))
        known = self._policies.get(key)
        if known is None:
            known = self._policies[key] = work.revised(changes)
        return known

    def _check_fit(self, work: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Refuse arguments that do not fit; what fits depends only on how many there are, and on their names."""
        key = (work.name, len(args), *kwargs)
        if key in self._fitting:
            return
        takes = signature_of(work.fn)
        try:
            takes.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidInputError(f"{work.name}: {error}; it takes {takes}") from None
        self._fitting.add(key)


# ------------------------------------------------------------------------------------------------------- inside
_OF_RESULT = frozenset({*LINKS, "task_id", "headers"})
"""Options of a map that hold for its result, not for its items."""


def _now(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options without those that put something off."""
    return {key: value for key, value in options.items() if key not in ("countdown", "eta")}


def _flat(tasks: Sequence[Signature], errbacks: Sequence[Signature]) -> Iterator[Signature]:
    """Yield the members of a group, those of groups in it too."""
    for task in tasks:
        if isinstance(task, group):
            own = {key: value for key, value in task.options.items() if key not in ("task_id", "link_error")}
            for member in _flat(task.tasks, [*errbacks, *listed(task.options.get("link_error"))]):
                yield member.clone(**own) if own else member
        elif isinstance(task, chain) and not task.tasks:
            continue
        elif errbacks:
            member = task.clone()
            for errback in errbacks:
                member.link_error(errback)
            yield member
        else:
            yield task


def _columns(rows: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """Return tuples of one length as columns; none where their lengths differ."""
    rows = [tuple(row) for row in rows]
    return [list(column) for column in zip(*rows, strict=True)] if len({len(row) for row in rows}) == 1 else []
