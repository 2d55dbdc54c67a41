"""Celery's schedules: their names are here, so that modules can be imported; schedules themselves are not there yet.

What is made of them is kept as it was given. `beat_schedule` and `add_periodic_task` warn that it does not run.
"""

from __future__ import annotations

from typing import Any


class _Schedule:
    """When something is to run, as it was written.

    Attributes:
        args: What was given by position.
        options: What was given by name.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.args = args
        self.options = options

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash((type(self), self.args, tuple(sorted(self.options))))

    def __repr__(self) -> str:
        """Return the call that made it."""
        given = [*(repr(arg) for arg in self.args), *(f"{key}={value!r}" for key, value in self.options.items())]
        return f"{type(self).__name__}({', '.join(given)})"


class schedule(_Schedule):
    """Every so many seconds: `schedule(run_every=30)`."""


class crontab(_Schedule):
    """By the fields of cron: `crontab(minute=0, hour="*/3")`."""


class solar(_Schedule):
    """By the sun: `solar("sunset", 52.5, 13.4)`."""
