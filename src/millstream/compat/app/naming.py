"""The names of tasks, as Celery gives them."""

from __future__ import annotations

from typing import Protocol

from millstream.model.names import public_module


class Named(Protocol):
    """An app, as far as names of tasks depend on it."""

    @property
    def main(self) -> str | None:
        """Stands for the module of tasks in the program's own file."""


def gen_task_name(app: Named, name: str, module: str | None) -> str:
    """Return `module.name`; in the program's own file with the app's `main`, or the file's name, as module.

    Celery writes `__main__` where the app has no `main`, under which no other process finds the task.
    """
    module = module or "__main__"
    if module == "__main__" and app.main:
        return f"{app.main}.{name}"
    return f"{public_module(module)}.{name}"
