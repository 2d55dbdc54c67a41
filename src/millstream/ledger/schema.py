"""The tables of a ledger in a database, and the number of their present form.

Every table's name begins with `millstream_`, since on PostgreSQL the ledger may share a database with the user's own
tables. The indexes serve what has to stay quick with a million ended jobs: partial ones hold only what is open.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

REVISION: Final = "0006"
"""The revision of the tables below; a test holds it equal to the newest migration's."""

metadata = sa.MetaData()

_text = sa.Text
_seconds = sa.Double
_bytes = sa.LargeBinary


def _column(name: str, kind: Any, **options: Any) -> sa.Column[Any]:
    return sa.Column(name, kind, **{"nullable": False, **options})


def _table(name: str, *parts: sa.Column[Any], clustered: bool = False) -> sa.Table:
    return sa.Table(f"millstream_{name}", metadata, *parts, sqlite_with_rowid=not clustered)


# As Alembic makes it; only the name is ours.
revision = _table("revision", _column("version_num", sa.String(32), primary_key=True))

graph = _table("graph", _column("digest", _text, primary_key=True), _column("body", _bytes))

job = _table(
    "job",
    _column("id", _text, primary_key=True),
    _column("flow", _text),
    _column("version", _text),
    _column("graph", _text),
    _column("state", _text),
    _column("reason", _text, nullable=True),
    _column("cancel_requested", sa.Boolean),
    _column("priority", sa.SmallInteger),
    _column("durability", _text),
    _column("next_seq", sa.BigInteger),
    _column("created_at", _seconds),
    _column("started_at", _seconds, nullable=True),
    _column("ended_at", _seconds, nullable=True),
    _column("starts_at", _seconds, nullable=True),
    _column("expires_at", _seconds, nullable=True),
    _column("idempotency_key", _text, nullable=True),
    _column("inputs", _bytes),
    _column("bindings", _bytes),
    _column("result", _bytes, nullable=True),
    _column("error", _bytes, nullable=True),
    _column("parent", _text, nullable=True),
    _column("queue", _text, nullable=True),
    _column("owner", _text, nullable=True),
    _column("is_interactive", sa.Boolean, server_default=sa.false()),
)
sa.Index("millstream_job_by_state", job.c.state, job.c.id)
sa.Index("millstream_job_by_flow", job.c.flow, job.c.state, job.c.id)


def _partial(name: str, *columns: sa.ColumnElement[Any], where: sa.ColumnElement[bool], unique: bool = False) -> None:
    sa.Index(f"millstream_{name}", *columns, unique=unique, sqlite_where=where, postgresql_where=where)


_partial("job_by_reason", job.c.reason, job.c.id, where=job.c.reason.is_not(None))
# A change of state moves an entry of it; jobs that nobody owns have none.
_partial("job_by_owner", job.c.owner, job.c.state, job.c.id, where=job.c.owner.is_not(None))
_partial("job_by_key", job.c.idempotency_key, where=job.c.idempotency_key.is_not(None), unique=True)
_partial("job_by_end", job.c.ended_at, where=job.c.ended_at.is_not(None))
_partial(
    "job_by_expiry",
    job.c.expires_at,
    where=job.c.expires_at.is_not(None) & job.c.started_at.is_(None) & job.c.ended_at.is_(None),
)

segment = _table(
    "segment",
    _column("job", _text, primary_key=True),
    _column("id", sa.Integer, primary_key=True, autoincrement=False),
    _column("state", _text),
    _column("attempt", sa.Integer),
    _column("holder", _text, nullable=True),
    _column("crashes", sa.Integer),
    _column("priority", sa.SmallInteger),
    _column("flow", _text),
    _column("ready_at", _seconds, nullable=True),
    _column("queue", _text, nullable=True),
    _column("order_seq", sa.BigInteger, nullable=True),
    clustered=True,
)
_queued = segment.c.state == sa.text("'queued'")
_partial("segment_queued", segment.c.priority.desc(), segment.c.job, segment.c.id, where=_queued)
_partial(
    "segment_side",  # else whoever claims would look through all main segments that are queued
    segment.c.priority.desc(),
    segment.c.job,
    segment.c.id,
    where=_queued & (segment.c.id > sa.text("1")),
)
_partial(
    "segment_by_queue",
    segment.c.queue,
    segment.c.flow,
    segment.c.priority.desc(),
    segment.c.job,
    segment.c.id,
    where=_queued,
)
_partial(
    "segment_suspect", segment.c.priority.desc(), segment.c.job, where=_queued & (segment.c.crashes >= sa.text("2"))
)
_partial(
    "segment_waiting",
    segment.c.ready_at,
    where=(segment.c.state == sa.text("'waiting'")) & segment.c.ready_at.is_not(None),
)
_partial("segment_held", segment.c.holder, where=segment.c.holder.is_not(None))

claim = _table(
    "claim",
    _column("job", _text, primary_key=True),
    _column("segment", sa.Integer, primary_key=True, autoincrement=False),
    _column("attempt", sa.Integer, primary_key=True, autoincrement=False),
    _column("holder", _text),
    _column("at", _seconds),
    clustered=True,
)

