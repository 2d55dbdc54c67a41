"""Where values live that are too large for their rows: files beside SQLite, a table on PostgreSQL.

A blob is kept under the digest of its content, so that one put twice is kept once. Who refers to one says so in the
same transaction, as a row of the table `blob_use`, which goes when its job goes. A blob that nobody uses is first
marked, and swept when it has been marked for a day; to put it again takes the mark away.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from millstream.errors import MillstreamError
from millstream.ledger.base import LedgerUnavailableError, StorageFullError
from millstream.ledger.schema import blob, blob_use

AT_ONCE: Final = 1000
"""Blobs that one call takes on at most, so that no transaction is long."""

KEPT_SECONDS: Final = 86_400.0
"""How long what nobody uses is kept after it was marked."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_NOT_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR)


class BlobMissingError(MillstreamError):
    """Raised when the content of a large value cannot be had: its file or its row was removed, or is closed to us."""


class BlobRefusedError(MillstreamError):
    """Raised when a large value cannot be written, for a reason that does not pass by itself."""


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

    def unused(self, connection: sa.Connection) -> list[str]:
        """Return digests that no job uses and that are not marked, at most `AT_ONCE`."""

    def mark(self, connection: sa.Connection, digests: Collection[str], now: float) -> int:
        """Mark those of these that no job uses, and return how many that were; in a write transaction.

        What somebody else puts at that moment is left out.
        """

    def sweep(self, connection: sa.Connection, marked_before: float) -> int:
        """Remove what was marked before this time, at most `AT_ONCE`, and return how many; in a write transaction.

        What a job uses again meanwhile stays.
        """

    def strays(self, connection: sa.Connection, written_before: float) -> list[str]:
        """Return what writers left behind that died before they committed, by names of its own."""

    def remove_strays(self, connection: sa.Connection, names: Collection[str], written_before: float) -> int:
        """Remove those of these that are strays still, and return how many; in a write transaction."""

    def missing(self, connection: sa.Connection) -> list[str]:
        """Return the digests that jobs use and whose content is gone, for `ledger check`."""


class TableBlobs:
    """Values in the rows of a table, for PostgreSQL."""

    def prepare(self, values: Mapping[str, bytes]) -> None:
        """Do nothing: what is in the database is written in its transaction."""

    def put(self, connection: sa.Connection, job_id: str, values: Mapping[str, bytes]) -> None:
        """Keep values in the table; see `Blobs.put`."""
        _put_rows(connection, postgresql.insert, job_id, values, lambda raw: raw)

    def get(self, connection: sa.Connection, digests: Collection[str]) -> dict[str, bytes]:
        """Read values from the table; see `Blobs.get`."""
        asked = sa.select(blob.c.digest, blob.c.data).where(blob.c.digest.in_(digests))
        found = {digest: bytes(data) for digest, data in connection.execute(asked)}
        for digest in digests:
            if digest not in found:
                raise BlobMissingError(f"the ledger's row with the large value {digest} is gone")
        return found

    def unused(self, connection: sa.Connection) -> list[str]:
        """Find what no job uses; see `Blobs.unused`."""
        return _unused_rows(connection)

    def mark(self, connection: sa.Connection, digests: Collection[str], now: float) -> int:
        """Mark what no job uses; see `Blobs.mark`."""
        return _mark_rows(connection, digests, now)

    def sweep(self, connection: sa.Connection, marked_before: float) -> int:
        """Remove what was marked; see `Blobs.sweep`."""
        return len(_sweep_rows(connection, marked_before))

    def strays(self, connection: sa.Connection, written_before: float) -> list[str]:  # noqa: ARG002  as in Blobs
        """Return nothing: what is not committed is not there."""
        return []

    def remove_strays(self, connection: sa.Connection, names: Collection[str], written_before: float) -> int:  # noqa: ARG002
        """Do nothing, see `strays`."""
        return 0

    def missing(self, connection: sa.Connection) -> list[str]:
        """Return the digests without a row; see `Blobs.missing`."""
        return [digest for digest, size in _used(connection) if size is None]


