"""What a request gives to the flow that it runs, and how that becomes a job."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any, Final

from millstream.app import Millstream
from millstream.authoring.documents.flow import DocumentFlow
from millstream.authoring.registry import Definition
from millstream.authoring.result import Job
from millstream.errors import InvalidInputError
from millstream.ledger.base import IdempotencyConflictError
from millstream.server.idempotency import scoped

_ALWAYS_SENT: Final = frozenset({"input_value", "session", "type"})
"""What clients send with every build, whether the flow takes it or not."""

_TERMS: Final = frozenset(signature(Millstream.submit).parameters)


def inputs_of(
    work: Definition,
    told: Mapping[str, Any],
    *,
    files: Sequence[str] | None = None,
    tweaks: Mapping[str, Any] | None = None,
    payload: Any = None,
) -> dict[str, Any]:
    """Return the inputs of a job.

    Args:
        work: What is run.
        told: What a request says: `input_value`, `session`, `type`; of what is written in Python, its inputs by name.
        files: Names of files.
        tweaks: Values for this job alone.
        payload: The body of a webhook's call.

    Raises:
        InvalidInputError: A document does not take such an input, or not of this kind.
    """
    if not isinstance(work, DocumentFlow):
        told = told if payload is None else {**told, "payload": payload}
        takes = work.inputs.signature.parameters
        return {name: value for name, value in told.items() if name in takes or name not in _ALWAYS_SENT}
    named = {"input_value": "input_value", "type": "input_type", "session": "session"}
    inputs = {named[name]: value for name, value in told.items() if name in named and value is not None}
    further = {"files": files and [*files], "tweaks": tweaks and {**tweaks}, "payload": payload}
    return inputs | {name: value for name, value in further.items() if value is not None}


async def submit(
    app: Millstream,
    work: Definition,
    inputs: Mapping[str, Any],
    *,
    owner: str,
    key: str | None,
    is_given: bool = False,
    is_interactive: bool = False,
) -> Job:
    """Hand a job in, and return it; by then it is recorded as its durability says.

    Args:
        app: The app.
        work: What is run.
        inputs: Its inputs by name.
        owner: Id of the user whose job it is.
        key: What makes it safe to send the request again.
        is_given: Whether the work itself came with the request, so that a key stands for it, too.
        is_interactive: Whether it is cancelled when nobody who looked at it does any more.

    Raises:
        InvalidInputError: The inputs do not fit.
        IdempotencyConflictError: The key belongs to a job with another flow, other inputs or another work.
        Exception: What else `Millstream.submit` raises.
    """
    terms: dict[str, Any] = {"owner": owner, "idempotency_key": scoped(owner, key), "is_interactive": is_interactive}
    if isinstance(work, DocumentFlow):
        job = await app.submit(work, **terms, **inputs)
        if is_given and job.version != work.version:
            raise IdempotencyConflictError(f"the idempotency key {key!r} belongs to a job of another document")
        return job
    args, rest = work.inputs.split(work.inputs.bind((), inputs))
    if wrong := sorted(rest.keys() & _TERMS):  # else a client would say how its job is run
        raise InvalidInputError(f"{work.name} cannot be given {', '.join(wrong)} here: submit() has a meaning for it")
    return await app.submit(work, *args, **terms, **rest)
