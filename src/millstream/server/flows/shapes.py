"""What flows and projects look like to clients: the fields that they send, and those that they are told."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from millstream.ledger.flow_store import FlowSummary, Project, StoredFlow

Name = Annotated[str, Field(min_length=1, max_length=255)]
Text = Annotated[str, BeforeValidator(lambda value: "" if value is None else value), Field(max_length=100_000)]
EndpointName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[A-Za-z0-9_-]+$")]

_DOCUMENT: dict[str, Any] = {
    "nodes": [
        {"id": "question", "data": {"component": "ChatInput"}, "position": {"x": 0, "y": 0}},
        {"id": "answer", "data": {"component": "ChatOutput"}, "position": {"x": 300, "y": 0}},
    ],
    "edges": [
        {
            "id": "question-answer",
            "source": "question",
            "sourceHandle": "message",
            "target": "answer",
            "targetHandle": "input_value",
        }
    ],
}
EXAMPLE_ID = "0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f"
_PROJECT_ID = "0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e70"
_USER_ID = "0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e71"
_TIMES = {"created_at": "2026-11-01T08:30:00+00:00", "updated_at": "2026-11-01T08:30:00+00:00"}
_FLOW: dict[str, Any] = {"name": "Echo", "description": "Says it again.", "endpoint_name": "echo"}
_KEPT: dict[str, Any] = {
    "id": EXAMPLE_ID,
    "project_id": _PROJECT_ID,
    "user_id": _USER_ID,
    "version": 1,
    "is_read_only": False,
}


def _with_example(extra: Literal["ignore", "forbid"], example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra=extra, json_schema_extra={"examples": [example]})


# ------------------------------------------------------------------------------------------------------ what is sent
class NewFlow(BaseModel):
    """A flow to be kept. Fields that this server does not know are ignored, but none inside `data`."""

    model_config = _with_example("ignore", _FLOW | {"data": _DOCUMENT})

    id: Annotated[UUID | None, Field(description="Its id; by default a new one.")] = None
    name: Annotated[Name, Field(description="Where it is taken, ` (1)` is added, ` (2)`, and so on.")]
    description: Annotated[Text, Field(description="What people read.")] = ""
    data: Annotated[
        dict[str, Any] | None, Field(description="The document: nodes and edges; without it an empty one.")
    ] = None
    endpoint_name: Annotated[EndpointName | None, Field(description="A name for URLs.")] = None
    project_id: Annotated[UUID | None, Field(description="The project that it lies in.")] = None


class FlowChanges(BaseModel):
    """What to change of a flow; what is not named stays."""

    model_config = _with_example("ignore", {"name": "Echo", "description": "Says it twice."})

    name: Annotated[Name, Field(description="Its name.")] = ""
    description: Annotated[Text, Field(description="What people read.")] = ""
    data: Annotated[dict[str, Any], Field(description="The whole document.")] = {}
    endpoint_name: Annotated[EndpointName | None, Field(description="A name for URLs; `null` takes it away.")] = None
    project_id: Annotated[
        UUID | None, Field(description="The project that it lies in; `null` takes it out of one.")
    ] = None


class NewProject(BaseModel):
    """A project to be made."""

    model_config = _with_example("ignore", {"name": "Reports", "description": "What goes out on Mondays."})

    name: Annotated[Name, Field(description="Where it is taken, ` (1)` is added, ` (2)`, and so on.")]
    description: Annotated[Text, Field(description="What it is for.")] = ""


class ProjectChanges(BaseModel):
    """What to change of a project; what is not named stays."""

    model_config = _with_example("ignore", {"name": "Weekly reports"})

    name: Annotated[Name, Field(description="Its name.")] = ""
    description: Annotated[Text, Field(description="What it is for.")] = ""


# ------------------------------------------------------------------------------------------------------ what is told
class ShownSummary(BaseModel):
    """A flow without its document, as lists have it with `header_flows=true`."""

    model_config = _with_example("forbid", _FLOW | _TIMES | _KEPT)

    id: UUID
    name: str
    description: str
    endpoint_name: str | None
    project_id: UUID | None
    user_id: UUID
    version: Annotated[int, Field(description="From 1; each change adds 1.")]
    is_read_only: bool
    created_at: datetime
    updated_at: datetime


class ShownFlow(ShownSummary):
    """A flow with its document."""

    model_config = _with_example("forbid", _FLOW | _TIMES | _KEPT | {"data": _DOCUMENT})

    data: dict[str, Any]


class ShownPythonFlow(BaseModel):
    """A flow that is written in Python and was loaded with the app: it can be run, and not changed."""

    model_config = _with_example(
        "forbid",
        {
            "id": "6b0a7c2f-58f5-5d2b-9f51-2f5c9f3d1c11",
            "name": "shop.order",
            "description": "Add up what an order costs.",
            "is_read_only": True,
            "inputs": {
                "type": "object",
                "properties": {"items": {"type": "array", "items": {"type": "string"}}},
                "required": ["items"],
                "additionalProperties": False,
            },
        },
    )

    id: UUID
    name: str
    description: str
    is_read_only: Literal[True]
    inputs: Annotated[dict[str, Any], Field(description="JSON schema of its inputs.")]


class ShownProject(BaseModel):
    """A project."""

    model_config = _with_example(
        "forbid", {"id": _PROJECT_ID, "name": "Reports", "description": "", "user_id": _USER_ID, "version": 1} | _TIMES
    )

    id: UUID
    name: str
    description: str
    user_id: UUID
    version: Annotated[int, Field(description="From 1; each change adds 1.")]
    created_at: datetime
    updated_at: datetime


class Deleted(BaseModel):
    """A flow is gone."""

    model_config = _with_example("forbid", {"message": "Flow deleted successfully"})

    message: str = "Flow deleted successfully"


def flow_as_data(flow: FlowSummary) -> dict[str, Any]:
    """Return a flow as clients are told it: as `ShownFlow`, or `ShownSummary` where it has no document."""
    told: dict[str, Any] = {
        "id": flow.id,
        "name": flow.name,
        "description": flow.description,
        "endpoint_name": flow.endpoint_name,
        "project_id": flow.project,
        "user_id": flow.owner,
        "version": flow.version,
        "is_read_only": False,
        "created_at": _time(flow.created_at),
        "updated_at": _time(flow.updated_at),
    }
    return told | {"data": flow.data} if isinstance(flow, StoredFlow) else told


def project_as_data(project: Project) -> dict[str, Any]:
    """Return a project as clients are told it: as `ShownProject`."""
    return {
        "id": project.id,
        "name": project.name,
        "description": project.description,
        "user_id": project.owner,
        "version": project.version,
        "created_at": _time(project.created_at),
        "updated_at": _time(project.updated_at),
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
