"""Makes orders of what users hand in: binds inputs, draws flows, lays canvases out, checks the terms."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from millstream.authoring.canvas.layout import Layout, lay_out
from millstream.authoring.canvas.signature import Signature
from millstream.authoring.canvas.spine import GroupSpine, Spine, TaskSpine
from millstream.authoring.draw import Drawn
from millstream.authoring.flow import Flow
from millstream.authoring.local import LocalTask
from millstream.authoring.registry import Definition, Registry
from millstream.authoring.task import Task
from millstream.clock import Clock
from millstream.engine.context import running
from millstream.engine.control import seconds_until
from millstream.engine.program import INTERNAL, Work
from millstream.errors import DefinitionError, NotSerializableError
from millstream.execution.submit import Order
from millstream.model.policy import DEFAULT_QUEUE, Policy, revise_policy
from millstream.model.task_id import split_task_id
from millstream.model.value import encode
from millstream.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a submission says about its job; `None` leaves it to the definition. See `Millstream.submit`."""

    idempotency_key: str | None = None
    priority: int | None = None
    expires: float | timedelta | datetime | None = None
    countdown: float | None = None
    eta: datetime | None = None
    queue: str | None = None
    owner: str | None = None
    is_interactive: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """An order, and what its result looks like.

    Attributes:
        order: The order.
        spine: The shape of its result; `None` for a flow, whose result is the job's.
    """

    order: Order
    spine: Spine | None

    def task_id(self, job_id: str) -> str:
        """Return the task id of its result, where it is a job."""
        return self.spine.task_id(job_id) if isinstance(self.spine, TaskSpine) else job_id


@dataclass(frozen=True, slots=True)
class Orders:
    """Makes orders.

    Attributes:
        registry: The tasks and flows that the app knows by name.
        find: Returns one by its whole name, also one that was submitted here before.
        settings: The settings.
        clock: The time; held while a flow is drawn.
    """

    registry: Registry
    find: Callable[[str], Work]
    settings: Settings
    clock: Clock

    def definition(self, work: Definition | str) -> Definition:
        """Return a flow or task, given as itself or by its name.

        Raises:
            UnknownNameError: None is known under this name.
            DefinitionError: It is neither.
        """
        if isinstance(work, str):
            return self.registry.get(work)
        if not isinstance(work, Task | Flow):
            raise DefinitionError(
                f"only flows, tasks and signatures can be submitted, not {work!r}; put @task or @flow on it"
            )
        return work

    async def of_work(
        self, work: Definition | str, args: tuple[Any, ...], kwargs: Mapping[str, Any], terms: Terms
    ) -> Placed:
        """Return the order of a flow or task with its inputs.

        Raises:
            MillstreamError: See `Millstream.submit`.
        """
        definition = self.definition(work)
        policy = self._policy(definition, definition.policy, terms)
        inputs = definition.inputs.bind(args, kwargs)
        drawn = await self._draw(definition, inputs)
        spine = None if isinstance(definition, Flow) else TaskSpine(drawn.shape.graph.nodes[0].id)
        return Placed(self._order(definition, drawn, inputs, policy, terms), spine)

    def of_canvas(self, canvas: Signature, terms: Terms) -> Placed:
        """Return the order of a canvas.

        Raises:
            MillstreamError: See `Millstream.submit`.
        """
        layout = lay_out(canvas, self.find, self.settings.max_graph_nodes)
        told = {key: value for key, value in asdict(terms).items() if value is not None}
        terms = Terms(**{**layout.options, **told})
        drawn, first = layout.drawn, layout.drawn.works[layout.flow]
        policy = self._policy(first, _policy_of(drawn, layout.flow) or first.policy, terms)
        inputs = _inputs(canvas, first, drawn) or {"canvas": layout.text, "digest": self._digest(drawn)}
        order = self._order(first, drawn, inputs, policy, terms)
        return Placed(replace(order, aliases=_aliases(layout)), layout.spine)

    def _order(self, work: Work, drawn: Drawn, inputs: dict[str, Any], policy: Policy, terms: Terms) -> Order:
        here, is_whole = running.get(), isinstance(work, Flow) or drawn.shape.size == 1
        return Order(
            flow=work.name,
            version=work.version,
            inputs=inputs,
            drawn=drawn,
            durability=(isinstance(work, Flow | LocalTask) and work.durability) or self.settings.durability,
            priority=policy.priority,
            starts_at=_start(self.clock.now(), terms.countdown, terms.eta),
            expires=policy.expires if is_whole or terms.expires is not None else None,
            idempotency_key=terms.idempotency_key,
            parent=None if here is None else here.request.id,
            queue=self._queue(work, drawn, policy, is_whole=is_whole, given=terms.queue),
            owner=terms.owner if terms.owner is not None or here is None else here.request.owner,
            is_interactive=terms.is_interactive,
        )

    def _queue(self, work: Work, drawn: Drawn, policy: Policy, *, is_whole: bool, given: str | None) -> str | None:
        """Return the queue of a job: what is said of it, else of its flow or one task, else what all its tasks share.

        Raises:
            DefinitionError: What is said of it names none.
        """
        if given is not None:
            policy, is_whole = revise_policy(policy, {"queue": given}, where=f"submit of {work.name}"), True
        if is_whole:
            name = policy.queue
        else:
            nodes = (node for node in drawn.shape.graph.nodes if node.task and not node.task.startswith(INTERNAL))
            names = {(node.policy or drawn.works[node.task].policy).queue for node in nodes}
            name = names.pop() if len(names) == 1 else DEFAULT_QUEUE
        return None if name in (DEFAULT_QUEUE, self.settings.default_queue) else name

    def _policy(self, work: Work, own: Policy, terms: Terms) -> Policy:
        """Return a policy with what the terms change."""
        given = {} if terms.priority is None else {"priority": terms.priority}
        if terms.expires is not None:
            given["expires"] = _seconds("expires", terms.expires, self.clock.now())
        return revise_policy(own, given, where=f"submit of {work.name}")

    async def _draw(self, definition: Definition, inputs: dict[str, Any]) -> Drawn:
        if not isinstance(definition, Flow):
            return definition.draw(inputs)
        hold = self.clock.hold()
        try:
            return await definition.draw_in_time(inputs, self.settings.draw_timeout, self.settings.max_graph_nodes)
        finally:
            hold.cancel()

    def _digest(self, drawn: Drawn) -> str:
        """Return what tells canvases apart that are written alike: a digest of the shape and of the values."""
        try:
            values = encode(list(drawn.bindings), "an argument")
        except NotSerializableError:
            if self.settings.durability != "off":
                raise
            return drawn.shape.digest
        return hashlib.sha256(drawn.shape.digest.encode() + values).hexdigest()


