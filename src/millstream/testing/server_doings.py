"""Users, sessions, keys, projects and flows that the suites of accounts and of stored flows are written with."""

from __future__ import annotations

import hashlib
from typing import Any

from millstream.clock import new_id
from millstream.ledger.accounts import ApiKey, Session, User
from millstream.ledger.flow_store import FlowSummary, Project, StoredFlow

_LATE = 1e11


def make_user(name: str, **fields: Any) -> User:
    """Return a user who can be added."""
    defaults = {"id": new_id(), "password": "$argon2id$a hash", "created_at": 1.0, "updated_at": 1.0}
    return User(**{**defaults, "name": name, **fields})


def make_session(user: User, **fields: Any) -> Session:
    """Return an access session that can be begun, of a family of its own and with no end in sight."""
    token = new_id()
    defaults = {"digest": hashlib.sha256(token.encode()).hexdigest(), "kind": "access", "family": new_id()}
    return Session(**{**defaults, "user": user.id, "created_at": 1.0, "expires_at": _LATE, **fields})


def make_key(user: User, **fields: Any) -> ApiKey:
    """Return an API key that can be added."""
    defaults = {"id": new_id(), "name": "for tests", "digest": "d" * 64, "scopes": ("run:write",), "created_at": 1.0}
    return ApiKey(**{**defaults, "user": user.id, **fields})


def make_project(user: User, name: str = "a project", **fields: Any) -> Project:
    """Return a project that can be added."""
    return Project(**{"id": new_id(), "created_at": 1.0, "updated_at": 1.0, "owner": user.id, "name": name, **fields})


def make_flow(user: User, name: str = "a flow", **fields: Any) -> StoredFlow:
    """Return a flow that can be added."""
    defaults = {"id": new_id(), "data": {"nodes": [], "edges": []}, "created_at": 1.0, "updated_at": 1.0}
    return StoredFlow(**{**defaults, "owner": user.id, "name": name, **fields})


def summary(flow: StoredFlow) -> FlowSummary:
    """Return what lists have of a flow."""
    return FlowSummary(**{name: getattr(flow, name) for name in FlowSummary.__struct_fields__})
