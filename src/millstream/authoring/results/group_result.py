"""`GroupResult` and `ResultSet`: several results as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from millstream.authoring import current


class ResultSet:
    """Several results, in order, that are awaited together.

    Args:
        results: The results; `GroupResult`s may be among them.
        app: The app; by default the one in force where it is made.

    Attributes:
        results: The results.
    """

    def __init__(self, results: Iterable[Any], *, app: current.App | None = None) -> None:
        """Take the results."""
        self._app = app or current.app()
        self.results: list[Any] = list(results)

    def add(self, result: Any) -> None:
        """Add a result, unless it is in already."""
        raise NotImplementedError

    def remove(self, result: Any) -> None:
        """Remove a result, given as itself or by its id.

        Raises:
            KeyError: It is not in.
        """
        raise NotImplementedError

    def discard(self, result: Any) -> None:
        """Remove a result if it is in."""
        raise NotImplementedError

    def update(self, results: Iterable[Any]) -> None:
        """Add results, each unless it is in already."""
        raise NotImplementedError

    def clear(self) -> None:
        """Remove all results."""
        raise NotImplementedError

    def ready(self) -> bool:
        """Return whether all have ended, in whatever way."""
        raise NotImplementedError

    def successful(self) -> bool:
        """Return whether all have succeeded."""
        raise NotImplementedError

    def failed(self) -> bool:
        """Return whether one has failed."""
        raise NotImplementedError

    def waiting(self) -> bool:
        """Return whether one has not ended."""
        raise NotImplementedError

    def completed_count(self) -> int:
        """Return how many have succeeded."""
        raise NotImplementedError

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,  # noqa: FBT001, FBT002  Celery's order
        *,
        callback: Callable[[str, Any], object] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> list[Any]:
        """Wait until all have ended, and return their results in order; blocks. See `AsyncResult.get`.

        A failure is raised as soon as it is known. With a `callback`, results are given to that and not returned.
        """
        raise NotImplementedError

    join = get

    def iterate(self, timeout: float | None = None, propagate: bool = True) -> Iterator[Any]:  # noqa: FBT001, FBT002
        """Yield the results in the order in which they come."""
        raise NotImplementedError

    def iter_native(self, timeout: float | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (task id, {"status", "result", "traceback", "task_id"}) in the order in which results come."""
        raise NotImplementedError

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], object] | None = None) -> None:  # noqa: FBT001, FBT002
        """Raise the first failure, if there is one. Waits for nothing."""
        raise NotImplementedError

    def revoke(self, *, terminate: bool = False) -> None:
        """Cancel the jobs of all of them; see `AsyncResult.revoke`."""
        raise NotImplementedError

    def forget(self) -> None:
        """Drop all results; jobs that have ended are forgotten by the ledger too."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.results)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: int) -> Any:
        return self.results[index]


class GroupResult(ResultSet):
    """The results of a group.

    Args:
        id: Its id: of the job where it is a whole job.
        results: The results of its members.
        app: The app; by default the one in force where it is made.
        parent: The result of what came before the group.
    """

    def __init__(
        self,
        id: str | None = None,  # noqa: A002  Celery's
        results: Iterable[Any] = (),
        *,
        app: current.App | None = None,
        parent: Any = None,
    ) -> None:
        """Take the results."""
        super().__init__(results, app=app)
        self.id = id
        self.parent = parent

    @property
    def children(self) -> list[Any]:
        """The results of the members."""
        return self.results

    def as_tuple(self) -> tuple[Any, Any]:
        """Return a form that can be sent elsewhere, and read by `result_from_tuple`."""
        raise NotImplementedError

    def save(self) -> Self:
        """Keep in the ledger which results these are, so that `restore` finds them by the id; not needed for a group
        that is a whole job."""
        raise NotImplementedError

    def delete(self) -> None:
        """Forget what `save` kept."""
        raise NotImplementedError

    @classmethod
    def restore(cls, id: str, *, app: current.App | None = None) -> GroupResult | None:  # noqa: A002
        """Return the group of an id: of a job that is a group, or one that was saved; `None` if there is none."""
        raise NotImplementedError


def result_from_tuple(told: Any, *, app: current.App | None = None) -> Any:
    """Return the result that `as_tuple` told of, with its parents and members."""
    raise NotImplementedError
