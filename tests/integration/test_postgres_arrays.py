"""What is written as an array comes to PostgreSQL as it was."""

import math
from itertools import product
from typing import Any

import psycopg
import pytest

from millstream.ledger.statements import array_literal

HARD = [
    "",
    " ",
    "NULL",
    "null",
    '"',
    "\\",
    '\\"',
    "{",
    "}",
    "{}",
    ",",
    "a,b",
    "'",
    "\n\t",
    "%s",
    "$1",
    "\u00e9\U0001f600",
    "\\x41",
]

CASES: dict[str, list[Any]] = {
    "text": [*HARD, None],
    "bigint": [0, -1, 2**63 - 1, -(2**63), None],
    "double precision": [0.0, -0.0, 1e300, 5e-324, 1e16, 0.1, 1763812345.123456, math.inf, -math.inf, None],
    "boolean": [True, False, None],
    "bytea": [b"", bytes(range(256)), b"\\x41", b'{"a": [1, 2]}', None],
}


@pytest.mark.parametrize("kind", CASES)
def test_an_array_comes_as_it_was(postgres_url: str, kind: str) -> None:
    assert came(postgres_url, kind, CASES[kind]) == CASES[kind]
    assert came(postgres_url, kind, []) == []


def test_any_text_comes_as_it_was(postgres_url: str) -> None:
    texts = ["".join(parts) for parts in product(HARD, repeat=3)]
    assert came(postgres_url, "text", texts) == texts


def came(url: str, kind: str, values: list[Any]) -> list[Any]:
    """Return what PostgreSQL makes of values."""
    asked = f"SELECT v FROM unnest(%s::{kind}[]) WITH ORDINALITY AS t(v, n) ORDER BY n"  # noqa: S608  see CASES
    with psycopg.connect(url) as connection:
        return [value for (value,) in connection.execute(asked, [array_literal(values)])]
