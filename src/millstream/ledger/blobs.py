"""Where values live that are too large for their rows: files beside SQLite, a table on PostgreSQL.

A blob is kept under the digest of its content, so that one put twice is kept once. Who refers to one says so in the
same transaction, as a row of the table `blob_use`, which goes when its job goes. A blob that nobody uses is first
marked, and swept when it has been marked for a day; to put it again takes the mark away.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

import sqlalchemy as sa

from millstream.errors import MillstreamError

# The tables (in `schema.py`):
#   blob      digest CHAR(64) primary key, size BIGINT, data BYTEA or null (null on SQLite), marked_at FLOAT or null
#   blob_use  job_id, digest: primary key; job_id references job on delete cascade; an index on digest


class BlobMissingError(MillstreamError):
    """Raised when the content of a large value is gone: its file or its row was removed."""


class Blobs(Protocol):
    """Where large values live. All its methods block: they are for the ledger's own threads."""

    def prepare(self, values: Mapping[str, bytes]) -> None:
        """Do before the transaction what need not be in it: slow writing. `put` alone is enough for correctness."""

    def put(self, connection: sa.Connection, job_id: str, values: Mapping[str, bytes]) -> None:
        """Keep values under their digests and note that a job uses them; those that are there already stay.

        It belongs into the write transaction that records what refers to them, after the job row's lock.
        """

    def get(self, connection: sa.Connection, digests: Collection[str]) -> dict[str, bytes]:
        """Return values by their digests.

        Raises:
            BlobMissingError: One of them is gone.
        """

    def mark(self, connection: sa.Connection, now: float) -> int:
        """Mark what no job uses, and return how many are new among the marked; in a write transaction."""

    def sweep(self, connection: sa.Connection, marked_before: float) -> int:
        """Remove what was marked before this time and is still unused, and return how many; in a write transaction."""

    def missing(self, connection: sa.Connection) -> list[str]:
        """Return the digests that jobs use and whose content is gone, for `ledger check`."""
