"""Large values are kept once, for as long as a job uses them, and never removed from under one who writes."""

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from millstream.ledger import blobs as blobs_module
from millstream.ledger.base import LedgerUnavailableError, StorageFullError
from millstream.ledger.blobs import BlobMissingError, BlobRefusedError, Blobs, FileBlobs, TableBlobs
from millstream.ledger.schema import blob, blob_use, metadata
from millstream.urls import database_url

DAY = 86_400.0


class Home:
    """A home for large values, in a database that has nothing else."""

    def __init__(self, engine: sa.Engine, blobs: Blobs) -> None:
        self.engine = engine
        self.blobs = blobs

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        with self.engine.begin() as connection:
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            if self.engine.dialect.name == "sqlite":
                connection.exec_driver_sql("COMMIT")

    def put(self, job: str, *values: bytes) -> list[str]:
        by_digest = {hashlib.sha256(raw).hexdigest(): raw for raw in values}
        with self.writing() as connection:
            self.blobs.put(connection, job, by_digest)
        return list(by_digest)

    def get(self, *digests: str) -> list[bytes]:
        with self.engine.connect() as connection:
            found = self.blobs.get(connection, digests)
        return [found[digest] for digest in digests]

    def forget(self, job: str) -> None:
        with self.writing() as connection:
            connection.execute(sa.delete(blob_use).where(blob_use.c.job == job))

    def mark(self, now: float) -> int:
        with self.writing() as connection:
            return self.blobs.mark(connection, self.blobs.unused(connection), now)

    def sweep(self, marked_before: float) -> int:
        with self.writing() as connection:
            return self.blobs.sweep(connection, marked_before)

    def strays(self, written_before: float) -> list[str]:
        with self.engine.connect() as connection:
            return self.blobs.strays(connection, written_before)

    def remove_strays(self, names: list[str], written_before: float) -> int:
        with self.writing() as connection:
            return self.blobs.remove_strays(connection, names, written_before)

    def missing(self) -> list[str]:
        with self.engine.connect() as connection:
            return self.blobs.missing(connection)


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Home]:
    blobs: Blobs
    if request.param == "sqlite":
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'ledger.db'}", connect_args={"isolation_level": None})
        blobs = FileBlobs(tmp_path / "ledger.db.blobs")
    else:
        engine = sa.create_engine(database_url(request.getfixturevalue("postgres_url")))
        blobs = TableBlobs()
    metadata.create_all(engine, [blob, blob_use])
    yield Home(engine, blobs)
    engine.dispose()


@pytest.fixture
def files(tmp_path: Path) -> Home:
    engine = sa.create_engine(
        f"sqlite:///{tmp_path / 'ledger.db'}", connect_args={"isolation_level": None}, poolclass=sa.NullPool
    )
    metadata.create_all(engine, [blob, blob_use])
    return Home(engine, FileBlobs(tmp_path / "ledger.db.blobs"))


def file_of(tmp_path: Path, digest: str) -> Path:
    return tmp_path / "ledger.db.blobs" / digest[:2] / digest


# ---------------------------------------------------------------------------------------------------- put and get
def test_values_are_read_by_their_digests(home: Home) -> None:
    digests = home.put("a", b"one" * 10_000, b"two" * 10_000)
    assert home.get(*digests) == [b"one" * 10_000, b"two" * 10_000]


def test_a_value_put_twice_is_kept_once(home: Home) -> None:
    assert home.put("a", b"same") == home.put("b", b"same") == home.put("b", b"same")
    with home.engine.connect() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(blob)).scalar() == 1
        assert connection.execute(sa.select(sa.func.count()).select_from(blob_use)).scalar() == 2


def test_nothing_to_put_is_no_statement(home: Home) -> None:
    assert home.put("a") == []


def test_a_value_that_is_gone_is_said_to_be(home: Home) -> None:
    with pytest.raises(BlobMissingError, match="ab" * 32):
        home.get("ab" * 32)


# ------------------------------------------------------------------------------------------------ mark and sweep
def test_a_value_is_swept_a_day_after_nobody_used_it(home: Home) -> None:
    (digest,) = home.put("a", b"one")
    assert home.mark(now=5e9) == 0
    home.forget("a")
    assert home.mark(now=5e9) == 1
    assert home.mark(now=5e9 + 1) == 0
    assert home.sweep(marked_before=5e9) == 0
    assert home.get(digest) == [b"one"]
    assert home.sweep(marked_before=5e9 + DAY) == 1
    with pytest.raises(BlobMissingError):
        home.get(digest)


def test_a_value_that_another_job_uses_stays(home: Home) -> None:
    (digest,) = home.put("a", b"one")
    home.put("b", b"one")
    home.forget("a")
    assert (home.mark(now=1), home.sweep(marked_before=2)) == (0, 0)
    assert home.get(digest) == [b"one"]


def test_to_put_a_value_again_takes_its_mark_away(home: Home) -> None:
    (digest,) = home.put("a", b"one")
    home.forget("a")
    home.mark(now=1)
    home.put("b", b"one")
    home.forget("b")
    assert home.sweep(marked_before=2) == 0
    assert home.get(digest) == [b"one"]


