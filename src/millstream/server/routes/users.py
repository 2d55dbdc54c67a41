"""Users: oneself, and for superusers all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel

from millstream.ledger.accounts import User
from millstream.server.access.principal import Principal, needs
from millstream.server.body import JsonRoute

router = APIRouter(prefix="/api/v1/users", tags=["users"], route_class=JsonRoute)


class Shown(BaseModel):
    """A user as the API shows one."""

    id: str
    username: str
    is_active: bool
    is_superuser: bool
    create_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, user: User) -> Shown:
        """Return what is shown of a user."""
        return cls(
            id=user.id,
            username=user.name,
            is_active=user.is_active,
            is_superuser=user.is_superuser,
            create_at=datetime.fromtimestamp(user.created_at, UTC),
            updated_at=datetime.fromtimestamp(user.updated_at, UTC),
        )


@router.get("/whoami")
async def whoami(caller: Annotated[Principal, needs("account:read")]) -> Shown:
    """Return the user that the credential stands for."""
    return Shown.of(caller.user)
