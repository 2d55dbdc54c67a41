"""What a server answers instead of what it was asked for, and what a network does instead of bringing it."""

from __future__ import annotations

from typing import Any, ClassVar, Final

import msgspec

from millstream.errors import MillstreamError


class ClientError(MillstreamError):
    """Raised when a server could not be asked, or did not answer as it was asked to."""


class UnreachableError(ClientError):
    """Raised when the server could not be reached, or the connection broke, and trying again did not help."""


class ProblemError(ClientError):
    """Raised when the server answers with a problem that has no class of its own.

    Attributes:
        status: The HTTP status.
        problem: All that the server says of it: `title`, `detail`, `errors`, and what belongs to this kind of problem.
    """

    status: int
    problem: dict[str, Any]
    means: ClassVar[tuple[int, ...]] = ()

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        """Take the answer."""
        self.status, self.problem = status, problem
        super().__init__(f"{problem.get('detail') or problem.get('title') or 'no reason given'} (HTTP {status})")


class InvalidRequestError(ProblemError):
    """Raised when the server cannot take what was sent: `problem["errors"]` says what is wrong where."""

    means = (400, 413, 415, 422)


class UnauthorizedError(ProblemError):
    """Raised when the server does not know who asks, or the credential is good no more."""

    means = (401,)


class ForbiddenError(ProblemError):
    """Raised when who asks may not do this."""

    means = (403,)


class NotFoundError(ProblemError):
    """Raised when there is no such object, or it is somebody else's."""

    means = (404,)


class ConflictError(ProblemError):
    """Raised when things stand otherwise than the request supposes, or a key was used for something else."""

    means = (409,)


class GoneError(ProblemError):
    """Raised when the events after a cursor are not there any more."""

    means = (410,)


class VersionConflictError(ProblemError):
    """Raised when somebody else has changed the object meanwhile; read it again."""

    means = (412,)


class TooManyRequestsError(ProblemError):
    """Raised when the server takes no more requests of this kind for now, and waiting did not help."""

    means = (429,)


class NotThereYetError(ProblemError):
    """Raised when this version of the server does not have what is asked for."""

    means = (501,)


class UnavailableError(ProblemError):
    """Raised when the server cannot serve for now, and trying again did not help, or has no room left."""

    means = (502, 503, 504, 507)


_KINDS: Final[dict[int, type[ProblemError]]] = {
    status: kind
    for kind in (
        InvalidRequestError,
        UnauthorizedError,
        ForbiddenError,
        NotFoundError,
        ConflictError,
        GoneError,
        VersionConflictError,
        TooManyRequestsError,
        NotThereYetError,
        UnavailableError,
    )
    for status in kind.means
}


def problem_of(status: int, body: bytes) -> ProblemError:
    """Return the error that an answer stands for.

    Args:
        status: The HTTP status.
        body: The answer, a problem (RFC 9457) or whatever something on the way has said.

    Example:
        >>> problem_of(404, b'{"detail": "there is no job"}')
        NotFoundError('there is no job (HTTP 404)')
    """
    try:
        problem = msgspec.json.decode(body)
    except msgspec.DecodeError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"detail": body[:200].decode(errors="replace").strip() or None}
    return _KINDS.get(status, ProblemError)(status, problem)
