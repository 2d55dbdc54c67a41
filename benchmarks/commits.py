"""The physical line: how often this machine commits one row. Nothing that waits for each commit can be faster."""

from __future__ import annotations

import shutil
import sqlite3
from typing import ClassVar

from benchmarks.places import new_directory
from benchmarks.shapes import Shape
from benchmarks.system import NotComparableError, Once


class SqliteCommits:
    """A row per node, each in a commit of its own, into SQLite in WAL mode with `synchronous=FULL`."""

    title = "SQLite alone, a commit per node"
    notes: ClassVar[dict[str, str]] = {}

    async def open(self, shape: Shape) -> Once:
        if shape.jobs > 50:
            raise NotComparableError("the same rate for any number of jobs")
        self._directory = new_directory()
        self._rows = rows = sqlite3.connect(self._directory / "rows.db", isolation_level=None)
        rows.execute("PRAGMA journal_mode = WAL")
        rows.execute("PRAGMA synchronous = FULL")
        rows.execute("CREATE TABLE result (id INTEGER PRIMARY KEY, value BLOB NOT NULL)")
        rows.executemany("INSERT INTO result (value) VALUES (?)", [(bytes(4096),)] * 4096)  # the WAL has its size
        rows.execute("PRAGMA wal_checkpoint(FULL)")

        async def once() -> None:
            for _ in range(shape.nodes):
                rows.execute("INSERT INTO result (value) VALUES (?)", (b"1",))

        return once

    async def close(self) -> None:
        self._rows.close()
        shutil.rmtree(self._directory)
