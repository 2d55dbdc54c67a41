"""The canvas primitives: chain, group, chord, and the maps; each is a signature that knows its children."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any, Self, TypeVar

from millstream.authoring.canvas.depth import within_limits
from millstream.authoring.canvas.signature import Signature, listed, to_signature
from millstream.errors import DefinitionError

Kind = TypeVar("Kind", bound=Signature)


@Signature.register_type("chain")
class chain(Signature):  # noqa: N801  Celery's name
    """Signatures that follow one another: each gets the result of the one before.

    Example:
        >>> from millstream import task
        >>> @task(name="add")
        ... def add(x: int, y: int) -> int: return x + y
        >>> chain(add.s(2, 2), add.s(4), add.s(8))
        add(2, 2) | add(4) | add(8)

    Args:
        tasks: The signatures, or one iterable of them. Composed as `|` does: a group that something follows is a chord.
        options: Options of the chain: they hold for its first task, but `task_id` and `link` for its last one, and
            `link_error` for all of them.
    """

    @within_limits()
    def __init__(self, *tasks: Any, **options: Any) -> None:
        """Compose the signatures."""
        from millstream.authoring.canvas.combine import append  # noqa: PLC0415  chords are made of chains, and back

        steps: list[Signature] = []
        for task in _members(tasks):
            append(steps, to_signature(task))
        super().__init__("celery.chain", (), {"tasks": steps}, subtask_type="chain", **options)

    @classmethod
    def of(cls, steps: list[Signature]) -> Self:
        """Return a chain of steps that are its own, as they are."""
        made = cls()
        made.kwargs["tasks"] = steps
        return made

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Return a chain from its dict."""
        made = cls.of([to_signature(task) for task in data["kwargs"]["tasks"]])
        return finish(made, data)

    @property
    def tasks(self) -> list[Signature]:
        """The steps."""
        return self.kwargs["tasks"]  # type: ignore[no-any-return]

    def children(self) -> Sequence[Signature]:
        """Return the steps."""
        return self.tasks

    def unchain_tasks(self) -> list[Signature]:
        """Return copies of the steps, with the chain's own options handed down to them."""
        options = dict(self.options)
        errbacks = listed(options.pop("link_error", None))
        steps = self.unchained(options)
        for step in steps:
            for errback in errbacks:
                step.link_error(errback)
        return steps

    def unchained(self, options: Mapping[str, Any]) -> list[Signature]:
        """Return copies of the steps with options: links and the task id go to the last, all others to the first."""
        steps = [step.clone() for step in self.tasks]
        if steps:
            for callback in listed(options.get("link")):
                steps[-1].link(callback)
            if options.get("task_id") is not None:
                steps[-1].set(task_id=options["task_id"])
            others = {key: value for key, value in options.items() if key not in ("link", "task_id")}
            steps[0] = steps[0].clone(**others) if others else steps[0]
        return steps

    def set_immutable(self, immutable: bool) -> None:  # noqa: FBT001  Celery's signature
        """Say whether the first step takes further arguments."""
        super().set_immutable(immutable)
        if self.tasks:
            self.tasks[0].set_immutable(immutable)

    def _copy(self) -> Self:
        copy = super()._copy()
        copy.kwargs["tasks"] = [task.clone() for task in self.tasks]
        return copy

    def _take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self.tasks:
            self.tasks[0] = self.tasks[0].clone(args, kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Submit it with further arguments for the first step; `None` for a chain of nothing."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Submit it; see `Signature.apply_async`. A chain of nothing is no job, and its result `None`."""
        return super().apply_async(args, kwargs, **options) if self.tasks else None

    def apply(self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run it here and now; see `Signature.apply`. The result of a chain of nothing is `None`."""
        return super().apply(args, kwargs, **options) if self.tasks else None

    def __repr__(self) -> str:
        """Return the steps with `|` between them."""
        if not self.tasks:
            return "chain(<empty>)"
        return _shortened(self.tasks[0], " | ".join(repr(task) for task in self.tasks))


@Signature.register_type("group")
class group(Signature):  # noqa: N801  Celery's name
    """Signatures that run side by side; the result is the list of their results, in order.

    Example:
        >>> from millstream import task
        >>> @task(name="add")
        ... def add(x: int, y: int) -> int: return x + y
        >>> group(add.s(i, i) for i in range(3))
        group([add(0, 0), add(1, 1), add(2, 2)])

    Args:
        tasks: The signatures, or one iterable of them.
        options: Options that hold for every one of them.
    """

    def __init__(self, *tasks: Any, **options: Any) -> None:
        """Put the signatures side by side."""
        given = _members(tasks)
        if len(tasks) == 1 and isinstance(tasks[0], group):
            given, options = tasks[0].tasks, {**tasks[0].options, **options}
        members = [to_signature(task) for task in given]
        super().__init__("celery.group", (), {"tasks": members}, subtask_type="group", **options)

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Return a group from its dict."""
        return finish(cls(list(data["kwargs"]["tasks"])), data)

    @property
    def tasks(self) -> list[Signature]:
        """The members."""
        return self.kwargs["tasks"]  # type: ignore[no-any-return]

    def children(self) -> Sequence[Signature]:
        """Return the members."""
        return self.tasks

    def __len__(self) -> int:
        """How many members it has."""
        return len(self.tasks)

    def __bool__(self) -> bool:
        """A group is a value, also one without members."""
        return True

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Let the members start one after another: after `start` seconds, `start + step`, and so on up to `stop`."""
        for turn, task in zip(count(), self.tasks, strict=False):
            delay = start + turn * step
            task.set(countdown=delay if stop is None else min(delay, stop))
        return self

    def set_immutable(self, immutable: bool) -> None:  # noqa: FBT001  Celery's signature
        """Say whether the members take further arguments."""
        for task in self.tasks:
            task.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Run a callback when the first member has succeeded, without its result, as Celery does.

        What is to run when all of them have succeeded is the body of a chord: `group(...) | callback`.
        """
        if not self.tasks:
            raise DefinitionError("a group of nothing cannot have a callback")
        return self.tasks[0].link(to_signature(callback).set(immutable=True))

    def link_error(self, errback: Any) -> tuple[Any, ...]:
        """Run a callback for each member that fails; return one copy of it for each."""
        return tuple(task.link_error(to_signature(errback)) for task in self.tasks)

    def _copy(self) -> Self:
        copy = super()._copy()
        copy.kwargs["tasks"] = [task.clone() for task in self.tasks]
        return copy

    def _take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self["kwargs"]["tasks"] = [task.clone(args, kwargs) for task in self.tasks]

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Submit it with further arguments for every member."""
        return self.apply_async(args, **options)

    def apply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Submit it; see `Signature.apply_async`.

        Raises:
            DefinitionError: A link is among the options: what runs after a group is the body of a chord.
        """
        for key in ("link", "link_error"):
            if options.get(key) is not None:
                raise DefinitionError(f"a group takes no {key}: use a chord, or {key} of its members")
        return super().apply_async(args, kwargs, **options)

    def __repr__(self) -> str:
        """Return the members in a list."""
        if not self.tasks:
            return "group(<empty>)"
        return _shortened(self.tasks[0], f"group({self.tasks!r})")


@Signature.register_type("chord")
class chord(Signature):  # noqa: N801  Celery's name
    """A header of signatures that run side by side, and a body that runs after them with the list of their results.

    Example:
        >>> from millstream import task
        >>> @task(name="add")
        ... def add(x: int, y: int) -> int: return x + y
        >>> @task(name="total")
        ... def total(numbers: list[int]) -> int: return sum(numbers)
        >>> chord([add.s(i, i) for i in range(2)], total.s())
        %total([add(0, 0), add(1, 1)])

    Args:
        header: The signatures, in any iterable, or a group.
        body: What runs after them; it may also be given by the call: `chord(header)(body)`.
        args: Further arguments for the header.
        kwargs: Further arguments by name for the header.
        options: Options of the chord: `task_id`, `link` and `link_error` hold for its body, `countdown` and `eta` for
            its header, and all others for both.
    """

    def __init__(
        self,
        header: Any,
        body: Any = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Put the body behind the header."""
        if isinstance(header, Mapping):
            header = to_signature(header)
        members = header.children() if isinstance(header, chain | group) else _members((header,))
        ends: dict[str, Any] = {
            "header": [to_signature(task) for task in members],
            "body": body and to_signature(body),
            "kwargs": {},
        }
        super().__init__("celery.chord", (), ends, subtask_type="chord", **options)
        if isinstance(header, group):
            self["options"] = {**header.options, **self.options}
        self._take(tuple(args or ()), dict(kwargs or {}))

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """Return a chord from its dict."""
        ends = data["kwargs"]
        return finish(cls(ends["header"], ends.get("body"), data.get("args"), ends.get("kwargs")), data)

    @property
    def tasks(self) -> list[Signature]:
        """The members of the header."""
        return self.kwargs["header"]  # type: ignore[no-any-return]

    @property
    def body(self) -> Signature | None:
        """What runs after the header."""
        return self.kwargs["body"]  # type: ignore[no-any-return]

    @body.setter
    def body(self, body: Any) -> None:
        self.kwargs["body"] = None if body is None else to_signature(body)

    def children(self) -> Sequence[Signature]:
        """Return the members of the header, then the body."""
        return [*self.tasks, *([self.body] if self.body is not None else [])]

    def behind(self) -> Signature:
        """Return the body.

        Raises:
            DefinitionError: There is none.
        """
        if self.body is None:
            raise DefinitionError("a chord needs a body: chord(header, body) or chord(header)(body)")
        return self.body

    def set_immutable(self, immutable: bool) -> None:  # noqa: FBT001  Celery's signature
        """Say whether the header takes further arguments; its results go to the body in any case."""
        for task in self.tasks:
            task.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Run a callback with the body's result when the body has succeeded; return the callback."""
        self.behind().link(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Run a callback when the header or the body has failed; return the callback."""
        self.behind().link_error(errback)
        return errback

    def _copy(self) -> Self:
        copy = super()._copy()
        copy.kwargs["header"] = [task.clone() for task in self.tasks]
        copy.kwargs["body"] = self.body.clone() if self.body is not None else None
        return copy

    def _take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if args or kwargs:
            self.kwargs["header"] = [task.clone(args, kwargs) for task in self.tasks]

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Submit it, with this body in place of its own if one is given."""
        return self.apply_async(kwargs={"body": body} if body is not None else None, **options)

    def apply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Submit it; see `Signature.apply_async`. The arguments go to the header; the name `body` replaces the body.

        Raises:
            DefinitionError: It has no body.
        """
        further = dict(kwargs or {})
        body = further.pop("body", None)
        with within_limits():
            handed = self.clone()
        if body is not None:
            handed.body = body
        handed.behind()
        return Signature.apply_async(handed, args, further, **options)

    def __repr__(self) -> str:
        """Return the body as it is called with the header."""
        if self.body is None:
            return f"<chord without body: {self.tasks!r}>"
        if isinstance(self.body, chain) and self.body.tasks:
            first, *others = self.body.tasks
            rest = " | ".join(repr(task) for task in others)
            return _shortened(first, f"%({first.reprcall(self.tasks)}{f' | {rest}' if rest else ''})")
        return _shortened(self.body, f"%{self.body.reprcall(self.tasks)}")


def finish(made: Kind, data: Mapping[str, Any]) -> Kind:
    """Put onto what was made from a dict what every signature has."""
    made.set(**data.get("options") or {})
    made["immutable"] = bool(data.get("immutable", made.immutable))
    if data.get("args") and not isinstance(made, chord):
        made._take(tuple(data["args"]), {})  # noqa: SLF001  of its own class
    return made


# ------------------------------------------------------------------------------------------------------- inside
def _members(tasks: tuple[Any, ...]) -> Iterable[Any]:
    """Return the signatures that were given: several, or one iterable of them."""
    if len(tasks) != 1:
        return tasks
    only = tasks[0]
    is_one = isinstance(only, Mapping | str) or callable(getattr(only, "s", None))
    return tasks if is_one else only


def _shortened(first: Signature, text: str) -> str:
    """Return a text that names the module of its first task once."""
    while first.children():
        first = first.children()[0]
    module, _, name = first.task.rpartition(".")
    if not module:
        return text
    head, found, tail = text.partition(f"{module}.{name}")
    return head + found + tail.replace(f"{module}.", "")