class FileBlobs:
    """Values in files beside a SQLite ledger: `ab/abcd…` for the digest `abcd…`; a table has their sizes and marks.

    A file appears under its name when all of it is on disk. It is removed only in a write transaction, of which SQLite
    has one at a time, and `put` looks in its own that it is there: nothing is removed from under a writer.

    Args:
        directory: Where; it is made with the first value, readable by its owner alone.
    """

    def __init__(self, directory: Path) -> None:
        """Make nothing yet."""
        self._directory = directory

    def prepare(self, values: Mapping[str, bytes]) -> None:
        """Write the files that are not there yet; see `Blobs.prepare`.

        Raises:
            StorageFullError: The disk has no room for them.
            LedgerUnavailableError: They cannot be written at the moment.
            BlobRefusedError: They cannot be written.
        """
        for digest, raw in values.items():
            path = self._path(digest)
            try:
                if _size(path) != len(raw):
                    _write(path, raw)
            except OSError as error:
                raise _meaning(error, path) from error

    def put(self, connection: sa.Connection, job_id: str, values: Mapping[str, bytes]) -> None:
        """Keep values in files; see `Blobs.put` and `prepare`."""
        self.prepare(values)
        _put_rows(connection, sqlite.insert, job_id, values, lambda _raw: None)

    def get(self, connection: sa.Connection, digests: Collection[str]) -> dict[str, bytes]:  # noqa: ARG002  as in Blobs
        """Read files; see `Blobs.get`."""
        return {digest: self._read(digest) for digest in digests}

    def unused(self, connection: sa.Connection) -> list[str]:
        """Find what no job uses; see `Blobs.unused`."""
        return _unused_rows(connection)

    def mark(self, connection: sa.Connection, digests: Collection[str], now: float) -> int:
        """Mark what no job uses; see `Blobs.mark`."""
        return _mark_rows(connection, digests, now)

    def sweep(self, connection: sa.Connection, marked_before: float) -> int:
        """Remove what was marked; see `Blobs.sweep`."""
        swept = _sweep_rows(connection, marked_before)
        for digest in swept:
            self._path(digest).unlink(missing_ok=True)
        return len(swept)

    def strays(self, connection: sa.Connection, written_before: float) -> list[str]:
        """Find files without a row; see `Blobs.strays`."""
        known = set(connection.execute(sa.select(blob.c.digest)).scalars())
        found = [path for path in self._directory.glob("??/*") if path.name not in known]
        return [str(path.relative_to(self._directory)) for path in found if _changed_at(path) < written_before]

    def remove_strays(self, connection: sa.Connection, names: Collection[str], written_before: float) -> int:
        """Remove files that have no row still; see `Blobs.remove_strays`."""
        removed = 0
        for path in map(self._directory.joinpath, names):
            is_known = connection.execute(sa.select(blob.c.digest).where(blob.c.digest == path.name)).first()
            if is_known is None and _changed_at(path) < written_before:
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    def missing(self, connection: sa.Connection) -> list[str]:
        """Return the digests whose file is not there or is cut off; see `Blobs.missing`."""
        return [digest for digest, size in _used(connection) if size is None or _size(self._path(digest)) != size]

    def _path(self, digest: str) -> Path:
        return self._directory / digest[:2] / digest

    def _read(self, digest: str) -> bytes:
        try:
            return self._path(digest).read_bytes()
        except FileNotFoundError:
            raise BlobMissingError(f"the ledger's file with a large value is gone: {self._path(digest)}") from None
        except OSError as error:
            raise BlobMissingError(f"the ledger's file with a large value cannot be read: {error}") from error


# -------------------------------------------------------------------------------------------------------- the tables
def _put_rows(
    connection: sa.Connection,
    insert: Callable[[sa.Table], Any],
    job_id: str,
    values: Mapping[str, bytes],
    data: Callable[[bytes], bytes | None],
) -> None:
    """Write the rows of values: first the blobs' own, whose locks keep a sweep away, always in the same order."""
    if not values:
        return
    rows = [{"digest": digest, "size": len(values[digest]), "data": data(values[digest])} for digest in sorted(values)]
    unmarked = insert(blob).on_conflict_do_update(index_elements=[blob.c.digest], set_={"marked_at": None})
    connection.execute(unmarked, rows)
    uses = [{"job": job_id, "digest": row["digest"]} for row in rows]
    connection.execute(insert(blob_use).on_conflict_do_nothing(), uses)


def _is_unused() -> sa.ColumnElement[bool]:
    return ~sa.exists().where(blob_use.c.digest == blob.c.digest)


def _locked(connection: sa.Connection, which: sa.ColumnElement[bool]) -> Sequence[str]:
    """Return the digests of blobs whose rows are now locked; those of writers are left to another time.

    What a row says is asked once more afterwards: PostgreSQL reads other tables as they were before it had the lock.
    """
    asked = sa.select(blob.c.digest).where(which).limit(AT_ONCE).with_for_update(skip_locked=True)
    return connection.execute(asked).scalars().all()


def _unused_rows(connection: sa.Connection) -> list[str]:
    found = sa.select(blob.c.digest).where(blob.c.marked_at.is_(None), _is_unused()).limit(AT_ONCE)
    return list(connection.execute(found).scalars())


def _mark_rows(connection: sa.Connection, digests: Collection[str], now: float) -> int:
    locked = _locked(connection, blob.c.digest.in_(digests)) if digests else ()
    unused = blob.c.digest.in_(locked) & blob.c.marked_at.is_(None) & _is_unused()
    return connection.execute(sa.update(blob).where(unused).values(marked_at=now)).rowcount if locked else 0


def _sweep_rows(connection: sa.Connection, marked_before: float) -> Sequence[str]:
    due = _locked(connection, blob.c.marked_at < marked_before)
    swept = sa.delete(blob).where(blob.c.digest.in_(due), _is_unused()).returning(blob.c.digest)
    return connection.execute(swept).scalars().all() if due else ()


def _used(connection: sa.Connection) -> list[tuple[str, int | None]]:
    """Return what jobs use, with its size; without one where there is no such blob."""
    together = blob_use.outerjoin(blob, blob.c.digest == blob_use.c.digest)
    asked = sa.select(blob_use.c.digest, blob.c.size).select_from(together).distinct().order_by(blob_use.c.digest)
    return [(digest, size) for digest, size in connection.execute(asked)]


# --------------------------------------------------------------------------------------------------------- the files
def _write(path: Path, raw: bytes) -> None:
    part = path.with_name(f".{os.getpid()}-{time.monotonic_ns()}")
    for directory in (path.parent.parent, path.parent):
        directory.mkdir(mode=0o700, exist_ok=True)
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    for directory in path.parents[:3]:  # each may have a new name in it
        _sync_directory(directory)


def _meaning(error: OSError, path: Path) -> MillstreamError:
    """Return what it means that a large value could not be written."""
    if error.errno in _NO_ROOM:
        return StorageFullError(f"there is no room for the large value {path}: {error.strerror}")
    kind = LedgerUnavailableError if error.errno in _NOT_NOW else BlobRefusedError
    return kind(f"a large value cannot be written: {error}")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return None


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # a writer gave it its name meanwhile
        return float("inf")
