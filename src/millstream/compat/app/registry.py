"""`app.tasks`: an app's tasks by name."""

from __future__ import annotations

import difflib
from typing import NoReturn

from millstream.compat.app.task import Task
from millstream.compat.exceptions import NotRegistered


class TaskRegistry(dict[str, Task]):
    """Tasks by name."""

    def __missing__(self, name: str) -> NoReturn:
        """Raise `NotRegistered`, with the names that come near."""
        near = difflib.get_close_matches(name, self) or sorted(self)
        raise NotRegistered(f"no task is named {name!r}" + (f"; there is {', '.join(near)}" if near else ""))

    def regular(self) -> dict[str, Task]:
        """Return the tasks."""
        return dict(self)

    def unregister(self, name: str | Task) -> None:
        """Forget a task.

        Raises:
            NotRegistered: It is not there.
        """
        key = name if isinstance(name, str) else name.name
        if self.pop(key, None) is None:
            raise NotRegistered(f"no task is named {key!r}")