# Not clustered by its key: with 256 jobs at once 13 k events a second were committed instead of 8 k, since those of one
# commit lie together then.
event = _table(
    "event",
    _column("job", _text, primary_key=True),
    _column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    _column("type", _text),
    _column("at", _seconds),
    _column("node", _text, nullable=True),
    _column("data", _bytes, nullable=True),
)

process = _table(
    "process",
    _column("id", _text, primary_key=True),
    _column("host", _text),
    _column("boot", _text),
    _column("pid", sa.Integer),
    _column("place", _text, nullable=True),
    _column("started_at", _seconds),
    _column("lease_end", _seconds),
    _column("dead", sa.Boolean),
    _column("executes", sa.Boolean, server_default=sa.true()),
    _column("job_queue", _text, nullable=True),
    clustered=True,
)

# Who looks at interactive jobs: one row for each process that has, or had, readers of a job.
activity = _table(
    "activity",
    _column("job", _text, primary_key=True),
    _column("process", _text, primary_key=True),
    _column("is_open", sa.Boolean),
    _column("is_polled", sa.Boolean),
    _column("seen_at", _seconds),
    clustered=True,
)

# What one process at a time does for all of them, and who does.
turn = _table(
    "turn",
    _column("name", _text, primary_key=True),
    _column("holder", _text),
    _column("lease_end", _seconds),
    clustered=True,
)

# One row, made with the tables.
identity = _table("identity", _column("id", _text, primary_key=True), _column("key", _bytes), clustered=True)

blob = _table(
    "blob",
    _column("digest", _text, primary_key=True),
    _column("size", sa.BigInteger),
    _column("data", _bytes, nullable=True),
    _column("marked_at", _seconds, nullable=True),
)
_partial("blob_marked", blob.c.marked_at, where=blob.c.marked_at.is_not(None))

blob_use = _table(
    "blob_use",
    _column("job", _text, primary_key=True),
    _column("digest", _text, primary_key=True),
    clustered=True,
)
sa.Index("millstream_blob_use_by_digest", blob_use.c.digest)

alias = _table(
    "alias",
    _column("name", _text, primary_key=True),
    _column("job", _text),
    _column("node", _text),
    clustered=True,
)
sa.Index("millstream_alias_by_job", alias.c.job)

# ------------------------------------------------------------------------------------------------------- the server's
user = _table(
    "user",
    _column("id", _text, primary_key=True),
    _column("name", _text),
    _column("password", _text, nullable=True),
    _column("is_superuser", sa.Boolean),
    _column("is_active", sa.Boolean),
    _column("created_at", _seconds),
    _column("updated_at", _seconds),
    clustered=True,
)
sa.Index("millstream_user_by_name", user.c.name, unique=True)
_partial("user_superuser", user.c.id, where=user.c.is_superuser)

session = _table(
    "session",
    _column("digest", _text, primary_key=True),
    _column("owner", _text),
    _column("kind", _text),
    _column("family", _text),
    _column("created_at", _seconds),
    _column("expires_at", _seconds),
    clustered=True,
)
sa.Index("millstream_session_by_owner", session.c.owner)
sa.Index("millstream_session_by_family", session.c.family)
sa.Index("millstream_session_by_expiry", session.c.expires_at)

api_key = _table(
    "api_key",
    _column("id", _text, primary_key=True),
    _column("owner", _text),
    _column("name", _text),
    _column("digest", _text),
    _column("scopes", _text),
    _column("created_at", _seconds),
    _column("expires_at", _seconds, nullable=True),
    _column("last_used_at", _seconds, nullable=True),
    clustered=True,
)
sa.Index("millstream_api_key_by_owner", api_key.c.owner, api_key.c.id)

project = _table(
    "project",
    _column("id", _text, primary_key=True),
    _column("owner", _text),
    _column("name", _text),
    _column("description", _text),
    _column("version", sa.Integer),
    _column("created_at", _seconds),
    _column("updated_at", _seconds),
    clustered=True,
)
sa.Index("millstream_project_by_name", project.c.name, project.c.owner, unique=True)
sa.Index("millstream_project_by_owner", project.c.owner, project.c.id)

# The document comes last: what is read of a row before it needs none of the pages that it fills.
flow = _table(
    "flow",
    _column("id", _text, primary_key=True),
    _column("owner", _text),
    _column("project", _text, nullable=True),
    _column("name", _text),
    _column("description", _text),
    _column("endpoint_name", _text, nullable=True),
    _column("version", sa.Integer),
    _column("webhook", _text, nullable=True),
    _column("created_at", _seconds),
    _column("updated_at", _seconds),
    _column("document", _bytes),
)
# By name first: whoever may run everybody's flows looks them up without an owner.
sa.Index("millstream_flow_by_name", flow.c.name, flow.c.owner, unique=True)
sa.Index("millstream_flow_by_endpoint", flow.c.endpoint_name, flow.c.owner, unique=True)
sa.Index("millstream_flow_by_owner", flow.c.owner, flow.c.id)
_partial("flow_by_project", flow.c.project, flow.c.id, where=flow.c.project.is_not(None))

bucket = _table(
    "bucket",
    _column("name", _text, primary_key=True),
    _column("full_at", _seconds),
    clustered=True,
)
sa.Index("millstream_bucket_by_time", bucket.c.full_at)