def _policy_of(drawn: Drawn, name: str) -> Policy | None:
    """Return what a canvas says of how its first task is run."""
    return next((node.policy for node in drawn.shape.graph.nodes if node.policy and node.task == name), None)


def _inputs(canvas: Signature, work: Work, drawn: Drawn) -> dict[str, Any] | None:
    """Return the inputs by name where a canvas is one task: those of its job, as if the task were submitted."""
    if canvas.subtask_type is not None or drawn.shape.size > 1 or not isinstance(work, Task | Flow):
        return None
    return work.inputs.bind(canvas.args, canvas.kwargs)


def _aliases(layout: Layout) -> dict[str, str]:
    """Return the task ids that were given; that of a group as a whole stands for the job.

    Raises:
        DefinitionError: One has the form of the ids that are made here, so that it might be taken for another task's.
    """
    whole = {layout.spine.id: ""} if isinstance(layout.spine, GroupSpine) and layout.spine.id else {}
    aliases = {**layout.aliases, **whole}
    for task_id in filter(split_task_id, aliases):
        raise DefinitionError(f"the task id {task_id!r} is that of a node: <job id>.<node>; give one of another form")
    return aliases


def _start(now: float, countdown: Any, eta: Any) -> float | None:
    """Return when a job may start, in seconds since the epoch.

    Raises:
        DefinitionError: Both are given, or one is out of range.
    """
    if countdown is not None:
        if eta is not None:
            raise DefinitionError("give countdown or eta, not both")
        if not (isinstance(countdown, int | float) and 0 <= countdown < float("inf")):
            raise DefinitionError(f"countdown is {countdown!r}, but must be a number of seconds, 0 or more")
        return now + countdown
    if eta is not None and not (isinstance(eta, datetime) and eta.tzinfo):
        raise DefinitionError(f"eta is {eta!r}, but must have a time zone, as in datetime.now(UTC)")
    return None if eta is None else float(eta.timestamp())


def _seconds(option: str, length: Any, now: float) -> Any:
    """Return how long an instant or a `timedelta` is away; a number as it is, since policies check those.

    Raises:
        DefinitionError: It is an instant without a time zone.
    """
    if not isinstance(length, datetime | timedelta):
        return length
    try:
        return seconds_until(length, now)
    except ValueError as error:
        raise DefinitionError(f"{option}: {error}") from None
