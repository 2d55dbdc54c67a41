"""What tasks and flows get from the canvas: signatures of themselves, and the calls that submit them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from millstream.authoring import current
from millstream.authoring.canvas.maps import chunks, xmap, xstarmap
from millstream.authoring.canvas.signature import Signature
from millstream.model.graph import NodeKind
from millstream.model.policy import Policy, revise_policy


class Signable:
    """Something with a name that signatures can be made of: a task or a flow.

    Attributes:
        node_kind: The kind of node that it stands at.
        runs_on: What its signatures are submitted to; `None` is the app in force.
    """

    node_kind: ClassVar[NodeKind] = "task"
    runs_on: Any = None
    name: str
    policy: Policy

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return a signature with these arguments; a predecessor's result comes before them.

        >>> from millstream import task
        >>> @task(name="add")
        ... def add(x: int, y: int) -> int: return x + y
        >>> add.s(2, y=3)
        add(2, y=3)
        """
        return Signature(self, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """Return an immutable signature: it takes no predecessor's result."""
        return Signature(self, args, kwargs, immutable=True)

    def signature(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, *more: Any, **options: Any
    ) -> Signature:
        """Return a signature, with options: `add.signature((2, 2), countdown=10)`."""
        return Signature(self, args, kwargs, *more, **options)

    subtask = signature

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Submit it with these arguments, and return its `AsyncResult` without waiting for it.

        Raises:
            InvalidInputError: The arguments do not fit.
            NotSerializableError: The job is durable, and an argument cannot be written down.
            BlockingCallError: It is called on the event loop that would run it.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Submit it, with options; see `Signature.apply_async`.

        Raises:
            DefinitionError: An option is unknown, or has no meaning without a broker.
            InvalidInputError: The arguments do not fit.
            NotSerializableError: The job is durable, and an argument cannot be written down.
            BlockingCallError: It is called on the event loop that would run it.
        """
        return Signature(self, args, kwargs).apply_async(**options)

    def apply(self, args: Iterable[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run it here and now, in this process and without a record; return an `EagerResult`."""
        return Signature(self, args, kwargs).apply(**options)

    def AsyncResult(self, task_id: str) -> Any:  # noqa: N802  Celery's
        """Return the `AsyncResult` of a task that was submitted, by its id.

        >>> from millstream import task
        >>> @task(name="add")
        ... def add(x: int, y: int) -> int: return x + y
        >>> add.AsyncResult(add.delay(2, 3).id).get(timeout=10)
        5
        """
        app = current.app() if self.runs_on is None else self.runs_on
        return app.result_type(task_id, app=app)

    def starmap(self, it: Iterable[Iterable[Any]]) -> xstarmap:
        """Return a signature that runs it once for each tuple of arguments; its result is the list of results."""
        return xstarmap(self.s(), it)

    def chunks(self, it: Iterable[Iterable[Any]], n: int) -> chunks:
        """Return a signature that runs it for each tuple of arguments, `n` of them at a time; gives a list of lists."""
        return chunks(self.s(), it, n)

    def xmap(self, it: Iterable[Any]) -> xmap:
        """Return a signature that runs it once for each item; its result is the list of results."""
        return xmap(self.s(), it)

    def revised(self, changes: dict[str, Any]) -> Policy:
        """Return its policy with changes.

        Raises:
            DefinitionError: A change is unknown, out of range, or nothing that it can have.
        """
        return revise_policy(self.policy, changes, where=self.name)

    def __or__(self, other: Any) -> Any:
        """`task | signature`: as `task.s() | signature`."""
        return self.s() | other
