"""What every store of flow documents promises: documents with versions, in projects, each of one owner."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Protocol

import msgspec

from millstream.errors import MillstreamError


class FlowNotFoundError(MillstreamError, LookupError):
    """Raised when there is no flow with this id, or it is somebody else's: nobody can tell one from the other."""


class ProjectNotFoundError(MillstreamError, LookupError):
    """Raised when there is no project with this id, or it is somebody else's: nobody can tell one from the other."""


class VersionConflictError(MillstreamError):
    """Raised when a change was made to a version that is not the present one any more.

    Attributes:
        version: The present one.
    """

    def __init__(self, version: int) -> None:
        """Take the present version."""
        super().__init__(f"it was changed meanwhile: its version is {version} now; read it again, and change that")
        self.version = version


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of flows.

    Attributes:
        id: A UUID.
        owner: Id of the user whose it is.
        name: No two projects of an owner have the same.
        description: What it is for.
        version: From 1; each change adds 1.
        created_at: Seconds since the epoch, UTC.
        updated_at: When it was last changed.
    """

    id: str
    owner: str
    name: str
    description: str = ""
    version: int = 1
    created_at: float
    updated_at: float


class FlowSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A flow without its document, as lists have it: a document may have 32 MiB.

    Attributes:
        id: A UUID.
        owner: Id of the user whose it is.
        project: Id of the project that it lies in; it may lie in none.
        name: No two flows of an owner have the same.
        description: What it is for.
        endpoint_name: A name for use in URLs; no two flows of an owner have the same.
        version: From 1; each change adds 1.
        webhook: The nonce of its webhook's secret; `None` where it has none.
        created_at: Seconds since the epoch, UTC.
        updated_at: When it was last changed.
    """

    id: str
    owner: str
    project: str | None = None
    name: str
    description: str = ""
    endpoint_name: str | None = None
    version: int = 1
    webhook: str | None = None
    created_at: float
    updated_at: float


class StoredFlow(FlowSummary, frozen=True, kw_only=True):
    """A flow with its document.

    Attributes:
        data: The document: what JSON can hold. Numbers that are none (NaN, infinity) are kept as null.
    """

    data: dict[str, Any]


class FlowStore(Protocol):
    """Flows and projects.

    Where a method takes an owner, `None` stands for whoever may see everybody's. A flow that is somebody else's is not
    told from one that is not there. Each method may also raise `LedgerUnavailableError` or `StorageFullError`.

    Attributes:
        on_change: Called with the id of each flow that was changed or removed by way of this object, before that method
            returns; what other processes change it is not told.
    """

    on_change: Callable[[str], None]

    # ------------------------------------------------------------------------------------------------------- flows
    async def add(self, flow: StoredFlow) -> None:
        """Record a new flow, as it is given.

        Raises:
            NameTakenError: Another flow of its owner has the name or the endpoint's name, or any flow the id.
            UserNotFoundError: The owner is gone.
            ProjectNotFoundError: The owner has no such project.
            NotSerializableError: The document is not what JSON can hold.
            DefinitionError: A text has characters that no database takes.
        """

    async def get(self, flow_id: str, owner: str | None) -> StoredFlow:
        """Return a flow.

        Raises:
            FlowNotFoundError: The owner has no such flow.
        """

    async def version_of(self, flow_id: str, owner: str | None) -> int:
        """Return the present version of a flow; cheap, whatever the document's size.

        Raises:
            FlowNotFoundError: The owner has no such flow.
        """

    async def named(self, name: str, owner: str | None) -> StoredFlow | None:
        """Return the flow whose endpoint has a name, else the one that itself has it; `None` where there is none.

        With `None` for the owner it is returned only where one owner alone has such a flow.
        """

    async def names(self, flow_ids: Collection[str], owner: str | None) -> dict[str, str]:
        """Return the names of those of these flows that the owner has, by their ids."""

    async def webhooks(self, name: str) -> list[FlowSummary]:
        """Return the flows of all owners that have a webhook's secret, and this name or an endpoint of it."""

    async def flows(
        self, owner: str | None, project: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[FlowSummary]:
        """Return at most `limit` flows without their documents, in the order of their ids.

        Args:
            owner: Whose.
            project: Only those in this project.
            after: The id where the last page ended.
            limit: At most this many.
        """

    async def replace(self, flow: StoredFlow, if_version: int | None = None) -> StoredFlow:
        """Put a flow in place of the one with its id and owner, and return it as it then is: `version` one higher.

        `created_at` stays, `updated_at` is now.

        Args:
            flow: The flow.
            if_version: The version that the change was made to; `None` replaces whichever there is.

        Raises:
            FlowNotFoundError: The owner has no such flow.
            VersionConflictError: The present version is another one.
            NameTakenError: Another flow of its owner has the name or the endpoint's name.
            ProjectNotFoundError: The owner has no such project.
            NotSerializableError: The document is not what JSON can hold.
            DefinitionError: A text has characters that no database takes.
        """

    async def remove(self, flow_id: str, owner: str | None, if_version: int | None = None) -> None:
        """Remove a flow; its jobs stay.

        Raises:
            FlowNotFoundError: The owner has no such flow.
            VersionConflictError: The present version is another one.
        """

    # ---------------------------------------------------------------------------------------------------- projects
    async def add_project(self, project: Project) -> None:
        """Record a new project, as it is given.

        Raises:
            NameTakenError: Another project of its owner has the name, or any project the id.
            UserNotFoundError: The owner is gone.
            DefinitionError: A text has characters that no database takes.
        """

    async def project(self, project_id: str, owner: str | None) -> Project:
        """Return a project.

        Raises:
            ProjectNotFoundError: The owner has no such project.
        """

    async def projects(self, owner: str | None, after: str | None = None, limit: int = 100) -> list[Project]:
        """Return at most `limit` projects, in the order of their ids; `after` is where the last page ended."""

    async def replace_project(self, project: Project, if_version: int | None = None) -> Project:
        """Put a project in place of the one with its id and owner, and return it as it then is; as `replace`.

        Raises:
            ProjectNotFoundError: The owner has no such project.
            VersionConflictError: The present version is another one.
            NameTakenError: Another project of its owner has the name.
            DefinitionError: A text has characters that no database takes.
        """

    async def remove_project(self, project_id: str, owner: str | None, if_version: int | None = None) -> None:
        """Remove a project; its flows stay, and lie in none then.

        Raises:
            ProjectNotFoundError: The owner has no such project.
            VersionConflictError: The present version is another one.
        """