def test_a_value_that_was_swept_can_be_put_again(home: Home) -> None:
    (digest,) = home.put("a", b"one")
    home.forget("a")
    home.mark(now=5e9)
    home.sweep(marked_before=6e9)
    assert home.put("b", b"one") == [digest]
    assert home.get(digest) == [b"one"]


def test_a_bounded_number_is_taken_on_at_a_time(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs_module, "AT_ONCE", 2)
    home.put("a", b"one", b"two", b"three")
    home.forget("a")
    assert [home.mark(now=5e9) for _ in range(3)] == [2, 1, 0]
    assert [home.sweep(marked_before=6e9) for _ in range(3)] == [2, 1, 0]


def test_writers_and_sweepers_at_once_lose_nothing(home: Home) -> None:
    jobs = [str(number) for number in range(40)]
    swept = threading.Event()

    def keep_house() -> None:
        while not swept.is_set():
            home.mark(now=1)
            home.sweep(marked_before=2)

    keeper = threading.Thread(target=keep_house)
    keeper.start()
    try:
        for job in jobs:
            home.put(job, b"shared", job.encode())
            digests = home.put(job, b"shared")
            assert home.get(*digests) == [b"shared"]
            home.forget(job)
    finally:
        swept.set()
        keeper.join()
    assert home.missing() == []


def test_a_sweep_leaves_what_a_writer_is_about_to_use(postgres_url: str) -> None:
    engine = sa.create_engine(database_url(postgres_url))
    metadata.create_all(engine, [blob, blob_use])
    home = Home(engine, TableBlobs())
    (digest,) = home.put("a", b"one")
    home.forget("a")
    home.mark(now=1)
    with home.writing() as connection:
        home.blobs.put(connection, "b", {digest: b"one"})
        assert home.sweep(marked_before=2) == 0  # at once: it waits for no writer
    assert home.get(digest) == [b"one"]
    engine.dispose()


# ------------------------------------------------------------------------------------------------------- the files
def test_a_file_is_for_its_owner_alone(files: Home, tmp_path: Path) -> None:
    (digest,) = files.put("a", b"one")
    path = file_of(tmp_path, digest)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [directory.stat().st_mode & 0o777 for directory in path.parents[:2]] == [0o700, 0o700]
    assert list(path.parent.iterdir()) == [path]


def test_what_was_prepared_is_not_written_again(files: Home, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"one").hexdigest()
    files.blobs.prepare({digest: b"one"})
    before = file_of(tmp_path, digest).stat()
    files.put("a", b"one")
    after = file_of(tmp_path, digest).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_file_that_was_cut_off_is_found_and_written_again(files: Home, tmp_path: Path) -> None:
    (digest,) = files.put("a", b"one")
    os.truncate(file_of(tmp_path, digest), 1)
    assert files.missing() == [digest]
    files.put("b", b"one")
    assert files.missing() == []
    assert files.get(digest) == [b"one"]


def test_the_file_of_a_writer_that_died_is_removed_a_day_later(files: Home, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"one").hexdigest()
    files.blobs.prepare({digest: b"one"})
    file = file_of(tmp_path, digest)
    file.with_name(".part").touch()
    files.put("a", b"two")
    written_at = file.stat().st_mtime
    assert files.strays(written_before=written_at) == []
    names = files.strays(written_before=written_at + DAY)
    assert sorted(names) == sorted([f"{digest[:2]}/{digest}", f"{digest[:2]}/.part"])
    assert files.remove_strays(names, written_before=written_at + DAY) == 2
    assert list(file.parent.iterdir()) == []
    assert files.missing() == []


def test_a_stray_that_somebody_puts_in_time_stays(files: Home) -> None:
    digest = hashlib.sha256(b"one").hexdigest()
    files.blobs.prepare({digest: b"one"})
    names = files.strays(written_before=5e9)
    files.put("a", b"one")
    assert files.remove_strays(names, written_before=5e9) == 0
    assert files.get(digest) == [b"one"]


def test_a_stray_removed_after_it_was_prepared_is_written_by_the_transaction(files: Home) -> None:
    digest = hashlib.sha256(b"one").hexdigest()
    files.blobs.prepare({digest: b"one"})
    assert files.remove_strays(files.strays(written_before=5e9), written_before=5e9) == 1
    files.put("a", b"one")
    assert files.get(digest) == [b"one"]


@pytest.mark.parametrize(
    ("number", "raised"),
    [(errno.ENOSPC, StorageFullError), (errno.EMFILE, LedgerUnavailableError), (errno.EACCES, BlobRefusedError)],
)
def test_a_disk_that_refuses_leaves_no_part_of_a_file(
    number: int, raised: type[Exception], files: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(raised, match=os.strerror(number)):
        files.put("a", b"one")
    assert [path for path in (tmp_path / "ledger.db.blobs").rglob("*") if path.is_file()] == []


def test_a_row_without_its_blob_is_found(home: Home) -> None:
    with home.writing() as connection:
        connection.execute(sa.insert(blob_use).values(job="a", digest="cd" * 32))
    assert home.missing() == ["cd" * 32]
