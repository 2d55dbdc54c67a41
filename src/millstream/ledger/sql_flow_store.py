"""Flows and projects in a ledger's database."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import asdict, replace

from millstream.clock import Clock
from millstream.errors import NotSerializableError
from millstream.ledger import schema
from millstream.ledger.accounts import NameTakenError
from millstream.ledger.asking import Asking
from millstream.ledger.database import Connection, transaction
from millstream.ledger.flow_store import (
    FlowNotFoundError,
    FlowSummary,
    Project,
    ProjectNotFoundError,
    StoredFlow,
    VersionConflictError,
)
from millstream.ledger.owned import check_texts, lock_user, names_taken
from millstream.ledger.queries import Queries
from millstream.ledger.rows import is_text
from millstream.ledger.statements import Statement, given

F, P = schema.flow.c, schema.project.c

_PROJECT = tuple(P[name] for name in Project.__struct_fields__)
_SUMMARY = tuple(F[name] for name in FlowSummary.__struct_fields__)
_FLOW = (*_SUMMARY, F.document)
_IS_MEANT = F.id == given("id")


class SqlFlowStore:
    """Keeps flows in a database; see `FlowStore` for what its methods promise.

    Args:
        asking: Asks the ledger's threads.
        dialect: The database's.
        clock: Gives the times of changes.

    Attributes:
        on_change: See `FlowStore`.
    """

    def __init__(self, asking: Asking, dialect: sa.Dialect, clock: Clock) -> None:
        """Compile nothing yet."""
        self._asking = asking
        self._clock = clock
        self._queries = Queries(dialect)
        self.on_change: Callable[[str], None] = lambda _: None

    @cached_property
    def _flow(self) -> Statement:
        return self._queries.statement(sa.select(*_FLOW).where(_IS_MEANT, F.owner == given("owner")))

    @cached_property
    def _any_flow(self) -> Statement:
        return self._queries.statement(sa.select(*_FLOW).where(_IS_MEANT))

    @cached_property
    def _version(self) -> Statement:
        return self._queries.statement(sa.select(F.version).where(_IS_MEANT, F.owner == given("owner")))

    @cached_property
    def _any_version(self) -> Statement:
        return self._queries.statement(sa.select(F.version).where(_IS_MEANT))

    # ------------------------------------------------------------------------------------------------------- flows
    async def add(self, flow: StoredFlow) -> None:
        """Record a new flow; see `FlowStore.add`."""
        row = _flow_row(flow)

        def add(connection: Connection) -> None:
            with transaction(connection), names_taken():
                lock_user(connection, flow.owner)
                _check_project(connection, flow)
                if connection.raw.execute(sa.select(F.id).where(F.id == flow.id)).first():
                    raise NameTakenError("id", flow.id)
                _check_names(connection, flow)
                connection.raw.execute(sa.insert(schema.flow).values(row))

        await self._asking.write(add)

    async def get(self, flow_id: str, owner: str | None) -> StoredFlow:
        """Return a flow; see `FlowStore.get`."""
        asked = self._any_flow if owner is None else self._flow
        values = asked.fill(id=flow_id, owner=owner)

        def get(connection: Connection) -> StoredFlow | None:
            rows = connection.run(asked.sql, values)
            return _flow(rows[0]) if rows else None

        found = await self._asking.read(get) if is_text(flow_id) else None
        if found is None:
            raise no_flow(flow_id)
        return found

    async def version_of(self, flow_id: str, owner: str | None) -> int:
        """Return the version of a flow; see `FlowStore.version_of`."""
        asked = self._any_version if owner is None else self._version
        values = asked.fill(id=flow_id, owner=owner)
        rows = await self._asking.read(lambda connection: connection.run(asked.sql, values)) if is_text(flow_id) else ()
        if not rows:
            raise no_flow(flow_id)
        return int(rows[0][0])

    async def named(self, name: str, owner: str | None) -> StoredFlow | None:
        """Return the flow of a name; see `FlowStore.named`."""

        def find(connection: Connection) -> StoredFlow | None:
            for column in (F.endpoint_name, F.name):
                ids = sa.select(F.id).where(column == name, *_of(F, owner)).limit(2)
                found = connection.raw.execute(ids).scalars().all()
                if found:
                    rows = connection.run(self._any_flow.sql, self._any_flow.fill(id=found[0]))
                    return _flow(rows[0]) if len(found) == 1 and rows else None
            return None

        return await self._asking.read(find) if is_text(name) else None

    async def names(self, flow_ids: Collection[str], owner: str | None) -> dict[str, str]:
        """Return the names of flows; see `FlowStore.names`."""
        known = [flow_id for flow_id in set(flow_ids) if is_text(flow_id)]
        which = sa.select(F.id, F.name).where(F.id.in_(known), *_of(F, owner))

        def find(connection: Connection) -> dict[str, str]:
            return {row.id: row.name for row in connection.raw.execute(which)}

        return await self._asking.read(find) if known else {}

    async def webhooks(self, name: str) -> list[FlowSummary]:
        """Return flows with a webhook's secret; see `FlowStore.webhooks`."""
        which = sa.select(*_SUMMARY).where(sa.or_(F.endpoint_name == name, F.name == name), F.webhook.is_not(None))
        ordered = which.order_by(F.id)
        if not is_text(name):
            return []
        return await self._asking.read(lambda connection: [_summary(row) for row in connection.raw.execute(ordered)])

    async def flows(
        self, owner: str | None, project: str | None = None, after: str | None = None, limit: int = 100
    ) -> list[FlowSummary]:
        """Return a page of flows; see `FlowStore.flows`."""
        check_texts(project=project, after=after)
        which = _page(sa.select(*_SUMMARY), F, owner, after, limit)
        if project is not None:
            which = which.where(F.project == project)
        return await self._asking.read(lambda connection: [_summary(row) for row in connection.raw.execute(which)])

    async def replace(self, flow: StoredFlow, if_version: int | None = None) -> StoredFlow:
        """Put a flow in place of another one; see `FlowStore.replace`."""
        row, now = _flow_row(flow), self._clock.now()

        def change(connection: Connection) -> StoredFlow:
            with transaction(connection), names_taken():
                found = _locked(connection, schema.flow, flow.id, flow.owner)
                if found is None:
                    raise no_flow(flow.id)
                changed = replace(flow, version=_next(found, if_version), created_at=found.created_at, updated_at=now)
                _check_project(connection, flow)
                _check_names(connection, flow)
                values = {**row, "version": changed.version, "created_at": changed.created_at, "updated_at": now}
                connection.raw.execute(sa.update(schema.flow).where(F.id == flow.id).values(values))
                return changed

        try:
            return await self._asking.write(change)
        finally:
            self.on_change(flow.id)

    async def remove(self, flow_id: str, owner: str | None, if_version: int | None = None) -> None:
        """Remove a flow; see `FlowStore.remove`."""

        def remove(connection: Connection) -> None:
            with transaction(connection):
                found = _locked(connection, schema.flow, flow_id, owner)
                if found is None:
                    raise no_flow(flow_id)
                _next(found, if_version)
                connection.raw.execute(sa.delete(schema.flow).where(F.id == flow_id))

        try:
            await self._asking.write(remove)
        finally:
            self.on_change(flow_id)

    # ---------------------------------------------------------------------------------------------------- projects
    async def add_project(self, project: Project) -> None:
        """Record a new project; see `FlowStore.add_project`."""
        _check_project_texts(project)

        def add(connection: Connection) -> None:
            with transaction(connection), names_taken():
                lock_user(connection, project.owner)
                if connection.raw.execute(sa.select(P.id).where(P.id == project.id)).first():
                    raise NameTakenError("id", project.id)
                _check_name(connection, P.name, project.name, project)
                connection.raw.execute(sa.insert(schema.project).values(asdict(project)))

        await self._asking.write(add)

    async def project(self, project_id: str, owner: str | None) -> Project:
        """Return a project; see `FlowStore.project`."""
        which = sa.select(*_PROJECT).where(P.id == project_id, *_of(P, owner))
        found = await self._projects(which) if is_text(project_id) else []
        if not found:
            raise no_project(project_id)
        return found[0]

    async def projects(self, owner: str | None, after: str | None = None, limit: int = 100) -> list[Project]:
        """Return a page of projects; see `FlowStore.projects`."""
        check_texts(after=after)
        return await self._projects(_page(sa.select(*_PROJECT), P, owner, after, limit))

    async def _projects(self, which: sa.Select[Any]) -> list[Project]:
        return await self._asking.read(lambda connection: [_project(row) for row in connection.raw.execute(which)])

    async def replace_project(self, project: Project, if_version: int | None = None) -> Project:
        """Put a project in place of another one; see `FlowStore.replace_project`."""
        _check_project_texts(project)
        now = self._clock.now()

        def change(connection: Connection) -> Project:
            with transaction(connection), names_taken():
                found = _locked(connection, schema.project, project.id, project.owner)
                if found is None:
                    raise no_project(project.id)
                new = replace(project, version=_next(found, if_version), created_at=found.created_at, updated_at=now)
                _check_name(connection, P.name, project.name, project)
                connection.raw.execute(sa.update(schema.project).where(P.id == project.id).values(asdict(new)))
                return new

        return await self._asking.write(change)

    async def remove_project(self, project_id: str, owner: str | None, if_version: int | None = None) -> None:
        """Remove a project; see `FlowStore.remove_project`."""
        now = self._clock.now()

        def remove(connection: Connection) -> None:
            with transaction(connection):
                found = _locked(connection, schema.project, project_id, owner)
                if found is None:
                    raise no_project(project_id)
                _next(found, if_version)
                connection.raw.execute(sa.delete(schema.project).where(P.id == project_id))
                left = sa.update(schema.flow).where(F.project == project_id)
                connection.raw.execute(left.values(project=None, version=F.version + 1, updated_at=now))

        await self._asking.write(remove)


