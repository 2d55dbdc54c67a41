"""Puts the server together: the app, what its routes share, and the layers around them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

import millstream
from millstream import library
from millstream.app import Millstream
from millstream.authoring.documents.catalogue import Catalogue
from millstream.clock import Clock, SystemClock
from millstream.execution.audience import Audience
from millstream.server import openapi
from millstream.server.access.attempts import Attempts
from millstream.server.access.door import Door
from millstream.server.access.layer import AccessLayer
from millstream.server.access.sessions import Sessions
from millstream.server.builds.builds import Builds
from millstream.server.builds.streams import StreamLayer
from millstream.server.builds.works import Works
from millstream.server.first_user import ensure_superuser
from millstream.server.passwords import Passwords
from millstream.server.problem import install
from millstream.server.routes import ROUTERS
from millstream.server.site import Site
from millstream.settings import Settings
from millstream.urls import is_loopback


def create_app(
    settings: Settings,
    *,
    app: Millstream | None = None,
    clock: Clock | None = None,
    say: Callable[[str], None] = print,
) -> FastAPI:
    """Return the server as an ASGI application; its lifespan starts and closes the app behind it.

    Args:
        settings: The settings.
        app: The app whose tasks and flows are served; by default a new one with these settings.
        clock: The time; tests put a virtual one here.
        say: Is told what the one who starts the server has to know, such as the first password; once, and a line each.

    Raises:
        SettingsError: A setting is wrong.

    Example:
        >>> create_app(Settings()).title
        'millstream'
    """
    site = Site(settings, app or Millstream(settings=settings, clock=clock), clock or SystemClock())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with AsyncExitStack() as stack:
            await _open(site, stack, say)
            yield

    api = _Api(
        title="millstream",
        version=millstream.__version__,
        lifespan=lifespan,
        redirect_slashes=False,
        openapi_url=None,  # these are routes like others: see routes/reference.py
        redoc_url=None,
        docs_url=None,
        generate_unique_id_function=openapi.name_of,
        middleware=[*_cors(settings), Middleware(AccessLayer), Middleware(StreamLayer)],
    )
    api.state.site = site
    install(api)
    for router in ROUTERS:
        api.include_router(router)
    return api


class _Api(FastAPI):
    """FastAPI with a document of our own."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        return openapi.document(self)


async def _open(site: Site, stack: AsyncExitStack, say: Callable[[str], None]) -> None:
    """Start what the routes share; the stack closes it, the last first."""
    app = site.app
    app.program.answer_requests()
    await app.__aenter__()

    async def close() -> None:
        await app.aclose(site.grace)

    stack.push_async_callback(close)
    site.passwords = Passwords()
    stack.callback(site.passwords.close)
    site.accounts = await app.accounts()
    site.flows = await app.flow_store()
    site.catalogue = Catalogue.of(app.registry, *library.load(app.registry))
    site.sessions = Sessions(site.accounts, site.clock)
    site.attempts = Attempts(site.accounts)
    site.door = Door(site.sessions, auto_login=does_auto_login(site.settings))
    site.works = Works(site.flows, site.catalogue, app.registry, site.clock)
    site.builds = await stack.enter_async_context(_builds(site, await app.audience()))
    await ensure_superuser(site, say)


def _builds(site: Site, audience: Audience) -> Builds:
    components = {component.task: component for component in site.catalogue if component.task}
    return Builds(site.app, components, site.clock, audience, site.stopping)


def does_auto_login(settings: Settings) -> bool:
    """Return whether requests from this machine need no credential: unless said otherwise, where no other can come."""
    if settings.auto_login is None:
        return is_loopback(settings.host) and not settings.trusted_proxies
    return settings.auto_login


def _cors(settings: Settings) -> list[Middleware]:
    if not settings.cors_origins:
        return []
    options: dict[str, Any] = {
        "allow_origins": settings.cors_origins,
        "allow_credentials": settings.cors_allow_credentials,
        "allow_methods": ["*"],
        "allow_headers": ["*"],
        "expose_headers": ["ETag", "Link", "Location", "Retry-After", "X-Next-Cursor"],
    }
    return [Middleware(CORSMiddleware, **options)]
