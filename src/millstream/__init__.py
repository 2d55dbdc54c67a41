"""millstream: one engine for tasks and flows in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from millstream.authoring import current
from millstream.authoring.compose import approval, branch, loop, short_circuit, sleep
from millstream.authoring.draw import fixed
from millstream.authoring.flow import Flow, flow
from millstream.authoring.handle import Handle
from millstream.authoring.result import Job
from millstream.authoring.task import Task, task
from millstream.engine.context import ctx
from millstream.errors import (
    BlockingCallError,
    DefinitionError,
    DrawingError,
    GraphError,
    InvalidInputError,
    JobCancelledError,
    JobFailedError,
    JobNotFoundError,
    MillstreamError,
    Retry,
    SettingsError,
    Skip,
    SoftTimeLimitExceeded,
    TaskError,
    TaskTimeoutError,
)
from millstream.model.event import Cursor, Event
from millstream.model.job import Decision, JobState, NodeState
from millstream.model.policy import Policy

if TYPE_CHECKING:
    from millstream.app import Millstream
    from millstream.settings import Settings

__version__ = "0.1.0.dev0"

__all__ = [
    "BlockingCallError",
    "Cursor",
    "Decision",
    "DefinitionError",
    "DrawingError",
    "Event",
    "Flow",
    "GraphError",
    "Handle",
    "InvalidInputError",
    "Job",
    "JobCancelledError",
    "JobFailedError",
    "JobNotFoundError",
    "JobState",
    "Millstream",
    "MillstreamError",
    "NodeState",
    "Policy",
    "Retry",
    "Settings",
    "SettingsError",
    "Skip",
    "SoftTimeLimitExceeded",
    "Task",
    "TaskError",
    "TaskTimeoutError",
    "approval",
    "branch",
    "ctx",
    "fixed",
    "flow",
    "loop",
    "short_circuit",
    "sleep",
    "task",
]


def __getattr__(name: str) -> Any:
    """Load the app and the settings on first use: defining tasks needs neither."""
    if name == "Millstream":
        from millstream.app import Millstream  # noqa: PLC0415

        return Millstream
    if name == "Settings":
        from millstream.settings import Settings  # noqa: PLC0415

        return Settings
    raise AttributeError(f"module 'millstream' has no attribute {name!r}")


def _default_app() -> current.App:
    from millstream.app import Millstream  # noqa: PLC0415

    return Millstream()


current.set_factory(_default_app)
