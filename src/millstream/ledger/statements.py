"""Statements as drivers take them: written once for both databases, compiled once for each.

What is executed for every batch goes straight to the driver's cursor, since SQLAlchemy's own execution costs more than
the statement does; and many rows go in one statement, since each statement hands the interpreter's lock to a busy loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.sql.expression import ClauseElement

from millstream.ledger.database import Connection

_SIZES = (256, 64, 16, 4, 2, 1)


class Statement:
    """A statement compiled for one driver.

    Args:
        clause: What SQLAlchemy compiles; its parameters are named.
        dialect: The driver's.
    """

    __slots__ = ("_fixed", "_names", "sql")

    def __init__(self, clause: ClauseElement, dialect: sa.Dialect) -> None:
        """Compile it."""
        kind: Any = type(dialect)
        compiled: Any = clause.compile(
            dialect=kind(paramstyle="qmark" if dialect.name == "sqlite" else "format"),
            compile_kwargs={"render_postcompile": True},
        )
        self.sql = str(compiled)
        self._names: Sequence[str] = compiled.positiontup or ()
        self._fixed: dict[str, Any] = compiled.construct_params(_check=False)

    @property
    def count(self) -> int:
        """How many parameters it has."""
        return len(self._names)

    def fill(self, **values: Any) -> list[Any]:
        """Return the parameters in the driver's order."""
        fixed = self._fixed
        return [values[name] if name in values else fixed[name] for name in self._names]


def given(name: str, kind: type[sa.types.TypeEngine[Any]] | None = None) -> sa.BindParameter[Any]:
    """Return a parameter that is filled in at each execution."""
    return sa.bindparam(name, type_=kind, required=False)


class Rows:
    """Writes many rows of a table with few statements.

    Args:
        dialect: The driver's.
    """

    def __init__(self, dialect: sa.Dialect) -> None:
        """Start with nothing compiled."""
        self._dialect = dialect
        self._is_sqlite = dialect.name == "sqlite"
        self._sql: dict[tuple[Any, ...], str] = {}

    def insert(
        self, connection: Connection, columns: Sequence[sa.Column[Any]], rows: Iterable[Sequence[Any]], ending: str = ""
    ) -> int:
        """Insert rows; return how many were, which may not be all with an `ending` such as `ON CONFLICT DO NOTHING`."""

        def write(source: str) -> str:
            names = ", ".join(column.name for column in columns)
            body = source if self._is_sqlite else f"SELECT * FROM {source}"  # noqa: S608  all names are from schema.py
            return f"INSERT INTO {columns[0].table.name} ({names}) {body} {ending}"

        return self._write(connection, ("insert", ending), columns, rows, write)

    def update(
        self,
        connection: Connection,
        keys: Sequence[sa.Column[Any]],
        changed: Sequence[sa.Column[Any]],
        rows: Iterable[Sequence[Any]],
    ) -> None:
        """Update one row each: first its key, then what changes."""
        columns = [*keys, *changed]

        def write(source: str) -> str:
            to = [f"new.column{i}" for i in range(1, len(columns) + 1)]
            table = keys[0].table.name
            types = [column.type.compile(self._dialect) for column in columns]
            changes = ", ".join(
                f"{c.name} = CAST({v} AS {t})" for c, v, t in list(zip(columns, to, types, strict=True))[len(keys) :]
            )
            matches = " AND ".join(f"{table}.{c.name} = {v}" for c, v in zip(keys, to, strict=False))
            if self._is_sqlite:
                source = f"({source}) AS new"
            return f"UPDATE {table} SET {changes} FROM {source} WHERE {matches}"  # noqa: S608  as above

        self._write(connection, ("update", len(keys)), columns, rows, write)

    def _write(
        self,
        connection: Connection,
        kind: tuple[Any, ...],
        columns: Sequence[sa.Column[Any]],
        rows: Iterable[Sequence[Any]],
        write: Callable[[str], str],
    ) -> int:
        todo = rows if isinstance(rows, list) else list(rows)
        done = changed = 0
        while done < len(todo):
            part = todo[done : done + self._size(len(todo) - done)]
            done += len(part)
            key = (*kind, *columns, len(part) if self._is_sqlite else 0)
            sql = self._sql.get(key)
            if sql is None:
                sql = self._sql[key] = write(self._source(columns, len(part)))
            changed += connection.change(sql, self._flat(part))
        return changed

    def _size(self, left: int) -> int:
        return next(size for size in _SIZES if size <= left) if self._is_sqlite else left

    def _source(self, columns: Sequence[sa.Column[Any]], size: int) -> str:
        if self._is_sqlite:
            row = f"({', '.join('?' * len(columns))})"
            return f"VALUES {', '.join([row] * size)}"
        arrays = ", ".join(f"%s::{column.type.compile(self._dialect)}[]" for column in columns)
        names = ", ".join(f"column{i}" for i in range(1, len(columns) + 1))
        return f"unnest({arrays}) AS new({names})"

    def _flat(self, part: Sequence[Sequence[Any]]) -> list[Any]:
        if self._is_sqlite:
            return [value for row in part for value in row]
        return [array_literal(column) for column in zip(*part, strict=True)]


def array_literal(values: Iterable[str | bytes | float | None]) -> str:
    r"""Return PostgreSQL's written form of an array, to be cast to its type.

    Of a list the driver finds out the type anew each time, in Python, which took most of the writing thread's time.

    >>> print(array_literal(['say "no"', "", None]), array_literal([1, 2.5, True]), array_literal([b"hi"]))
    {"say \"no\"","",NULL} {1,2.5,True} {"\\x6869"}
    """
    return f"{{{','.join(map(_element, values))}}}"


def _element(value: str | bytes | float | None) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bytes):
        return f'"\\\\x{value.hex()}"'
    return str(value)


def padded(keys: Sequence[str]) -> list[str]:
    """Return keys for an `IN (…)`, the last one repeated up to one of a few lengths, so that statements repeat."""
    length = 1
    while length < len(keys):
        length *= 4
    return [*keys, *[keys[-1]] * (length - len(keys))]
