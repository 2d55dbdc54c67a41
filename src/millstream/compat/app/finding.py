"""Finds modules of tasks."""

from __future__ import annotations

import importlib
import importlib.util
from contextlib import suppress
from typing import Any


def listed(modules: Any) -> tuple[str, ...]:
    """Return the modules that a setting names: one, several or none."""
    return (modules,) if isinstance(modules, str) else tuple(modules or ())


def imported(name: str) -> Any:
    """Return what stands at a dotted name."""
    module, _, attribute = name.replace(":", ".").rpartition(".")
    return getattr(importlib.import_module(module), attribute)


def import_related(package: str, related_name: str | None) -> None:
    """Import a package's module of tasks, if it has one."""
    if related_name is None:
        importlib.import_module(package)
        return
    with suppress(ModuleNotFoundError):
        if importlib.util.find_spec(f"{package}.{related_name}") is None:
            return
    importlib.import_module(f"{package}.{related_name}")


def django_apps() -> list[str]:
    """Return the packages that Django has installed."""
    apps = importlib.import_module("django.apps").apps
    return [config.name for config in apps.get_app_configs()]
