"""Signing in and out: tokens for programs, a cookie for browsers."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from pydantic import BaseModel
from starlette.datastructures import Headers

from millstream.server.access.door import LOCAL_COOKIE, NOT_VALID, SECURE_COOKIE
from millstream.server.access.local import host_of
from millstream.server.access.principal import Caller
from millstream.server.access.sessions import COOKIE, Tokens
from millstream.server.body import JsonRoute
from millstream.server.problem import unauthorized
from millstream.server.site import Here
from millstream.urls import is_loopback

router = APIRouter(prefix="/api/v1", tags=["sign-in"], route_class=JsonRoute)


class SignedIn(BaseModel):
    """The tokens of a sign-in."""

    access_token: str
    refresh_token: str
    token_type: str = "bearer"  # noqa: S105  the kind of token, not one


@router.post("/login")
async def login(
    here: Here, request: Request, response: Response, username: Annotated[str, Form()], password: Annotated[str, Form()]
) -> SignedIn:
    """Sign in with a name and a password: tokens in the answer, and a cookie for browsers."""
    address = request.client.host if request.client else ""
    await here.attempts.take(username, address)
    user = await here.accounts.user_named(username)
    stored = user.password if user is not None and user.is_active else None
    if not await here.passwords.is_right(password, stored) or user is None:
        raise unauthorized("Incorrect username or password")
    await here.attempts.succeeded(username, address)
    tokens = await here.sessions.begin(user)
    _set_cookie(request, response, tokens)
    return SignedIn(access_token=tokens.access, refresh_token=tokens.refresh)


@router.post("/refresh")
async def refresh(here: Here, request: Request, response: Response, _: Caller) -> SignedIn:
    """Exchange a refresh token, sent as the Bearer token, for new tokens; each is good for one exchange."""
    tokens = await here.sessions.renew(request.headers.get("authorization", "").partition(" ")[2].strip())
    if tokens is None:
        raise unauthorized(NOT_VALID)
    _set_cookie(request, response, tokens)
    return SignedIn(access_token=tokens.access, refresh_token=tokens.refresh)


@router.post("/logout", status_code=200)
async def logout(here: Here, request: Request, response: Response, caller: Caller) -> dict[str, str]:
    """Sign out: the tokens and the cookie of this sign-in are good for nothing any more."""
    await here.sessions.end(caller)
    _set_cookie(request, response, None)
    return {"message": "Logout successful"}


def _set_cookie(request: Request, response: Response, tokens: Tokens | None) -> None:
    """Give the browser its cookie, or take it back: with the same attributes, else it would stay."""
    is_secure = request.url.scheme == "https"
    if not is_secure and not is_loopback(host_of(Headers(scope=request.scope))):
        return  # no browser may send it over the network in the clear
    response.set_cookie(
        SECURE_COOKIE if is_secure else LOCAL_COOKIE,
        "" if tokens is None else tokens.cookie,
        max_age=0 if tokens is None else int(COOKIE.total_seconds()),
        path="/",
        secure=is_secure,
        httponly=True,
        samesite="strict",
    )
