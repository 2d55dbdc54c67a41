"""Users: oneself, and for superusers all of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from millstream.clock import new_id
from millstream.ledger.accounts import User
from millstream.server.access.principal import Principal, Superuser, SuperuserWrites, needs
from millstream.server.body import JsonRoute
from millstream.server.pages import Paged, next_page
from millstream.server.passwords import LONGEST
from millstream.server.problem import Problem, forbidden
from millstream.server.site import Here
from millstream.server.strict import StrictBody
from millstream.settings.server import SHORTEST_PASSWORD

router = APIRouter(prefix="/api/v1/users", tags=["users"], route_class=JsonRoute)

_LISTED: Final = "users"

Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Password = Annotated[str, StringConstraints(min_length=SHORTEST_PASSWORD, max_length=LONGEST)]


class Shown(BaseModel):
    """A user as the API shows one."""

    id: str
    username: str
    is_active: bool
    is_superuser: bool
    create_at: datetime = Field(description="When it was made; the name is that of the clients there are.")
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


class NewUser(StrictBody):
    """A user to make."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"username": "ada", "password": "Ada-1815"}]})

    username: Name
    password: Password
    is_active: bool = True
    is_superuser: bool = False


class UserChange(StrictBody):
    """What is to be changed of a user; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"is_active": False}]})

    username: Name | None = None
    password: Password | None = None
    is_active: bool | None = None
    is_superuser: bool | None = None


class PasswordChange(StrictBody):
    """A new password for oneself."""

    current_password: Annotated[str, StringConstraints(max_length=LONGEST)]
    password: Password


@router.get("/whoami")
async def whoami(caller: Annotated[Principal, needs("account:read")]) -> Shown:
    """Return the user that the credential stands for."""
    return Shown.of(caller.user)


@router.put("/whoami/password", status_code=204)
async def change_password(
    here: Here, request: Request, change: PasswordChange, caller: Annotated[Principal, needs("account:write")]
) -> None:
    """Change one's own password; all other sign-ins of oneself end."""
    if caller.means not in {"bearer", "cookie"}:
        raise forbidden("sign in to change the password; an API key does not suffice")
    address = request.client.host if request.client else ""
    await here.attempts.take(caller.user.name, address)
    if not await here.passwords.is_right(change.current_password, caller.user.password):
        raise forbidden("the current password is another one")
    await here.attempts.succeeded(caller.user.name, address)
    await here.accounts.change_user(caller.user.id, password=await here.passwords.hash(change.password))
    await here.sessions.end_others(caller.user.id, caller.family)


@router.get("/")
async def list_users(here: Here, request: Request, response: Response, page: Paged, _: Superuser) -> list[Shown]:
    """Return the users."""
    place = page.after(_LISTED)
    users = await here.accounts.users(place[0] if place else None, page.limit + 1)
    if len(users) > page.limit:
        users = users[: page.limit]
        response.headers.update(next_page(request, _LISTED, [users[-1].id]))
    return [Shown.of(user) for user in users]


@router.post("/", status_code=201)
async def add_user(here: Here, new: NewUser, _: SuperuserWrites) -> Shown:
    """Make a user."""
    now = here.clock.now()
    user = User(
        id=new_id(),
        name=new.username,
        password=await here.passwords.hash(new.password),
        is_superuser=new.is_superuser,
        is_active=new.is_active,
        created_at=now,
        updated_at=now,
    )
    await here.accounts.add_user(user)
    return Shown.of(user)


@router.get("/{user_id}")
async def show_user(here: Here, user_id: UUID, _: Superuser) -> Shown:
    """Return a user."""
    return Shown.of(await here.accounts.user(str(user_id)))


@router.patch("/{user_id}")
async def change_user(here: Here, user_id: UUID, change: UserChange, caller: SuperuserWrites) -> Shown:
    """Change a user; a new password, or an end of being active, ends the user's sign-ins."""
    given = change.model_dump(exclude_none=True)
    if str(user_id) == caller.user.id and (change.is_active is False or change.is_superuser is False):
        raise Problem(409, "nobody can lock themselves out; have another superuser do it")
    changes = {("name" if name == "username" else name): value for name, value in given.items()}
    if change.password is not None:
        changes["password"] = await here.passwords.hash(change.password)
    changed = await here.accounts.change_user(str(user_id), **changes)
    if change.password is not None or change.is_active is False:
        await here.sessions.end_others(str(user_id), caller.family if str(user_id) == caller.user.id else None)
    here.sessions.forget()
    return Shown.of(changed)


@router.delete("/{user_id}")
async def remove_user(here: Here, user_id: UUID, caller: SuperuserWrites) -> dict[str, str]:
    """Remove a user with sessions, API keys, projects and flows; jobs stay."""
    if str(user_id) == caller.user.id:
        raise Problem(409, "nobody can remove themselves; have another superuser do it")
    await here.accounts.user(str(user_id))
    await here.accounts.remove_user(str(user_id))
    here.sessions.forget()
    return {"detail": "User deleted"}
