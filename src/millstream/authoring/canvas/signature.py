"""Signatures: a task's name with its arguments and options, as data that can be kept, sent and composed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, ClassVar, Self, TypeVar

from millstream.authoring import current
from millstream.authoring.canvas.depth import within_limits
from millstream.authoring.canvas.options import JOB_OPTIONS
from millstream.authoring.canvas.stamps import STAMPED, Stampable, put_over
from millstream.clock import new_id
from millstream.errors import DefinitionError

Kind = TypeVar("Kind", bound="type[Signature]")

LINKS = ("link", "link_error")


def _key(key: str, doc: str) -> Any:
    """Return a property that reads a key."""
    return property(itemgetter(key), doc=doc)


class Signature(Stampable, dict[str, Any]):
    """A task with bound arguments, not yet submitted; a dict, so that JSON can carry it.

    A signature has the keys `task, args, kwargs, options, subtask_type, immutable`. Arguments that a call or a
    predecessor brings come before its own; an immutable signature takes none.

    Example:
        >>> from millstream import task
        >>> @task(name="add")
        ... def add(x: int, y: int) -> int: return x + y
        >>> add.s(2, 2)
        add(2, 2)
        >>> add.s(2, 2) | add.s(4)
        add(2, 2) | add(4)

    Args:
        task: The task's registered name, the task or flow itself, or a dict of the above form.
        args: Arguments by position.
        kwargs: Arguments by name.
        options: How it is to be run: see `options.py` for the names.
        subtask_type: What kind of canvas it is; `None` for a task.
        immutable: Take no further arguments.
        app: The app that runs it; by default the one in force where it is called.
        more: Further options.
    """

    types: ClassVar[dict[str, type[Signature]]] = {}
    """Kinds of canvases by `subtask_type`."""

    def __init__(
        self,
        task: Any = None,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Any = None,
        **more: Any,
    ) -> None:
        """Bind the arguments.

        Raises:
            DefinitionError: `task` is neither a name, a task, a flow nor a dict that holds a name.
        """
        self._app = app
        self._work: Any = None
        if isinstance(task, Mapping):
            given = task
            task, args, kwargs, options = (given.get(key) for key in ("task", "args", "kwargs", "options"))
            subtask_type, immutable = given.get("subtask_type"), bool(given.get("immutable"))
        elif not isinstance(task, str):
            self._work, task = task, getattr(task, "name", None)
        if not isinstance(task, str):
            raise DefinitionError(f"a signature needs a task, a flow or the name of one, not {self._work or task!r}")
        super().__init__(
            task=task,
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options={**(options or {}), **more},
            subtask_type=subtask_type,
            immutable=immutable,
        )
        for key in LINKS:
            if self.options.get(key) is not None:
                self.options[key] = [to_signature(link) for link in listed(self.options[key])]

    @classmethod
    def register_type(cls, name: str) -> Callable[[Kind], Kind]:
        """Make a class the kind of canvas with this `subtask_type`."""

        def register(kind: Kind) -> Kind:
            cls.types[name] = kind
            return kind

        return register

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], app: Any = None) -> Signature:
        """Return the signature that a dict describes, such as one that came back from JSON.

        Raises:
            DefinitionError: It describes none.

        >>> Signature.from_dict({"task": "tasks.add", "args": [2, 2], "kwargs": {}, "options": {}})
        tasks.add(2, 2)
        """
        kind, task = data.get("subtask_type"), data.get("task")
        kind = kind or (task if task in cls.types else None)  # Celery writes maps without their subtask_type
        if kind and kind not in cls.types:
            raise DefinitionError(f"there is no subtask_type {kind!r}; known are {', '.join(sorted(cls.types))}")
        made: Signature = cls.types[kind].read(data) if kind else Signature(data)
        made._app = app
        return made

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Signature:
        """Return a signature of this kind from its dict."""
        return cls(data)

    # -------------------------------------------------------------------------------------------------- reading
    task: str = _key("task", "The task's registered name.")
    name: str = _key("task", "The task's registered name, as a task has it.")
    args: tuple[Any, ...] = _key("args", "Arguments by position.")
    kwargs: dict[str, Any] = _key("kwargs", "Arguments by name.")
    options: dict[str, Any] = _key("options", "How it is to be run.")
    subtask_type: str | None = _key("subtask_type", "What kind of canvas it is; `None` for a task.")
    immutable: bool = _key("immutable", "Whether it takes no further arguments.")

    @property
    def id(self) -> str | None:
        """The task id that it was given, if any."""
        return self.options.get("task_id")

    @property
    def work(self) -> Any:
        """The task or flow it was made of; `None` where it has only the name."""
        return self._work

    def children(self) -> Sequence[Signature]:
        """Return the signatures that it is composed of."""
        return ()

    # ------------------------------------------------------------------------------------------------- deriving
    def clone(self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Self:
        """Return a copy with further arguments in front, further arguments by name, and changed options.

        An immutable signature takes the options only. In a chain the arguments go to the first task, in a group and in
        a chord's header to every one.
        """
        copy = self._copy()
        if (args or kwargs) and not self.immutable:
            copy._take(tuple(args or ()), dict(kwargs or {}))  # noqa: SLF001  of its own class
        copy.set(**(put_over(copy.options, options) if STAMPED in copy.options else options))
        return copy

    partial = clone

    def _copy(self) -> Self:
        return self.shallow()

    def shallow(self) -> Self:
        """Return a copy with options of its own; what it is composed of is shared."""
        copy = type(self).__new__(type(self))
        copy.update(self)
        copy._app, copy._work = self._app, self._work  # noqa: SLF001  of its own class
        copy["kwargs"] = dict(self.kwargs)
        options = copy["options"] = dict(self.options)
        for key in LINKS:
            if options.get(key):
                options[key] = [to_signature(link) for link in listed(options[key])]
        return copy

    def _take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Take further arguments, in place."""
        self["args"] = args + self.args
        self["kwargs"] = {**self.kwargs, **kwargs}

    def replace(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """Return a copy with other arguments or options in place of its own."""
        copy = self.clone()
        if args is not None:
            copy["args"] = tuple(args)
        if kwargs is not None:
            copy["kwargs"] = dict(kwargs)
        if options is not None:
            copy["options"] = dict(options)
        return copy

    def set(self, immutable: bool | None = None, **options: Any) -> Self:  # noqa: FBT001  Celery's signature
        """Change options in place, and return itself.

        >>> Signature("tasks.add", (2, 2)).set(countdown=10).options
        {'countdown': 10}
        """
        if immutable is not None:
            self.set_immutable(immutable)
        for key in LINKS:
            if options.get(key) is not None:
                options[key] = [to_signature(link) for link in listed(options[key])]
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:  # noqa: FBT001  Celery's signature
        """Say whether it takes no further arguments."""
        self["immutable"] = immutable

    # ------------------------------------------------------------------------------------------------ callbacks
    def link(self, callback: Any) -> Any:
        """Run a callback with the result when this has succeeded; return the callback."""
        return self._link("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Run a callback when this itself has failed; return the callback.

        An errback that takes three arguments gets the failed task's request, its exception and the traceback's text,
        one that takes one argument the failed task's id, and an immutable one nothing.
        """
        return self._link("link_error", errback)

    def on_error(self, errback: Any) -> Self:
        """Do as `link_error`, and return this signature itself, so that calls can be chained."""
        self.link_error(errback)
        return self

    def _link(self, key: str, callback: Any) -> Any:
        linked = to_signature(callback)  # first: it may be a copy of this very signature
        links = self.options[key] = listed(self.options.get(key))
        if linked not in links:
            links.append(linked)
        return callback

    def flatten_links(self) -> list[Signature]:
        """Return itself, its callbacks, theirs, and so on."""
        return [self, *(inner for link in listed(self.options.get("link")) for inner in link.flatten_links())]

    # -------------------------------------------------------------------------------------------------- running
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task itself here, with further arguments."""
        merged = self.clone(args, kwargs)
        work = self._work if self._work is not None else self._home().definition(self.task)
        return work(*merged.args, **merged.kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Submit it with further arguments; return its result's `AsyncResult` or `GroupResult`."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Submit it as one job, and return without waiting for it.

        Args:
            args: Further arguments by position, in front of its own.
            kwargs: Further arguments by name.
            options: `countdown, eta, expires, priority` hold for the job; `queue, time_limit, soft_time_limit,
                max_retries, headers, task_id, link, link_error` and any policy as in `set`.

        Returns:
            An `AsyncResult`; a `GroupResult` for a group.

        Raises:
            DefinitionError: An option is unknown, or has no meaning without a broker.
            InvalidInputError: The arguments do not fit.
            UnknownNameError: The app knows no task or flow of a name.
        """
        handed, for_job = self._prepared(args, kwargs, options)
        return self._home().hand_in(handed, **for_job)

    def apply(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        throw: bool | None = None,
        **options: Any,
    ) -> Any:
        """Run it here and now, in the calling thread and without a record; return an `EagerResult`.

        Args:
            args: Further arguments by position, in front of its own.
            kwargs: Further arguments by name.
            throw: Raise what fails it, in place of keeping that in the result; by default the setting
                `task_eager_propagates` decides.
            options: As for `apply_async`; those about when and how it is to start have no effect.
        """
        handed, for_job = self._prepared(args, kwargs, options)
        return self._home().apply(handed, throw=throw, **for_job)

    @within_limits()
    def _prepared(
        self, args: Iterable[Any] | None, kwargs: Mapping[str, Any] | None, options: Mapping[str, Any]
    ) -> tuple[Self, dict[str, Any]]:
        """Return what is handed in, and the options that hold for the whole job."""
        given = {key: value for key, value in options.items() if value is not None}
        handed = self.clone(args, kwargs, **given)
        for_job = {key: handed.options.pop(key) for key in JOB_OPTIONS & handed.options.keys()}
        return handed, for_job

    def _home(self) -> Any:
        """Return what it is submitted to: its own app, else that of its first task with one, else the one in force."""
        own = self._bound_to()
        return own if own is not None else current.app()

    def _bound_to(self) -> Any:
        own = self._app if self._app is not None else getattr(self._work, "runs_on", None)
        bound = (child._bound_to() for child in self.children())  # noqa: SLF001  of its own class
        return own if own is not None else next((app for app in bound if app is not None), None)

    def freeze(self, _id: str | None = None) -> Any:
        """Give it a task id of its own, unless it has one; return the `AsyncResult` that it will have."""
        home = self._home()
        return home.result_type(self.options.setdefault("task_id", _id or new_id()), app=home)

    def __invert__(self) -> Any:
        """`~signature`: submit it, and wait for its result."""
        return self.apply_async().get()

    # ------------------------------------------------------------------------------------------------ composing
    def __or__(self, other: Any) -> Any:
        """`a | b`: b runs after a, with its result."""
        from millstream.authoring.canvas.combine import join  # noqa: PLC0415  canvases are signatures

        return join(self, other)

    def __ror__(self, other: Any) -> Any:
        """`a | b`, where a is a task itself, or a plain dict."""
        from millstream.authoring.canvas.combine import join  # noqa: PLC0415  as in `__or__`

        return join(other, self)

    def __ior__(self, other: Any) -> Any:
        """`a |= b`: the name `a` then means `a | b`."""
        return self | other

    # ------------------------------------------------------------------------------------------------ as a value
    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.clone()

    def __reduce__(self) -> tuple[Any, ...]:
        return Signature.from_dict, (dict(self),)

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """Return it as a call with further arguments would be written."""
        shown = [repr(arg) for arg in (*args, *self.args)]
        shown += [f"{key}={value!r}" for key, value in {**self.kwargs, **kwargs}.items()]
        return f"{self.task}({', '.join(shown)})"

    def __repr__(self) -> str:
        """Return it as the call is written."""
        return self.reprcall()


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature:
    """Return a signature: of a task by its name, of a task or flow, of a dict, or a copy of a signature.

    >>> signature("tasks.add", args=(2, 2), countdown=10)
    tasks.add(2, 2)

    Raises:
        DefinitionError: It is none of these.
    """
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, Mapping):
        return Signature.from_dict(varies, app=kwargs.get("app"))
    return Signature(varies, *args, **kwargs)


def to_signature(value: Any) -> Signature:
    """Return a signature of one's own: a copy of a signature, what a dict describes, or that of a task or flow.

    Raises:
        DefinitionError: It is none of these.
    """
    if isinstance(value, Signature):
        return value.clone()
    if isinstance(value, Mapping) and "task" in value:
        return Signature.from_dict(value)
    if callable(getattr(value, "s", None)):
        return value.s()  # type: ignore[no-any-return]
    raise DefinitionError(f"a signature is needed here, such as task.s(1, 2), not {value!r}")


def listed(value: Any) -> list[Any]:
    """Return a list of one's own of what may be one thing, several or none."""
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]
