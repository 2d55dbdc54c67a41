"""URLs of servers and databases: which ones a ledger can live in, and how any is shown."""

from __future__ import annotations

import ipaddress
import re

_SQLITE = "sqlite"
_POSTGRESQL = "postgresql+psycopg"
_DIALECTS = {_SQLITE: _SQLITE, "postgresql": _POSTGRESQL, "postgres": _POSTGRESQL, _POSTGRESQL: _POSTGRESQL}
_FILE = "give a file, as in sqlite:///ledger.db, or with its full path sqlite:////srv/shop/ledger.db"


def database_url(text: str) -> str:
    """Return the URL of a ledger's database with its driver named: a bare `postgresql://` means psycopg 3.

    Raises:
        ValueError: It names no database that a ledger can live in; the message says what to give.

    >>> database_url("postgresql://me@db.example.org/jobs")
    'postgresql+psycopg://me@db.example.org/jobs'
    """
    scheme, colon, rest = text.partition("://")
    dialect = _DIALECTS.get(scheme)
    if dialect is None or not colon:
        raise ValueError("give sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE")
    if dialect == _SQLITE and (
        not rest.startswith("/") or rest[1:].startswith((":memory:", "file:", "?")) or rest == "/"
    ):
        raise ValueError(_FILE)
    return f"{dialect}://{rest}"


def without_password(text: str) -> str:
    """Put `***` in place of a URL's user and password, and of what its query calls a password.

    >>> without_password("redis://me:secret@example.org:6379/1")
    'redis://***@example.org:6379/1'
    """
    text = re.sub(r"(?s)((?:\w[\w+.-]*://)?).*@", r"\1***@", text, count=1)
    return re.sub(r"(?i)((?:pass|pwd|secret|token)[^=&\s]*=)[^&\s]*", r"\1***", text)


def is_loopback(host: str) -> bool:
    """Return whether an address or name is this machine's own.

    >>> is_loopback("127.0.0.1"), is_loopback("0.0.0.0"), is_loopback("localhost")
    (True, False, True)
    """
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0]).is_loopback
    except ValueError:
        return host.lower() == "localhost"
