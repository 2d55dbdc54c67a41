"""Who makes a request, and what a route asks of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from fastapi import Depends, Request

from millstream.ledger.accounts import ApiKey, User
from millstream.server.problem import forbidden, unauthorized

Means = Literal["bearer", "key", "cookie", "auto"]
Scope = Literal[
    "flows:read", "flows:write", "run:read", "run:write", "jobs:read", "jobs:write", "account:read", "account:write"
]

SCOPES: Final[tuple[Scope, ...]] = (
    "flows:read",
    "flows:write",
    "run:read",
    "run:write",
    "jobs:read",
    "jobs:write",
    "account:read",
    "account:write",
)
"""What an API key may be good for; who signed in may do all of it."""

PRINCIPAL: Final = "millstream.principal"
"""Where the outer layer leaves the principal, in the scope of the request."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request.

    Attributes:
        user: The user.
        means: By what they said so: a token, an API key, the browser's cookie, or nothing (`auto`, on this machine).
        key: The API key, where it is one.
        family: What tells the sessions of one sign-in from those of others, where it is one.
    """

    user: User
    means: Means
    key: ApiKey | None = None
    family: str | None = None

    @property
    def owner(self) -> str | None:
        """Whose objects are meant: the user's own; of a superuser's all, `None`."""
        return None if self.user.is_superuser else self.user.id

    def may(self, scope: Scope) -> bool:
        """Whether the credential is good for this."""
        return self.key is None or not self.key.scopes or scope in self.key.scopes


async def caller(request: Request) -> Principal:
    """Return who makes a request."""
    found = await optional_caller(request)
    if found is None:
        raise unauthorized()
    return found


async def optional_caller(request: Request) -> Principal | None:
    """Return who makes a request, where it has a credential; only public routes can have none."""
    found: Principal | None = request.scope.get(PRINCIPAL)
    return found


def needs(scope: Scope, *, superuser: bool = False) -> Any:
    """Return the dependency that lets only those call a route who may.

    Args:
        scope: What an API key has to be good for.
        superuser: Whether only superusers may.

    Example:
        >>> RunWriter = Annotated[Principal, needs("run:write")]  # then `async def run(caller: RunWriter)`
    """
    return Depends(Guard(scope, superuser))


@dataclass(frozen=True, slots=True)
class Guard:
    """The check behind `needs`."""

    scope: Scope
    is_for_superusers: bool

    async def __call__(self, request: Request) -> Principal:
        """Return who makes a request, if they may.

        Raises:
            Problem: They may not (403).
        """
        found = await caller(request)
        if self.is_for_superusers and not found.user.is_superuser:
            raise forbidden()
        if not found.may(self.scope):
            raise forbidden(f"this API key is not good for {self.scope}; make one that is")
        return found


Caller = Annotated[Principal, Depends(caller)]
OptionalCaller = Annotated[Principal | None, Depends(optional_caller)]
Superuser = Annotated[Principal, needs("account:read", superuser=True)]
SuperuserWrites = Annotated[Principal, needs("account:write", superuser=True)]
