"""API keys: for programs, each with what it is good for; shown once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from millstream.clock import new_id
from millstream.ledger.accounts import ApiKey
from millstream.server.access.principal import SCOPES, Principal, Scope, needs
from millstream.server.access.tokens import digest_of, new_token, written_key
from millstream.server.body import JsonRoute
from millstream.server.problem import Problem, forbidden
from millstream.server.site import Here
from millstream.server.strict import StrictBody

router = APIRouter(prefix="/api/v1/api_key", tags=["API keys"], route_class=JsonRoute)

Reader = Annotated[Principal, needs("account:read")]
Writer = Annotated[Principal, needs("account:write")]


class NewKey(StrictBody):
    """An API key to make."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "nightly", "scopes": ["run:write", "jobs:read"]}]}
    )

    name: Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
    scopes: list[Scope] = Field(default=[], max_length=len(SCOPES), description="What it is good for; without, all.")
    expires_at: AwareDatetime | None = Field(default=None, description="From when on it is good for nothing any more.")


class Shown(BaseModel):
    """An API key as lists show it: without its secret."""

    id: str
    name: str
    api_key: str = Field(description="Whole in the answer that makes it; nowhere else.")
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None

    @classmethod
    def of(cls, key: ApiKey, written: str | None = None) -> Shown:
        """Return what is shown of a key."""
        return cls(
            id=key.id,
            name=key.name,
            api_key=written or written_key(key.id, "****"),
            scopes=list(key.scopes),
            created_at=datetime.fromtimestamp(key.created_at, UTC),
            expires_at=_when(key.expires_at),
            last_used_at=_when(key.last_used_at),
        )


class Listed(BaseModel):
    """The API keys of a user."""

    total_count: int
    user_id: str
    api_keys: list[Shown]


@router.get("/")
async def list_keys(here: Here, caller: Reader) -> Listed:
    """Return one's API keys."""
    keys = await here.accounts.keys(caller.user.id)
    return Listed(total_count=len(keys), user_id=caller.user.id, api_keys=[Shown.of(key) for key in keys])


@router.post("/", status_code=201)
async def add_key(here: Here, new: NewKey, caller: Writer) -> Shown:
    """Make an API key; this answer is the only one that has it whole."""
    now = here.clock.now()
    if new.expires_at is not None and new.expires_at.timestamp() <= now:
        raise Problem(422, f"body.expires_at: {new.expires_at.isoformat()} is over; give a time to come")
    if caller.key is not None and caller.key.scopes and not (new.scopes and set(new.scopes) <= set(caller.key.scopes)):
        raise forbidden("an API key makes no key that is good for more than itself")
    secret = new_token()
    key = ApiKey(
        id=new_id(),
        user=caller.user.id,
        name=new.name,
        digest=digest_of(secret),
        scopes=tuple(dict.fromkeys(new.scopes)),
        created_at=now,
        expires_at=None if new.expires_at is None else new.expires_at.timestamp(),
    )
    await here.accounts.add_key(key)
    return Shown.of(key, written_key(key.id, secret))


@router.delete("/{key_id}")
async def remove_key(here: Here, key_id: UUID, caller: Writer) -> dict[str, str]:
    """Remove one of one's API keys."""
    if not await here.accounts.remove_key(caller.user.id, str(key_id)):
        raise Problem(404, f"API key with id {key_id} not found")
    here.sessions.forget()
    return {"detail": "API Key deleted"}


def _when(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
