"""`@task`: a named Python function with its policy."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any, ClassVar, Concatenate, Generic, Literal, ParamSpec, TypeVar, overload

from msgspec.structs import replace

from millstream.authoring.bound import Bound
from millstream.authoring.canvas.calls import Signable
from millstream.authoring.draw import NO_OPTIONS, Drawing, Drawn, NodeOptions, Shapes
from millstream.authoring.inputs import Inputs
from millstream.authoring.mode import NOT_HERE, is_in_flow, place
from millstream.errors import DefinitionError
from millstream.model.names import public_module
from millstream.model.policy import DEFAULT_POLICY, Policy, revise_policy

P = ParamSpec("P")
R = TypeVar("R")

NODE_OPTIONS = frozenset(NodeOptions.__struct_fields__) - {"policy"}


class Task(Signable, Bound, Generic[P, R]):
    """A named function with its policy; made by `@task`.

    What a call does depends on where it is made: while a flow is drawn it adds a node and returns its handle; in an
    `async def` flow it returns the coroutine of a recorded call; anywhere else it simply calls the function.

    Attributes:
        fn: What the engine calls: the function itself, or for a bound task what runs it by `perform`.
        function: The function itself; that of a task with `bind=True` takes the task first.
        binds: Whether the function takes the task first.
        is_bound: Whether the engine runs it by `perform`, and takes a `Growth` from it.
        name: The name under which it is known, by default `module.qualname`; in the program's own file the module is
            the file's name.
        policy: How it is run.
        inputs: What it takes.
        version: Digest of its source.
    """

    performs: ClassVar[bool] = False
    """Whether the engine runs every task of the class by `perform`, bound or not: for subclasses that put more around
    it."""

    def __init__(self, fn: Callable[..., R], *, name: str | None = None, bind: bool = False, **policy: Any) -> None:
        """Define a task; see `task` for the arguments."""
        if not (inspect.isroutine(fn) or inspect.isfunction(fn)):
            raise DefinitionError(f"@task needs a function, not {fn!r}")
        if inspect.isasyncgenfunction(fn) or inspect.isgeneratorfunction(fn):
            raise DefinitionError(f"{fn.__qualname__} is a generator; a task returns its result as one value")
        self.name = name or f"{public_module(fn.__module__)}.{fn.__qualname__}"
        self.policy = revise_policy(DEFAULT_POLICY, policy, where=f"task {self.name}")
        self.form: Literal["plain", "coroutine"] = "coroutine" if inspect.iscoroutinefunction(fn) else "plain"
        self.function = fn
        self.binds = bind
        self.is_bound = bind or self.performs
        self.fn: Callable[..., R] = self._performing() if self.is_bound else fn
        self.inputs = Inputs(self.fn, self.name)
        self._shapes = Shapes()
        update_wrapper(self, fn)

    @property
    def version(self) -> str:
        """Digest of its source."""
        return self.inputs.version

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Add a node, record a call, or call the function, depending on where this is.

        Returns:
            A handle, a coroutine, or the function's result: three types in one, hence `Any`.
        """
        placed = place("task", self, args, kwargs, NO_OPTIONS)
        if placed is not NOT_HERE:
            return placed
        return self.called(args, kwargs) if self.is_bound else self.fn(*args, **kwargs)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task once for each item of its arguments, pairing them; `fixed(...)` ones are the same for all.

        Outside of a flow's body it returns a signature, as `xmap`; it then takes one list of items.

        In a drawing flow it returns the handle of the list of results, in an `async def` flow a coroutine of it.
        `task.options(product=True, chunk=10, in_flight=4).map(...)` takes every combination, lets ten items share an
        attempt, and bounds the open attempts.

        Raises:
            DefinitionError: It is called outside of a flow's body with other than one list.
        """
        if is_in_flow():
            return Configured(self, NO_OPTIONS).map(*args, **kwargs)
        if kwargs or len(args) != 1:
            raise DefinitionError(
                f"{self.name}.map takes one list of items outside of a flow's body; for more, draw one"
            )
        return self.xmap(*args)

    def options(self, **options: Any) -> Configured:
        """Return the task with options for one node.

        Args:
            options: `id`, `join` (a join rule), `k`; for `map` also `product`, `chunk`, `in_flight`; and any policy
                (`retries=5`), which then replaces the task's own.

        Raises:
            DefinitionError: An option is unknown or out of range.
        """
        return Configured(self, configure(options, self.policy, f"task {self.name}"))

    def draw(self, inputs: dict[str, Any]) -> Drawn:
        """Return the graph of one node that runs the task with these inputs."""
        with Drawing().opened() as canvas:
            args, kwargs = self.inputs.split(inputs)
            return canvas.finish(canvas.add_work("task", self, args, kwargs), self._shapes)

    def __repr__(self) -> str:
        """Return a form that names the task."""
        return f"<task {self.name}>"


def configure(options: dict[str, Any], policy: Policy, where: str) -> NodeOptions:
    """Return node options, each checked; policies among them change `policy`.

    Raises:
        DefinitionError: An option is unknown or out of range.
    """
    own = {key: value for key, value in options.items() if key in NODE_OPTIONS}
    changes = {key: value for key, value in options.items() if key not in NODE_OPTIONS}
    changed = revise_policy(policy, changes, where=where)
    if own.get("chunk", 1) < 1 or own.get("in_flight", 0) < 0:
        raise DefinitionError(f"{where}: chunk must be 1 or more, and in_flight 0 or more")
    return NodeOptions(**own, policy=changed if changes else None)


class Configured:
    """A task or flow with options for one node; made by `options`."""

    def __init__(self, work: Any, options: NodeOptions) -> None:
        """Take the task or flow, and the options."""
        self._work = work
        self._options = options

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Add a node with these options."""
        return self._place(args, kwargs, is_map=False)

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Add a node that is run for each item; see `Task.map`."""
        return self._place(args, kwargs, is_map=True)

    def options(self, **options: Any) -> Configured:
        """Return the same with further options."""
        base = self._options.policy or self._work.policy
        more = configure(options, base, self._work.name)
        changed = {key: getattr(more, key) for key in (*options, "policy") if key in NodeOptions.__struct_fields__}
        if changed["policy"] is None:
            changed["policy"] = self._options.policy
        return Configured(self._work, replace(self._options, **changed))

    def _place(self, args: Any, kwargs: Any, *, is_map: bool) -> Any:
        kind: Literal["task", "flow"] = "task" if isinstance(self._work, Task) else "flow"
        placed = place(kind, self._work, args, kwargs, self._options, is_map=is_map)
        if placed is NOT_HERE:
            what = "map" if is_map else "a call with options"
            raise DefinitionError(f"{what} of {self._work.name} has a meaning only in the body of a flow")
        return placed


@overload
def task(fn: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(
    *, bind: Literal[True], name: str | None = None, **policy: Any
) -> Callable[[Callable[Concatenate[Any, P], R]], Task[P, R]]: ...
@overload
def task(
    *, name: str | None = None, bind: Literal[False] = False, **policy: Any
) -> Callable[[Callable[P, R]], Task[P, R]]: ...
def task(fn: Callable[..., Any] | None = None, /, *, name: str | None = None, bind: bool = False, **policy: Any) -> Any:
    """Make a task of a function, `def` or `async def`.

    Args:
        fn: The function, when the decorator is used without arguments.
        name: The name under which it is known; by default `module.qualname`.
        bind: Let the function take the task as its first argument, `self`: see `Task.request`, `retry`, `replace`,
            `add_to_chord` and `update_state`. That argument is none of the task's inputs.
        policy: How it is run; see `Policy` for the names: `retries, retry_backoff, retry_backoff_max, retry_jitter,
            retry_for, timeout, soft_timeout, expires, priority, queue, cache_ttl, idempotency_key, effect, run_in`.

    Raises:
        DefinitionError: It is no function, or a policy is unknown or out of range.

    >>> @task(retries=3, retry_backoff=True, timeout=30)
    ... async def fetch(url: str) -> str: ...
    >>> fetch.policy.retries
    3
    """
    if fn is not None:
        return Task(fn)
    return lambda function: Task(function, name=name, bind=bind, **policy)
