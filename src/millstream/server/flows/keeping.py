"""Checks flows before they are kept, and gives them names that are free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import anyio
import anyio.to_thread
from msgspec.structs import replace

from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.fields import uuid_of
from millstream.authoring.documents.reading import read_document, subflows_in
from millstream.clock import new_id
from millstream.errors import DocumentError
from millstream.ledger.accounts import NameTakenError
from millstream.ledger.flow_store import FlowNotFoundError, FlowStore, Project, StoredFlow
from millstream.server.flows.exchange import with_free_ids
from millstream.server.flows.shapes import NewFlow

EMPTY: Final[Mapping[str, Any]] = {"nodes": [], "edges": []}
"""The document of a flow that has none yet."""

_MOST_SUBFLOWS: Final = 100
_MOST_NAMES: Final = 100


class Subflows(NamedTuple):
    """The documents that are inside of another one, at any depth.

    Attributes:
        documents: Each by the id of its flow.
        versions: The versions of those that are kept.
    """

    documents: dict[str, Mapping[str, Any]]
    versions: dict[str, int]

    def find(self, flow_id: str) -> Mapping[str, Any] | None:
        """Return one of them; `None` where there is none of this id."""
        return self.documents.get(flow_id)


def made(given: NewFlow, owner: str, now: float) -> StoredFlow:
    """Return the flow that is to be kept of what was given.

    Args:
        given: What was given; where it has no id, the flow gets a new one.
        owner: Whose the flow is to be.
        now: Seconds since the epoch, UTC.
    """
    return StoredFlow(
        id=new_id() if given.id is None else str(given.id),
        owner=owner,
        project=None if given.project_id is None else str(given.project_id),
        name=given.name,
        description=given.description,
        endpoint_name=given.endpoint_name,
        data={**EMPTY} if given.data is None else given.data,
        created_at=now,
        updated_at=now,
    )


async def subflows(
    data: Mapping[str, Any], store: FlowStore, owner: str | None, beside: Mapping[str, Mapping[str, Any]] | None = None
) -> Subflows:
    """Return the documents of a document's sub-flows, theirs, and so on, all of them fetched already.

    Args:
        data: The document, valid or not.
        store: Where the flows are kept.
        owner: Whose flows may be meant; `None` is everybody's.
        beside: Documents that are not kept yet, by the id that their flow is to have.
    """
    found = Subflows({}, {})
    wanted, tried = _ids_in(data), set[str]()
    while wanted and len(tried) < _MOST_SUBFLOWS:
        flow_id = wanted.pop()
        tried.add(flow_id)
        document = (beside or {}).get(flow_id)
        if document is None and (stored := await _stored(store, flow_id, owner)) is not None:
            document, found.versions[flow_id] = stored.data, stored.version
        if document is not None:
            found.documents[flow_id] = document
            wanted |= _ids_in(document) - tried
    return found


def _ids_in(data: Mapping[str, Any]) -> set[str]:
    return {flow_id for named in subflows_in(data) if (flow_id := uuid_of(named)) is not None}


async def _stored(store: FlowStore, flow_id: str, owner: str | None) -> StoredFlow | None:
    try:
        return await store.get(flow_id, owner)
    except FlowNotFoundError:
        return None


async def check(
    flow: StoredFlow, catalogue: Catalogue, store: FlowStore, beside: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Check that a flow's document can run.

    Args:
        flow: The flow, as it is to be kept.
        catalogue: What its nodes can be.
        store: Where its sub-flows are kept.
        beside: As for `subflows`.

    Raises:
        DocumentError: It cannot; all that is wrong with it is named.
    """
    inside = await subflows(flow.data, store, flow.owner, beside)
    # In a thread: a document may have 5,000 nodes, and nobody else should wait for them.
    await anyio.to_thread.run_sync(read_document, flow.data, catalogue, inside.find, flow.id)


async def keep_all(store: FlowStore, catalogue: Catalogue, flows: Sequence[StoredFlow]) -> list[StoredFlow]:
    """Keep flows that came from elsewhere, all of them or none, and return them as they are kept.

    One whose id is taken gets another id, and is still run by those that came with it.

    Raises:
        DocumentError: Something is wrong with one of them; everything that is, is named.
        ProjectNotFoundError: Their owner has no such project.
    """
    ready = with_free_ids(flows, await _taken(store, [flow.id for flow in flows]))
    beside = {flow.id: flow.data for flow in ready}
    problems: list[tuple[str, str]] = []
    for n, flow in enumerate(ready):
        try:
            await check(flow, catalogue, store, beside)
        except DocumentError as error:
            problems += [(f"flows[{n}].data.{where}", what) for where, what in error.problems]
    if problems:
        raise DocumentError(problems)
    kept: list[StoredFlow] = []
    try:
        for flow in ready:
            kept += [await add_flow(store, flow, is_copy=True)]
    except BaseException:
        with anyio.CancelScope(shield=True):
            for flow in kept:
                await store.remove(flow.id, flow.owner)
        raise
    return kept


async def _taken(store: FlowStore, flow_ids: Iterable[str]) -> set[str]:
    taken = set()
    for flow_id in flow_ids:
        try:
            await store.version_of(flow_id, None)
        except FlowNotFoundError:
            continue
        taken.add(flow_id)
    return taken


async def add_flow(store: FlowStore, flow: StoredFlow, *, is_copy: bool = False) -> StoredFlow:
    """Keep a new flow, and return it as it is kept: where its name is taken, ` (1)` is added, ` (2)`, and so on.

    Args:
        store: Where to keep it.
        flow: The flow; its document is checked already.
        is_copy: It came from elsewhere, so its endpoint's name and its id are free to change, too.

    Raises:
        NameTakenError: The name of its endpoint, or its id, is taken.
        Exception: What `FlowStore.add` raises.
    """
    name, endpoint = flow.name, flow.endpoint_name
    while True:
        try:
            await store.add(flow)
        except NameTakenError as error:
            if error.field == "name":
                flow = replace(flow, name=await _free(store, flow.owner, f"{name} (", ")"))
            elif not is_copy:
                raise
            elif error.field == "endpoint_name":
                flow = replace(flow, endpoint_name=await _free(store, flow.owner, f"{endpoint}-"))
            else:
                flow = replace(flow, id=new_id())
        else:
            return flow


async def _free(store: FlowStore, owner: str, before: str, behind: str = "") -> str:
    """Return a name that is free just now, with a low number in it: in few steps, however many are taken."""

    async def is_taken(number: int) -> bool:
        return await store.named(f"{before}{number}{behind}", owner) is not None

    low, high = 0, 1
    while await is_taken(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if await is_taken(middle) else (low, middle)
    return f"{before}{high}{behind}"


async def add_project(store: FlowStore, project: Project) -> Project:
    """Keep a new project, and return it as it is kept; its name is found as that of a flow is.

    Raises:
        NameTakenError: The id is taken; or the name is, with a hundred numbers.
        Exception: What `FlowStore.add_project` raises.
    """
    name = project.name
    for number in range(1, _MOST_NAMES + 1):
        try:
            await store.add_project(project)
        except NameTakenError as error:
            if error.field != "name" or number == _MOST_NAMES:
                raise
            project = replace(project, name=f"{name} ({number})")
        else:
            break
    return project
