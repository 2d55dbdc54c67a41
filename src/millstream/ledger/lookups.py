"""What is read of single jobs: their records, graphs, events, and how their nodes ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from millstream.errors import JobNotFoundError
from millstream.ledger.base import JobGraph
from millstream.ledger.database import Connection
from millstream.ledger.facts import ENDS, no_event, node_result
from millstream.ledger.queries import Queries
from millstream.ledger.rows import (
    Load,
    is_text,
    job_record,
    read_aliases,
    read_bindings,
    read_graph,
    shown_event,
    whole_event,
)
from millstream.ledger.statements import Statement
from millstream.model.event import Event
from millstream.model.job import JobRecord, NodeResult
from millstream.model.value import decode, decode_shown

_ALL = 1 << 62


class Lookups:
    """Reads jobs by their ids; see `Ledger` for what its methods promise.

    Args:
        queries: What is asked.
        load: Returns what loads the large values of a connection.
    """

    def __init__(self, queries: Queries, load: Callable[[Connection], Load]) -> None:
        """Take the parts."""
        self._queries = queries
        self._load = load

    def job(self, connection: Connection, job_id: str) -> JobRecord:
        """Return a job; see `Ledger.get`."""
        for row in self._rows(connection, job_id, self._queries.job):
            return job_record(row, self._load(connection))
        raise _no_job(job_id)

    def graph(self, connection: Connection, job_id: str) -> JobGraph:
        """Return what a job executes; see `Ledger.graph`."""
        for body, bindings, aliases in self._rows(connection, job_id, self._queries.graph):
            values = read_bindings(bindings, self._load(connection))
            return JobGraph(read_graph(bytes(body)), values, read_aliases(aliases))
        raise _no_job(job_id)

    def node_results(self, connection: Connection, job_id: str) -> list[NodeResult]:
        """Return how nodes ended, with their values as they are shown; see `Ledger.node_results`."""
        return [
            node_result(ENDS[kind], node or "", None if data is None else decode_shown(data))
            for kind, node, data in self._rows(connection, job_id, self._queries.ends)
        ]

    def node_result(self, connection: Connection, job_id: str, path: str) -> NodeResult | None:
        """Return how one node ended; see `Ledger.node_result`."""
        if not is_text(path):
            path = ""  # no node has this one either, and the database takes it
        for kind, data in self._rows(connection, job_id, self._queries.end, node=path):
            told = None if data is None else decode(data, self._load(connection))
            return node_result(ENDS[kind], path, told)
        return None

    def events(self, connection: Connection, job_id: str, after: int, limit: int) -> list[Event]:
        """Return durable events, with their values as they are shown; see `Ledger.events`."""
        return [
            shown_event(row) for row in self._rows(connection, job_id, self._queries.events, after=after, most=limit)
        ]

    def history(self, connection: Connection, job_id: str, after: int) -> list[Event]:
        """Return all durable events; see `Ledger.history`."""
        rows, load = (
            self._rows(connection, job_id, self._queries.events, after=after, most=_ALL),
            self._load(connection),
        )
        return [whole_event(row, load) for row in rows]

    def event(self, connection: Connection, job_id: str, seq: int) -> Event:
        """Return one durable event; see `Ledger.event`."""
        for row in self._rows(connection, job_id, self._queries.event, seq=seq):
            return whole_event(row, self._load(connection))
        raise no_event(job_id, seq)

    def alias(self, connection: Connection, name: str) -> tuple[str, str] | None:
        """Return what an alias stands for; see `Ledger.alias`."""
        for _, job_id, node in self._queries.among(connection, "aliases", [name] if is_text(name) else []):
            return job_id, node
        return None

    def _rows(self, connection: Connection, job_id: str, query: Statement, **values: Any) -> list[Any]:
        """Return rows that belong to a job.

        Raises:
            JobNotFoundError: There is no such job.
        """
        check_id(job_id)
        rows = connection.run(query.sql, query.fill(id=job_id, **values))
        if not rows and not self._queries.among(connection, "heads", [job_id]):
            raise _no_job(job_id)
        return rows


def check_id(job_id: str) -> None:
    """See that a job's id is something that a database can be asked about.

    Raises:
        JobNotFoundError: It is not, so there is no such job.
    """
    if not is_text(job_id):
        raise _no_job(job_id)


def _no_job(job_id: str) -> JobNotFoundError:
    return JobNotFoundError(f"there is no job {job_id!r}")
