"""Bound tasks for the suite of backends: what they ask about themselves, how they retry, and what they let grow."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from millstream import Retry, ctx, task
from millstream.authoring.canvas.primitives import group
from millstream.authoring.canvas.signature import Signature
from millstream.errors import Ignore, NotSerializableError, Reject
from millstream.testing.contract_tasks import ShopError, Unpicklable, end_as, everywhere
from millstream.testing.room import Room

HOUR = 3600.0


# ------------------------------------------------------------------------------------------------------ requests
def _told(self: Any, *_args: Any, **_kwargs: Any) -> Any:
    """Return what the attempt knows of itself."""
    request = self.request
    return {name: getattr(request, name) for name in request.__struct_fields__}


told = everywhere(bind=True, timeout=60, soft_timeout=50, priority=3, queue="mail", retries=4)(_told)
told_process = told["process"]  # where a process finds it


@task
async def asks_unbound(number: int) -> tuple[Any, ...]:
    """Ask by the task's own name."""
    request = asks_unbound.request
    return request.task, request.args, request.called_directly, told["loop"].request.called_directly, number


@task(run_in="process")
def asks_in_process(number: int) -> tuple[Any, ...]:
    """Ask by the task's own name, in a process."""
    request = asks_in_process.request
    return request.task, request.args, request.id == ctx.task_id, request.called_directly, number


# ------------------------------------------------------------------------------------------------------- retries
def _retries(self: Any, room: str, failures: int, options: dict[str, Any] | None = None) -> int:
    """Ask for another attempt so many times, with these options."""
    Room(room).note(f"attempt {self.request.retries + 1}")
    if self.request.retries < failures:
        raise self.retry(**options or {})
    return int(self.request.retries)


retrying = everywhere(bind=True, retries=3, retry_backoff=HOUR, retry_backoff_max=9 * HOUR, retry_jitter=False)(
    _retries
)
retrying_process = retrying["process"]


def _retries_for(self: Any, room: str, max_retries: int) -> None:
    """Ask for attempts because of an exception of the user's own."""
    Room(room).note(f"attempt {self.request.retries + 1}")
    try:
        end_as("shut")
    except ShopError as error:
        raise self.retry(exc=error, max_retries=max_retries) from OSError("no wire")


retrying_for = everywhere(bind=True, retries=9)(_retries_for)
retrying_for_process = retrying_for["process"]


@task(bind=True, retries=1)
async def hands_out_retry(self: Any) -> str:
    """Take the retry without raising it."""
    retry = self.retry(countdown=5, throw=False)
    return f"{type(retry).__name__} in {retry.delay:g}"


@task(bind=True, retries=1)
async def retries_at(self: Any, timestamp: float) -> int:
    """Ask for an attempt at a time."""
    if not self.request.retries:
        raise self.retry(eta=datetime.fromtimestamp(timestamp, UTC))
    return int(self.request.retries)


# ---------------------------------------------------------------------------------------------- outcomes, states
def _ends(self: Any, room: str, how: str) -> str:
    """End in a way that a task chooses."""
    Room(room).note(f"attempt {self.request.retries + 1}, redelivered {self.request.delivery_info['redelivered']}")
    if how == "ignore":
        raise Ignore("nothing to do")
    if how == "reject":
        raise Reject("not mine")
    if how == "requeue" and not self.request.delivery_info["redelivered"]:
        raise Reject("not now", requeue=True)
    return "done"


ending = everywhere(bind=True, retries=2)(_ends)
ending_process = ending["process"]


def _says(self: Any, gate: str = "", room: str = "") -> str:
    """Tell a state, and wait at a gate."""
    self.update_state(state="COUNTING", meta={"done": 3, "of": (1, 2)})
    if gate:
        Room(room).block(gate)
    return "told"


saying = everywhere(bind=True)(_says)
saying_process = saying["process"]


@task(bind=True)
def says_what_stays(self: Any) -> str:
    """Tell a state that cannot leave the process."""
    try:
        self.update_state(state="COUNTING", meta=Unpicklable())
    except NotSerializableError:
        return "refused"
    return "said"


# -------------------------------------------------------------------------------------------------------- growth
@task
async def total(numbers: list[int]) -> int:
    """Add up."""
    return sum(numbers)


@task
async def plus(number: int, other: int) -> int:
    """Add."""
    return number + other


@task
async def listed(results: list[Any]) -> list[Any]:
    """Return what a chord's body gets."""
    return results


@task
async def fails(_number: int) -> None:
    """Fail."""
    raise ShopError("closed")


def _replaces(self: Any, room: str, number: int, how: str = "task") -> Any:
    """Let something else run in its place."""
    Room(room).note(f"replaced {number}")
    match how:
        case "task":
            raise self.replace(plus.s(number, 100))
        case "chain":
            raise self.replace(plus.s(number, 1) | plus.s(10) | plus.s(100))
        case "group":
            raise self.replace(group_of(number))
        case "chord":
            raise self.replace(group_of(number) | total.s())
        case "again" if number:
            raise self.replace(self.s(room, number - 1, "again"))
        case "later":
            raise self.replace(plus.s(number, 100).set(countdown=HOUR))
        case "fails":
            raise self.replace(fails.s(number))
        case "nobody":
            raise self.replace(nobody(number))
    return f"own {number}"


def group_of(number: int) -> Any:
    """Return a group of three."""
    return group(plus.s(number, more) for more in (1, 2, 3))


def nobody(number: int) -> Any:
    """Return a signature of a task that nobody has."""
    return Signature("nobody.has.this", (number,))


replacing = everywhere(bind=True, retries=2)(_replaces)
replacing_process = replacing["process"]


@task(bind=True, effect="once")
async def replaced_once(self: Any, room: str, number: int) -> None:
    """Must run only once, and lets something else run in its place."""
    Room(room).note("once")
    raise self.replace(plus.s(number, 100).set(countdown=HOUR))


def _adds(self: Any, number: int, extras: int) -> int:
    """Add to its chord."""
    for extra in range(extras):
        self.add_to_chord(plus.s(number, 100 * (extra + 1)))
    return number


adding = everywhere(bind=True)(_adds)
adding_process = adding["process"]


@task(bind=True)
async def adds_later(self: Any, room: str, number: int) -> int:
    """Add to its chord what starts in an hour."""
    Room(room).note("adds")
    self.add_to_chord(plus.s(number, 100).set(countdown=HOUR))
    return number


@task(bind=True)
async def adds_and_is_replaced(self: Any, number: int) -> None:
    """Add to its chord, and let a group run in its place."""
    self.add_to_chord(plus.s(number, 100))
    raise self.replace(group_of(number))


# ------------------------------------------------------------------------------------------------------ errbacks
def _fails(_how: str, **_more: Any) -> None:
    """Fail in each attempt."""
    raise ShopError(_how)


failing = everywhere(retries=2)(_fails)


def _handles(request: Any, error: BaseException, trace: str, room: str) -> None:
    """Note what failed."""
    text = "traceback" if trace.startswith("Traceback") and "in _fails" in trace else trace
    attempt = request.retries + 1
    Room(room).note(f"{request.id} of attempt {attempt} with {request.args} {request.kwargs}: {error!r}, {text}")


handle = everywhere()(_handles)


@task(retries=1)
async def handle_later(request: Any, error: BaseException, trace: str, room: str) -> None:
    """Note what failed, an hour later."""
    if ctx.attempt == 1:
        raise Retry("not now", delay=HOUR)
    _handles(request, error, trace, room)


@task
async def handle_id(task_id: str, room: str) -> None:
    """Note which task failed."""
    Room(room).note(task_id)
