"""Knows the code that this process can execute, by the names under which records speak of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from millstream.engine.program import Work
from millstream.model.names import claim_key


class Library:
    """The tasks and flows of one app: those it imported, and those that were submitted here.

    Args:
        find: Gives an imported task or flow by its name, or raises `UnknownNameError`.
        names: Gives the names of all imported ones.
    """

    def __init__(self, find: Callable[[str], Work], names: Callable[[], Collection[str]]) -> None:
        """Start with what is imported."""
        self._find = find
        self._names = names
        self._works: dict[str, Work] = {}
        self._submitted: set[str] = set()

    def learn(self, works: Mapping[str, Work]) -> None:
        """Take in what a graph that was drawn here consists of."""
        self._works.update(works)

    def include(self, flow: str) -> None:
        """Note that a flow or task can be executed here: it was submitted here."""
        self._submitted.add(claim_key(flow))

    def find(self, name: str) -> Work:
        """Return a task or flow.

        Raises:
            UnknownNameError: It is not known here.
        """
        known = self._works.get(name)
        return known if known is not None else self._find(name)

    def flows(self) -> set[str]:
        """Return the claim keys of the flows and tasks whose jobs can be executed here."""
        return {*self._names(), *self._submitted}
