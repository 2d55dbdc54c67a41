"""Which answer each error of ours leads to."""

from __future__ import annotations

import json

import pytest

from millstream.errors import (
    DefinitionError,
    DocumentError,
    GraphTooLargeError,
    InvalidCursorError,
    InvalidInputError,
    JobNotFoundError,
    MillstreamError,
    NotSerializableError,
    OutputTooLargeError,
    SettingsError,
    StateTransitionError,
    UnknownNameError,
    WorkflowServiceUnavailableError,
)
from millstream.events.base import CursorLostError
from millstream.ledger.accounts import NameTakenError, UserNotFoundError
from millstream.ledger.base import IdempotencyConflictError, LedgerUnavailableError, StorageFullError
from millstream.ledger.flow_store import FlowNotFoundError, ProjectNotFoundError, VersionConflictError
from millstream.server.problem import answer, problem_of

_TOLD = "what is told"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidCursorError(_TOLD), 400),
        (JobNotFoundError(_TOLD), 404),
        (UnknownNameError(_TOLD), 404),
        (FlowNotFoundError(_TOLD), 404),
        (ProjectNotFoundError(_TOLD), 404),
        (UserNotFoundError(_TOLD), 404),
        (StateTransitionError(_TOLD), 409),
        (IdempotencyConflictError(_TOLD), 409),
        (NameTakenError("name", _TOLD), 409),
        (CursorLostError(_TOLD), 410),
        (VersionConflictError(7), 412),
        (GraphTooLargeError([_TOLD]), 413),
        (OutputTooLargeError(_TOLD), 413),
        (DefinitionError(_TOLD), 422),
        (InvalidInputError(_TOLD), 422),
        (NotSerializableError(_TOLD), 422),
        (DocumentError([("nodes[0]", _TOLD)]), 422),
    ],
)
def test_who_asked_wrongly_is_told_what_was_wrong(error: MillstreamError, status: int) -> None:
    found = problem_of(error)
    assert (found.status_code, found.detail) == (status, str(error))


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LedgerUnavailableError("postgresql://db.internal does not answer"), 503),
        (WorkflowServiceUnavailableError("the broker at mq.internal is away"), 503),
        (StorageFullError("no room on /srv/internal"), 507),
        (SettingsError("internal"), 500),
        (RuntimeError("internal"), 500),
    ],
)
def test_what_fails_inside_is_not_told(error: Exception, status: int) -> None:
    given = answer(error, "/api/v1/jobs")
    assert given.status_code == status
    assert b"internal" not in given.body
    assert ("retry-after" in given.headers) == (status == 503)


def test_each_part_of_a_document_that_is_wrong_is_listed() -> None:
    given = json.loads(bytes(answer(DocumentError([("nodes[2]", "one"), ("edges[0]", "two")]), "/x").body))
    assert [(part["loc"], part["msg"]) for part in given["errors"]] == [(["nodes[2]"], "one"), (["edges[0]"], "two")]
