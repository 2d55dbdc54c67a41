"""The routes, one module for each area; each has a `router`, and its name stands in `ROUTERS` once."""

from __future__ import annotations

from fastapi import APIRouter

from millstream.server.routes import (
    actions,
    api_keys,
    build,
    catalogue,
    flows,
    health,
    jobs,
    later,
    login,
    monitor,
    processes,
    projects,
    reference,
    run,
    tasks,
    users,
    webhook,
)

ROUTERS: tuple[APIRouter, ...] = (
    build.router,  # first: they are looked through in this order, and this is the one that is asked most
    run.router,
    webhook.router,
    login.router,
    users.router,
    api_keys.router,
    catalogue.router,
    flows.router,
    flows.uploads,
    projects.router,
    projects.uploads,
    health.router,
    reference.router,
    later.router,
    monitor.router,
    actions.router,
    jobs.router,
    processes.router,
    tasks.router,
)