def no_flow(flow_id: str) -> FlowNotFoundError:
    """Return the refusal of a flow that is not there, or is somebody else's."""
    return FlowNotFoundError(f"there is no flow {flow_id!r}")


def no_project(project_id: str) -> ProjectNotFoundError:
    """Return the refusal of a project that is not there, or is somebody else's."""
    return ProjectNotFoundError(f"there is no project {project_id!r}")


# --------------------------------------------------------------------------------------------- inside of transactions
def _locked(connection: Connection, table: sa.Table, key: str, owner: str | None) -> Any | None:
    """Return version and creation of a row, and keep others from changing it until the transaction ends."""
    if not is_text(key):
        return None
    which = sa.select(table.c.version, table.c.created_at).where(table.c.id == key, *_of(table.c, owner))
    return connection.raw.execute(which.with_for_update()).first()


def _next(found: Any, if_version: int | None) -> int:
    """Return the version that follows.

    Raises:
        VersionConflictError: The present one is not the one that was meant.
    """
    if if_version not in (None, found.version):
        raise VersionConflictError(found.version)
    return int(found.version) + 1


def _check_names(connection: Connection, flow: StoredFlow) -> None:
    _check_name(connection, F.name, flow.name, flow)
    if flow.endpoint_name is not None:
        _check_name(connection, F.endpoint_name, flow.endpoint_name, flow)


