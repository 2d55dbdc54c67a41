"""`@flow` and `with Flow(...)`: named, versioned definitions that give a graph."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial, update_wrapper
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, get_args, overload

import anyio

from millstream.authoring import current
from millstream.authoring.aside import in_daemon_thread, places
from millstream.authoring.canvas.calls import Signable
from millstream.authoring.conduct import Conductor
from millstream.authoring.draw import DEFAULT_MAX_NODES, NO_OPTIONS, Drawing, Drawn, Shapes, drawing
from millstream.authoring.inputs import Inputs
from millstream.authoring.mode import NOT_HERE, place
from millstream.authoring.task import NODE_OPTIONS, Configured, configure
from millstream.engine.attempt import Attempt
from millstream.engine.context import running
from millstream.errors import DefinitionError, DrawingError, DrawingTimeoutError
from millstream.model.graph import NodeKind
from millstream.model.job import Durability
from millstream.model.names import public_module
from millstream.model.policy import DEFAULT_POLICY, Policy, revise_policy

DRAW_SECONDS = 5.0
_DRAWING_POLICIES = frozenset({"expires", "priority", "queue"})


def _takes_nothing() -> None:
    """Stand in for the body of a `with Flow(...)`, which is drawn already."""


class Flow(Signable):
    """A named, versioned definition that gives a graph; made by `@flow`, or drawn in a `with` block.

    Example:
        >>> from millstream import Flow, task
        >>> @task
        ... def load() -> list[int]: return [1, 2]
        >>> @task
        ... def total(rows: list[int]) -> int: return sum(rows)
        >>> with Flow("etl") as etl:
        ...     total(load())
        <handle of total>
        >>> etl.run()
        3

    Attributes:
        name: The name under which it is known.
        policy: How it is run as a sub-flow.
        durability: How safe jobs of it are; `None` leaves it to the setting.
        inputs: What it takes.
        description: The first line of its docstring.
    """

    node_kind: ClassVar[NodeKind] = "flow"

    def __init__(
        self,
        name: str,
        body: Callable[..., Any] | None = None,
        *,
        durability: Durability | None = None,
        **policy: Any,
    ) -> None:
        """Define a flow.

        Args:
            name: The name under which it is known.
            body: What draws or conducts it; without one it is drawn in a `with` block.
            durability: How safe jobs of it are: `full`, `relaxed` or `off`; by default the setting says.
            policy: How it is run as a sub-flow (see `Policy`).

        Raises:
            DefinitionError: The body is no function, or the durability or a policy is unknown or out of range.
        """
        if not name:
            raise DefinitionError("a flow needs a name")
        if body is not None and (inspect.isasyncgenfunction(body) or inspect.isgeneratorfunction(body)):
            raise DefinitionError(f"flow {name}: its body must be a `def` or `async def` function without `yield`")
        if durability not in (None, *get_args(Durability)):
            raise DefinitionError(f"flow {name}: durability is {durability!r}, but must be full, relaxed or off")
        self.name = name
        self.durability: Durability | None = durability
        self.conducts = inspect.iscoroutinefunction(body)
        self._refuse_policies(policy)
        self.policy = revise_policy(DEFAULT_POLICY, policy, where=f"flow {name}")
        self.inputs = Inputs(body or _takes_nothing, name)
        self.description = ((body and inspect.getdoc(body)) or "").split("\n", 1)[0]  # None has a docstring in 3.13
        self._body = body
        self._shapes = Shapes()
        self._drawn: Drawn | None = None
        self._canvas: Drawing | None = None
        self._token: Any = None
        self._returned: Any = None
        if body is not None:
            update_wrapper(self, body)

    @property
    def version(self) -> str:
        """Digest of the definition: of the body's source, or of the graph drawn in a `with` block."""
        return self._drawn.shape.digest if self._drawn is not None else self.inputs.version

    def revised(self, changes: dict[str, Any]) -> Policy:
        """Return its policy with changes; see `Signable.revised`."""
        self._refuse_policies(changes)
        return super().revised(changes)

    def _refuse_policies(self, policy: dict[str, Any]) -> None:
        """Refuse what a flow cannot have: its body runs on the loop, and a drawing one ends when it is drawn."""
        wrong = sorted({"chunk", "run_in"} & set(policy) if self.conducts else set(policy) - _DRAWING_POLICIES)
        if wrong:
            can = "any but chunk and run_in" if self.conducts else f"only {', '.join(sorted(_DRAWING_POLICIES))}"
            raise DefinitionError(
                f"flow {self.name} cannot have {', '.join(wrong)} ({can}); set it on its tasks"
                + ("" if self.conducts else ", or make it an `async def` flow")
            )

    # --------------------------------------------------------------------------------------- drawn in a block
    def __enter__(self) -> Self:
        """Begin to draw: calls of tasks in the block add nodes."""
        if self._body is not None or self._drawn is not None:
            raise DefinitionError(f"flow {self.name} is drawn already")
        self._canvas = Drawing()
        self._token = drawing.set(self._canvas)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _tb: TracebackType | None
    ) -> None:
        """End the drawing; the result is that of the only last node, or a dict of the last ones by id."""
        drawing.reset(self._token)
        canvas, self._canvas = self._canvas, None
        if kind is None and canvas is not None:
            result = self._returned
            if result is None:
                leaves = canvas.leaves()
                result = leaves[0] if len(leaves) == 1 else {leaf.id: leaf for leaf in leaves} or None
            self._drawn = canvas.finish(result, self._shapes)

    def returns(self, result: Any) -> None:
        """Say what the flow returns: a handle, or a container with handles; called inside the `with` block."""
        if self._canvas is None:
            raise DefinitionError(f"flow {self.name}: returns(...) belongs into its `with` block")
        self._returned = result

    # ----------------------------------------------------------------------------------------------- as a work
    @property
    def form(self) -> Literal["coroutine", "drawing"]:
        """Whether its node runs a coroutine (it conducts), or becomes a graph (it draws)."""
        return "coroutine" if self.conducts else "drawing"

    @property
    def is_bound(self) -> Literal[False]:
        """That it gives no `Growth`: a flow that draws is a graph already."""
        return False

    @property
    def fn(self) -> Callable[..., Any]:
        """What the engine calls at its node."""
        return self._conduct if self.conducts else self._draw_as_node

    async def _conduct(self, *args: Any, **kwargs: Any) -> Any:
        attempt = running.get()
        if not isinstance(attempt, Attempt) or self._body is None:
            raise DefinitionError(f"flow {self.name} conducts, so it runs only as a job")
        return await Conductor(attempt, self._shapes).conduct(self._body, args, kwargs)

    async def _draw_as_node(self, *args: Any, **kwargs: Any) -> Drawn:
        return await self.draw_in_time(self.inputs.bind(args, kwargs))

    async def draw_in_time(
        self, inputs: dict[str, Any], seconds: float = DRAW_SECONDS, max_nodes: int = DEFAULT_MAX_NODES
    ) -> Drawn:
        """Draw the flow in a thread, in bounded time.

        Raises:
            DrawingTimeoutError: It took longer.
            DrawingError: The body raised; its exception is the cause.
            GraphError: What was drawn is not valid.
        """
        if self.conducts or self._drawn is not None:
            return self.draw(inputs)
        async with places():
            with anyio.move_on_after(seconds):
                return await in_daemon_thread(partial(self.draw, inputs, max_nodes))
        raise DrawingTimeoutError(
            f"the body of flow {self.name} took over {seconds:g} s to draw; put slow work into tasks, "
            "or make it an `async def` flow"
        )

    def draw(self, inputs: dict[str, Any], max_nodes: int = DEFAULT_MAX_NODES) -> Drawn:
        """Return the flow's graph for these inputs.

        Raises:
            DrawingError: The body raised; its exception is the cause.
            GraphError: What was drawn is not valid.
        """
        if self._drawn is not None:
            return self._drawn
        args, kwargs = self.inputs.split(inputs)
        with Drawing().opened() as canvas:
            if self.conducts:
                return canvas.finish(canvas.add_work("flow", self, args, kwargs), self._shapes)
            result = self._run_body(args, kwargs)
            return canvas.finish(result, self._shapes, max_nodes)

    def _run_body(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._body is None:
            raise DefinitionError(f"flow {self.name} has no body, and was not drawn in a `with` block")
        try:
            return self._body(*args, **kwargs)
        except (DrawingError, DefinitionError):
            raise
        except BaseException as error:
            # Also `sys.exit()` and its like: raised on they would stop the loop that waits for the drawing.
            raise DrawingError(f"the body of flow {self.name} raised {type(error).__name__}: {error}") from error

    # ------------------------------------------------------------------------------------------------- for users
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Add a sub-flow to the flow that is being drawn, or record a call of it in an `async def` flow.

        Raises:
            DefinitionError: Neither is the case here.
        """
        placed = place("flow", self, args, kwargs, NO_OPTIONS)
        if placed is NOT_HERE:
            raise DefinitionError(
                f"flow {self.name} does not run by a call; use {self.name}.run(...) or app.submit(...)"
            )
        return placed

    def map(self, *args: Any, **kwargs: Any) -> Any:
        """Run the flow once for each item; see `Task.map`."""
        return Configured(self, NO_OPTIONS).map(*args, **kwargs)

    def options(self, **options: Any) -> Configured:
        """Return the flow with options for one node; see `Task.options`.

        Raises:
            DefinitionError: An option is unknown, out of range, or nothing that a flow can have.
        """
        self._refuse_policies({key: value for key, value in options.items() if key not in NODE_OPTIONS - {"chunk"}})
        return Configured(self, configure(options, self.policy, f"flow {self.name}"))

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Run the flow in this process and return its result; blocks.

        Raises:
            BlockingCallError: It is called inside a task or flow, or on the event loop that would run it.
            InvalidInputError: The inputs do not fit.
            Exception: Whatever failed the job.
        """
        return current.app().run(self, *args, **kwargs)

    def __repr__(self) -> str:
        """Return a form that names the flow."""
        return f"<flow {self.name}>"


@overload
def flow(body: Callable[..., Any], /) -> Flow: ...
@overload
def flow(
    *, name: str | None = None, durability: Durability | None = None, **policy: Any
) -> Callable[[Callable[..., Any]], Flow]: ...
def flow(
    body: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    durability: Durability | None = None,
    **policy: Any,
) -> Any:
    """Make a flow of a function.

    The body of a `def` function draws: it runs once at submit, with the real inputs, and each call of a task in it adds
    a node. The body of an `async def` function conducts: it runs while the job runs, and each call it awaits is
    recorded.

    Args:
        body: The function, when the decorator is used without arguments.
        name: The name under which it is known; by default `module.qualname`.
        durability: How safe jobs of it are when their process dies. `full`: what was answered is on disk. `relaxed`:
            answers come before the commit, which follows within 50 ms. `off`: they live in memory and end with their
            process; what they pass on need not be written down. By default the setting `durability` says.
        policy: How it is run as a sub-flow (see `Policy`).

    Raises:
        DefinitionError: It is no function, or the durability or a policy is unknown or out of range.

    >>> from millstream import task
    >>> @task
    ... def double(x: int) -> int: return 2 * x
    >>> @flow
    ... def doubled(sizes: list[int] = [1, 2]):
    ...     return double.map(sizes)
    >>> doubled.run(sizes=[5])
    [10]
    """

    def make(function: Callable[..., Any]) -> Flow:
        if not hasattr(function, "__qualname__"):
            raise DefinitionError(f"@flow needs a function, not {function!r}")
        return Flow(
            name or f"{public_module(function.__module__)}.{function.__qualname__}",
            function,
            durability=durability,
            **policy,
        )

    return make if body is None else make(body)
