"""millstream: one engine for tasks and flows in Python."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from millstream.authoring import current
from millstream.authoring.canvas.maps import chunks, xmap, xstarmap
from millstream.authoring.canvas.primitives import chain, chord, group
from millstream.authoring.canvas.signature import Signature, signature
from millstream.authoring.compose import approval, branch, loop, short_circuit, sleep
from millstream.authoring.draw import fixed
from millstream.authoring.flow import Flow, flow
from millstream.authoring.handle import Handle
from millstream.authoring.result import Job
from millstream.authoring.results.async_result import AsyncResult
from millstream.authoring.results.group_result import GroupResult, ResultSet
from millstream.authoring.results.making import result_from_tuple
from millstream.authoring.task import Task, task
from millstream.engine.context import ctx
from millstream.errors import (
    BlockingCallError,
    DefinitionError,
    DocumentError,
    DrawingError,
    GraphError,
    Ignore,
    IncompleteResultsError,
    InvalidInputError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    MaxRetriesExceededError,
    MillstreamError,
    Reject,
    ResultTimeoutError,
    Retry,
    SettingsError,
    Skip,
    SoftTimeLimitExceeded,
    TaskError,
    TaskRevokedError,
    TaskTimeoutError,
)
from millstream.model.event import Cursor, Event
from millstream.model.job import Decision, JobState, NodeState
from millstream.model.policy import Policy

if TYPE_CHECKING:
    from millstream.app import Millstream
    from millstream.authoring.documents.catalogue import Catalogue
    from millstream.authoring.documents.flow import DocumentFlow
    from millstream.settings import Settings

__version__ = "0.1.0.dev0"

__all__ = [
    "AsyncResult",
    "BlockingCallError",
    "Catalogue",
    "Cursor",
    "Decision",
    "DefinitionError",
    "DocumentError",
    "DocumentFlow",
    "DrawingError",
    "Event",
    "Flow",
    "GraphError",
    "GroupResult",
    "Handle",
    "Ignore",
    "IncompleteResultsError",
    "InvalidInputError",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "JobNotFoundError",
    "JobState",
    "MaxRetriesExceededError",
    "Millstream",
    "MillstreamError",
    "NodeState",
    "Policy",
    "Reject",
    "ResultSet",
    "ResultTimeoutError",
    "Retry",
    "Settings",
    "SettingsError",
    "Signature",
    "Skip",
    "SoftTimeLimitExceeded",
    "Task",
    "TaskError",
    "TaskRevokedError",
    "TaskTimeoutError",
    "approval",
    "branch",
    "chain",
    "chord",
    "chunks",
    "ctx",
    "fixed",
    "flow",
    "group",
    "loop",
    "result_from_tuple",
    "short_circuit",
    "signature",
    "sleep",
    "task",
    "xmap",
    "xstarmap",
]


_ON_FIRST_USE = {
    "Catalogue": "millstream.authoring.documents.catalogue",
    "DocumentFlow": "millstream.authoring.documents.flow",
    "Millstream": "millstream.app",
    "Settings": "millstream.settings",
}


def __getattr__(name: str) -> Any:
    """Load the app, the settings and documents on first use: defining tasks needs none of them."""
    if name not in _ON_FIRST_USE:
        raise AttributeError(f"module 'millstream' has no attribute {name!r}")
    return getattr(import_module(_ON_FIRST_USE[name]), name)


def _default_app() -> current.App:
    from millstream.app import Millstream  # noqa: PLC0415

    return Millstream()


current.set_factory(_default_app)