def _check_name(connection: Connection, column: sa.Column[Any], name: str, whose: StoredFlow | Project) -> None:
    """See that nothing else of an owner has a name.

    Raises:
        NameTakenError: Something has.
    """
    columns = column.table.c
    which = sa.select(columns.id).where(column == name, columns.owner == whose.owner, columns.id != whose.id)
    if connection.raw.execute(which).first():
        raise NameTakenError(column.name, name)


def _check_project(connection: Connection, flow: StoredFlow) -> None:
    """See that the owner of a flow has its project, and keep that from being removed until the transaction ends.

    Raises:
        ProjectNotFoundError: The owner has none of this id.
    """
    if flow.project is None:
        return
    which = sa.select(P.id).where(P.id == flow.project, P.owner == flow.owner)
    if connection.raw.execute(which.with_for_update(read=True, key_share=True)).first() is None:
        raise no_project(flow.project)


def _of(columns: Any, owner: str | None) -> list[sa.ColumnElement[bool]]:
    return [] if owner is None else [columns.owner == owner]


def _page(
    which: sa.Select[Any],
    columns: Any,
    owner: str | None,
    after: str | None,
    limit: int,
) -> sa.Select[Any]:
    rest = [] if after is None else [columns.id > after]
    return which.where(*_of(columns, owner), *rest).order_by(columns.id).limit(limit)


# --------------------------------------------------------------------------------------------------------- as rows
def _flow_row(flow: StoredFlow) -> dict[str, Any]:
    """Return the row of a flow.

    Raises:
        NotSerializableError: The document is not what JSON can hold.
        DefinitionError: A text has characters that no database takes.
    """
    row = {column.name: getattr(flow, column.name) for column in _SUMMARY}
    check_texts(**{name: value for name, value in row.items() if isinstance(value, str)})
    try:
        document = msgspec.json.encode(flow.data)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotSerializableError(f"the document of flow {flow.id} is not what JSON can hold: {error}") from error
    return {**row, "document": document}


def _check_project_texts(project: Project) -> None:
    check_texts(id=project.id, owner=project.owner, name=project.name, description=project.description)


def _flow(row: Sequence[Any]) -> StoredFlow:
    *summary, document = row
    return StoredFlow(**_fields(_SUMMARY, summary), data=msgspec.json.decode(document))


def _summary(row: Sequence[Any]) -> FlowSummary:
    return FlowSummary(**_fields(_SUMMARY, row))


def _project(row: Sequence[Any]) -> Project:
    return Project(**_fields(_PROJECT, row))


def _fields(columns: Sequence[sa.Column[Any]], row: Sequence[Any]) -> dict[str, Any]:
    return {column.name: value for column, value in zip(columns, row, strict=True)}
