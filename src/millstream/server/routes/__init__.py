"""The routes, one module for each area; each has a `router`, and its name stands in `ROUTERS` once."""

from __future__ import annotations

from fastapi import APIRouter

from millstream.server.routes import health, login, monitor, users

ROUTERS: tuple[APIRouter, ...] = (
    login.router,
    users.router,
    health.router,
    monitor.router,
)
