"""The catalogue: all that a node of a flow document can be, by name, with the code that stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Self

from millstream.authoring.documents.describe import component_of
from millstream.authoring.documents.structure import STRUCTURE
from millstream.authoring.registry import Definition, Registry
from millstream.errors import DuplicateNameError
from millstream.model.component import Component


class Catalogue:
    """Components by name; those without code (loop, merge, wait, human input, sub-flow) are always among them.

    Args:
        components: The other ones.
        find: Returns a task or flow by its registered name.
        missing: Names of components that are not here, each with the extra that brings them.

    Raises:
        DuplicateNameError: Two components have one name.

    Attributes:
        missing: As it was given.

    Example:
        >>> from millstream import task
        >>> @task(name="shout")
        ... def shout(text: str) -> str: return text.upper()
        >>> catalogue = Catalogue([component_of(shout)], {"shout": shout}.__getitem__)
        >>> catalogue.get("shout").inputs[0].type, catalogue.get("whisper")
        ('text', None)
    """

    def __init__(
        self,
        components: Iterable[Component],
        find: Callable[[str], Definition],
        missing: Mapping[str, str] | None = None,
    ) -> None:
        """Take the components."""
        self._find = find
        self.missing = missing or {}
        self._known: dict[str, Component] = {}
        for component in (*STRUCTURE, *components):
            if component.name in self._known:
                raise DuplicateNameError(f"two components are named {component.name!r}; give one another name")
            self._known[component.name] = component

    @classmethod
    def of(
        cls,
        registry: Registry,
        components: Iterable[Component] = (),
        missing: Mapping[str, str] | None = None,
    ) -> Self:
        """Return the catalogue of all tasks and flows that a registry has.

        Args:
            registry: What an app knows.
            components: How some of these describe themselves; all others are described by their signature.
            missing: See `Catalogue`.

        Raises:
            DuplicateNameError: Two components have one name.
        """
        given = tuple(components)
        described = {component.task for component in given}
        works: list[Definition] = [*registry.tasks(), *registry.flows()]
        rest = [component_of(work) for work in works if work.name not in described]
        return cls((*given, *rest), registry.work, missing)

    def get(self, name: str) -> Component | None:
        """Return a component; `None` where there is none of this name."""
        return self._known.get(name)

    def work(self, component: Component) -> Definition:
        """Return the task or flow that stands behind a component.

        Raises:
            UnknownNameError: There is none of its name here.
        """
        return self._find(component.task)

    def __iter__(self) -> Iterator[Component]:
        """Yield all components, by name."""
        return (component for _, component in sorted(self._known.items()))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._known)
