"""`Works`: what a request can run: stored documents, compiled once for each version, and what is written in Python."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from uuid import UUID

import anyio.to_thread

from millstream.authoring.documents.catalogue import Catalogue
from millstream.authoring.documents.flow import DocumentFlow
from millstream.authoring.documents.reading import Find
from millstream.authoring.flow import Flow
from millstream.authoring.registry import Definition, Registry
from millstream.clock import Clock
from millstream.errors import UnknownNameError
from millstream.ledger.flow_store import FlowNotFoundError, FlowStore, StoredFlow
from millstream.server.flows.keeping import subflows
from millstream.server.flows.python import python_flow

_MOST: Final = 256

_FRESH_SECONDS: Final = 1.0
"""How long a version that was looked up counts: what another process changes is run here at the latest after it."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    """A compiled document, and the versions of the stored flows that are in it."""

    work: DocumentFlow
    versions: Mapping[str, int]


class Works:
    """Finds what is to be run, and keeps what it has compiled.

    Args:
        store: The stored flows.
        catalogue: What their nodes can be.
        registry: What is written in Python.
        clock: The time.
    """

    def __init__(self, store: FlowStore, catalogue: Catalogue, registry: Registry, clock: Clock) -> None:
        """Have nothing compiled yet."""
        self._store, self._catalogue, self._registry, self._clock = store, catalogue, registry, clock
        self._versions: dict[str, dict[str | None, tuple[float, int]]] = {}
        self._changes = 0
        store.on_change = self._forget
        self._compiled: OrderedDict[str, _Compiled] = OrderedDict()
        self._given: OrderedDict[tuple[str, str], DocumentFlow] = OrderedDict()

    async def by_id(self, flow_id: str, owner: str | None, data: Mapping[str, Any] | None = None) -> Flow:
        """Return a flow.

        Args:
            flow_id: Its id: that of a stored flow, or of one in Python.
            owner: Whose; `None` is anybody's.
            data: A document to run in place of the stored one.

        Raises:
            FlowNotFoundError: The owner has no such flow.
            DocumentError: The document cannot run.
            LedgerUnavailableError: The ledger does not answer.
        """
        written = python_flow(self._registry, flow_id)
        if written is not None:
            return written
        try:
            if data is None:
                return await self._stored(flow_id, owner)
            await self._version(flow_id, owner)
        except FlowNotFoundError:
            raise FlowNotFoundError(f"Flow with id {flow_id} not found") from None
        return await self._as_given(flow_id, owner, data)

    async def by_name(self, name: str, owner: str | None, user: str) -> Definition:
        """Return what has a name: a flow by its id, its endpoint's name or its name, or what is written in Python.

        Args:
            name: The name.
            owner: Whose; `None` is anybody's.
            user: Who asks: their own flow comes first, then what is written in Python, then somebody else's.

        Raises:
            FlowNotFoundError: There is nothing of this name.
            DocumentError: The document cannot run.
            LedgerUnavailableError: The ledger does not answer.
        """
        if is_id(name):
            return await self.by_id(name.lower(), owner)
        stored = await self._store.named(name, user)
        if stored is None and owner is None and name not in self._registry.names():
            stored = await self._store.named(name, None)
        if stored is not None:
            return await self._stored(stored.id, owner, stored)
        try:
            return self._registry.get(name)
        except UnknownNameError:
            raise FlowNotFoundError(f"Flow {name!r} not found") from None

    async def _stored(self, flow_id: str, owner: str | None, stored: StoredFlow | None = None) -> DocumentFlow:
        known = self._compiled.get(flow_id)
        if known is not None and await self._is_current(known, flow_id, owner):
            return known.work
        stored = stored or await self._store.get(flow_id, owner)
        inside = await subflows(stored.data, self._store, stored.owner)
        work = await self._compile(flow_id, stored.data, inside.find)
        self._compiled[flow_id] = _Compiled(work, {**inside.versions, flow_id: stored.version})
        if len(self._compiled) > _MOST:
            self._compiled.popitem(last=False)
        return work

    async def _is_current(self, known: _Compiled, flow_id: str, owner: str | None) -> bool:
        """Whether nothing of what was compiled was changed since.

        Raises:
            FlowNotFoundError: The owner has no such flow.
        """
        if await self._version(flow_id, owner) != known.versions[flow_id]:
            return False
        try:
            for inner, version in known.versions.items():
                if inner != flow_id and await self._version(inner, None) != version:
                    return False
        except FlowNotFoundError:
            return False
        return True

    async def _version(self, flow_id: str, owner: str | None) -> int:
        """Return the present version of a flow, as it was at most a second ago where another process has changed it.

        Raises:
            FlowNotFoundError: The owner has no such flow.
        """
        now = self._clock.monotonic()
        looked_at, version = self._versions.get(flow_id, {}).get(owner, (now - _FRESH_SECONDS, 0))
        if now - looked_at < _FRESH_SECONDS:
            return version
        changes = self._changes
        version = await self._store.version_of(flow_id, owner)
        if changes == self._changes:  # else it may have been read before the change
            if len(self._versions) > _MOST:
                self._versions.clear()
            self._versions.setdefault(flow_id, {})[owner] = now, version
        return version

    def _forget(self, flow_id: str) -> None:
        self._changes += 1
        self._versions.pop(flow_id, None)

    async def _as_given(self, flow_id: str, owner: str | None, data: Mapping[str, Any]) -> DocumentFlow:
        key = (flow_id, hashlib.sha256(json.dumps(data).encode()).hexdigest())  # orjson takes no large integers
        work = self._given.get(key)
        if work is None:
            inside = await subflows(data, self._store, owner)
            work = await self._compile(flow_id, data, inside.find)
            if not inside.versions:  # those may change, and nobody asks here whether they did
                self._given[key] = work
            if len(self._given) > _MOST:
                self._given.popitem(last=False)
        return work

    async def _compile(self, flow_id: str, data: Mapping[str, Any], find: Find) -> DocumentFlow:
        # In a thread: a document may have 5,000 nodes, and nobody else should wait for them.
        return await anyio.to_thread.run_sync(partial(DocumentFlow, flow_id, data, self._catalogue, find=find))


def is_id(text: str) -> bool:
    """Return whether a text is a UUID as it is written in URLs.

    >>> is_id("0190d5ae-7c3f-7b1e-9d3f-1b2a3c4d5e6f"), is_id("shop.order")
    (True, False)
    """
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
