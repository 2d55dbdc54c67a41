"""The only place where an exception becomes an HTTP answer: `application/problem+json`, as in RFC 9457.

Routes raise `Problem`, or let an error of ours through; they never catch one to make an answer of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.responses import Response

from millstream.clock import new_id
from millstream.errors import (
    ClosedError,
    DefinitionError,
    DocumentError,
    GraphError,
    InvalidCursorError,
    InvalidInputError,
    JobNotFoundError,
    NotSerializableError,
    SettingsError,
    StateTransitionError,
    UnknownNameError,
    WorkflowResourceError,
    WorkflowServiceUnavailableError,
)
from millstream.events.base import CursorLostError
from millstream.ledger.accounts import NameTakenError, UserNotFoundError
from millstream.ledger.base import IdempotencyConflictError, StorageFullError
from millstream.ledger.flow_store import FlowNotFoundError, ProjectNotFoundError, VersionConflictError
from millstream.log import get_logger

_log = get_logger("millstream.server")

_RETRY_SECONDS: Final = 2
"""What an answer tells clients to wait when the ledger is away: it comes back within a restart, or it is down."""

_AWAY: Final = "the server cannot reach its ledger or has too much waiting; try again"
_NO_ROUTE: Final = {
    404: "there is no such path, though there may be one with a slash at the end, or without; /docs lists them",
    405: "this path does not take this method; the header Allow names those that it takes",
}
_FULL: Final = "there is no room left where jobs are recorded; nothing was recorded"


class Problem(HTTPException):
    """An answer that says what is wrong; a route raises it.

    Args:
        status: The HTTP status, 400 to 599.
        detail: One sentence: what is wrong, with which value, and what to do.
        headers: Headers of the answer.
        errors: What is wrong with each part of the input, where several parts are.
        more: Further members of the answer, such as `state`.

    Example:
        >>> Problem(409, "job 7 has succeeded", state="succeeded").status_code
        409
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
        **more: Any,
    ) -> None:
        """Take what the answer is made of."""
        super().__init__(status, detail, dict(headers) if headers else None)
        self.errors = errors
        self.more = more


def unauthorized(detail: str = "sign in, or send a token or an API key") -> Problem:
    """Return the answer to who has not said who they are."""
    return Problem(401, detail, headers={"WWW-Authenticate": "Bearer"})


def forbidden(detail: str = "The user doesn't have enough privileges") -> Problem:
    """Return the answer to who is known, and may not do this."""
    return Problem(403, detail)


def cut_off() -> Problem:
    """Return the answer to a request that the end of the server cuts off: nobody knows how far it came."""
    detail = "the server stops before this is answered; it may have been done: send it again with its Idempotency-Key"
    return Problem(503, detail, headers={"Retry-After": str(_RETRY_SECONDS), "Connection": "close"})


_STATUS: Final[tuple[tuple[type[Exception], int], ...]] = (  # the first that fits counts
    (StorageFullError, 507),
    (WorkflowServiceUnavailableError, 503),
    (ClosedError, 503),
    (WorkflowResourceError, 413),
    (JobNotFoundError, 404),
    (UnknownNameError, 404),
    (UserNotFoundError, 404),
    (FlowNotFoundError, 404),
    (ProjectNotFoundError, 404),
    (InvalidCursorError, 400),
    (CursorLostError, 410),
    (StateTransitionError, 409),
    (IdempotencyConflictError, 409),
    (NameTakenError, 409),
    (VersionConflictError, 412),
    (SettingsError, 500),
    (DefinitionError, 422),
    (InvalidInputError, 422),
    (NotSerializableError, 422),
)


def problem_of(error: Exception) -> Problem:
    """Return what is answered where an error ends a request; what is unforeseen is logged under an id, and not told."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _invalid(error)
        case DocumentError():
            found = [{"loc": [where], "msg": what, "type": "document"} for where, what in error.problems]
            return Problem(422, str(error), errors=found)
        case HTTPException():
            return Problem(error.status_code, _NO_ROUTE.get(error.status_code, error.detail), headers=error.headers)
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return _known(error, status)
    return _unforeseen(error)


def _known(error: Exception, status: int) -> Problem:
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Problem(status, str(error), errors=_parts(error))
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _unforeseen(error)
    _log.warning("request not served", reason=str(error))  # it may name hosts and files, which are nobody's business
    if status == HTTPStatus.INSUFFICIENT_STORAGE:
        return Problem(status, _FULL)
    return Problem(status, _AWAY, headers={"Retry-After": str(_RETRY_SECONDS)})


def _parts(error: Exception) -> list[dict[str, Any]]:
    """Return what is wrong with each part, where an error tells of several."""
    match error:
        case DocumentError():
            return [{"loc": [where], "msg": what} for where, what in error.problems]
        case GraphError():
            return [{"msg": what} for what in error.problems]
    return []


def _unforeseen(error: Exception) -> Problem:
    error_id = new_id()
    _log.error("request failed", error_id=error_id, exc_info=error)
    return Problem(500, f"the server failed; its log says more under {error_id}", error_id=error_id)


def _invalid(error: RequestValidationError) -> Problem:
    # Without the value itself, which may be a password.
    errors = [{"loc": [*found["loc"]], "msg": _words(found, error), "type": found["type"]} for found in error.errors()]
    told = "; ".join(f"{'.'.join(str(part) for part in found['loc'])}: {found['msg']}" for found in errors)
    return Problem(422, told, errors=errors)


def _words(found: Mapping[str, Any], error: RequestValidationError) -> str:
    """Return what is wrong with one part: in our words where the library's own help nobody."""
    if found["type"] == "uuid_parsing":
        return "is not a UUID"
    if found["type"] == "missing" and isinstance(error.body, FormData):
        return f"the form has no field named {found['loc'][-1]}"
    return str(found["msg"]).removeprefix("Value error, ")


def answer(error: Exception, path: str) -> Response:
    """Return the HTTP answer where an error ends a request.

    Args:
        error: Whatever was raised.
        path: The path that was asked for.
    """
    problem = problem_of(error)
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status_code).phrase,
        "status": problem.status_code,
        "detail": problem.detail,
        "instance": path,
    }
    if problem.errors:
        body["errors"] = [*problem.errors]
    return Response(
        json.dumps(body | problem.more),  # ASCII: whatever came in can be told
        problem.status_code,
        problem.headers,
        "application/problem+json",
    )


def install(api: FastAPI) -> None:
    """Have an application answer every error by this module."""

    async def told(request: Request, error: Exception) -> Response:
        return answer(error, request.scope["path"])

    for kind in (HTTPException, RequestValidationError):  # for these FastAPI has answers of its own
        api.add_exception_handler(kind, told)
