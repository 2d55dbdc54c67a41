"""Stamps: names and values that all tasks of a canvas carry, put on by a visitor or by hand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

STAMPED = "stamped_headers"
"""The option that names which others are stamps."""


class StampingVisitor(ABC):
    """Says which stamps the parts of a canvas get; see `Signature.stamp`.

    A method returns stamps by their names, and gets the stamps that come from further out. All that it returns are
    stamps, unless `stamped_headers` in it lists which are; the others are then options.

    Example:
        >>> from uuid import uuid4
        >>> from millstream import task
        >>> @task(name="add")
        ... def add(x: int, y: int) -> int: return x + y
        >>> class Monitored(StampingVisitor):
        ...     def on_signature(self, sig, **headers) -> dict:
        ...         return {"monitoring_id": uuid4().hex}
        >>> sorted(add.s(2, 2).stamp(visitor=Monitored()).options)
        ['monitoring_id', 'stamped_headers']
    """

    @abstractmethod
    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        """Return the stamps of a task."""

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:  # noqa: ARG002  for those who override it
        """Return the stamps of all members of a group."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:  # noqa: B027  as above
        """Hear that a group has its stamps."""

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:  # noqa: ARG002  as above
        """Return the stamps of all steps of a chain."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:  # noqa: B027  as above
        """Hear that a chain has its stamps."""

    def on_chord_header_start(self, sig: Any, **headers: Any) -> dict[str, Any]:
        """Return the stamps of a chord's header, and of its body; by default those of the header as a group."""
        return self.on_group_start(_header_of(sig), **headers)

    def on_chord_header_end(self, sig: Any, **headers: Any) -> None:
        """Hear that a chord's header has its stamps."""
        self.on_group_end(_header_of(sig), **headers)

    def on_chord_body(self, sig: Any, **headers: Any) -> dict[str, Any]:  # noqa: ARG002  as above
        """Return the further stamps of a chord's body."""
        return {}

    def on_callback(self, callback: Any, **headers: Any) -> dict[str, Any]:  # noqa: ARG002  as above
        """Return the stamps of a callback (`link`)."""
        return {}

    def on_errback(self, errback: Any, **headers: Any) -> dict[str, Any]:  # noqa: ARG002  as above
        """Return the stamps of an errback (`link_error`)."""
        return {}


class Stampable:
    """What can be stamped: a signature of any type, with all that it is composed of."""

    types: ClassVar[dict[str, Any]]
    options: dict[str, Any]
    subtask_type: str | None

    def stamp(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,  # noqa: FBT001, FBT002  Celery's signature
        **headers: Any,
    ) -> Self:
        """Put stamps on every task in it, its callbacks and its errbacks; return it.

        A task reads them as `self.request.stamps`, and their names as `self.request.stamped_headers`. What is put on
        later, or from further out, goes over what was there. In Celery stamps by name do not reach the body of a chord,
        unless there is a visitor; here they do.

        Args:
            visitor: Says which stamps each part gets.
            append_stamps: Where a stamp comes twice, keep a list of both values, the newer one first.
            headers: Stamps by their names.

        Example:
            >>> from millstream import task
            >>> @task(name="shown", bind=True)
            ... def shown(self) -> dict: return self.request.stamps
            >>> shown.s().stamp(customer="acme").delay().get()
            {'customer': 'acme'}
        """
        match self.subtask_type:
            case "chain":
                self._stamp_chain(visitor, headers, append=append_stamps)
            case "group":
                self._stamp_group(visitor, headers, append=append_stamps)
            case "chord":
                self._stamp_chord(visitor, headers, append=append_stamps)
            case _:
                self.stamp_links(visitor, append_stamps, **headers)
                told = visitor.on_signature(self, **headers) if visitor else {}
                self.options.update(self._with_own(_joined(headers, told, append=append_stamps), append=append_stamps))
        return self

    def stamp_links(
        self,
        visitor: StampingVisitor | None = None,
        append_stamps: bool = False,  # noqa: FBT001, FBT002  Celery's signature
        **headers: Any,
    ) -> None:
        """Put stamps on its callbacks and errbacks alone; see `stamp`."""
        for callback in self.options.get("link") or ():
            told = visitor.on_callback(callback, **headers) if visitor else {}
            callback.stamp(visitor, append_stamps, **_joined(headers, told, append=append_stamps))
        for errback in self.options.get("link_error") or ():
            told = visitor.on_errback(errback, **headers) if visitor else {}
            errback.stamp(visitor, append_stamps, **_joined(headers, told, append=append_stamps))

    # ---------------------------------------------------------------------------------------------------- inside
    def _stamp_chain(self, visitor: StampingVisitor | None, headers: Mapping[str, Any], *, append: bool) -> None:
        told = visitor.on_chain_start(self, **headers) if visitor else {}
        stamps = self._stamp_parts(visitor, _joined(headers, told, append=append), append=append)
        if visitor:
            visitor.on_chain_end(self, **stamps)

    def _stamp_group(self, visitor: StampingVisitor | None, headers: Mapping[str, Any], *, append: bool) -> None:
        told = visitor.on_group_start(self, **headers) if visitor else {}
        stamps = self._stamp_parts(visitor, _joined(headers, told, append=append), append=append)
        if visitor:
            visitor.on_group_end(self, **stamps)

    def _stamp_chord(self: Any, visitor: StampingVisitor | None, headers: Mapping[str, Any], *, append: bool) -> None:
        told = visitor.on_chord_header_start(self, **headers) if visitor else {}
        stamps = self._stamp_parts(visitor, _joined(headers, told, append=append), append=append)
        if visitor:
            visitor.on_chord_header_end(self, **stamps)
        if self.body is not None:
            told = visitor.on_chord_body(self, **stamps) if visitor else {}
            self.body.stamp(visitor, append, **_joined(stamps, told, append=append))

    def _stamp_parts(
        self: Any, visitor: StampingVisitor | None, stamps: Mapping[str, Any], *, append: bool
    ) -> dict[str, Any]:
        """Stamp the links and the tasks of a canvas with what is handed down, and return that."""
        handed: dict[str, Any] = self._with_own(stamps, append=append)
        self.stamp_links(visitor, append, **handed)
        for part in self.tasks:
            part.stamp(visitor, append, **handed)
        return handed

    def _with_own(self, stamps: Mapping[str, Any], *, append: bool) -> dict[str, Any]:
        """Return stamps with those that it has already."""
        own = {name: self.options[name] for name in stamp_names(self.options) if name in self.options}
        return _joined(stamps, own, append=append)


def stamp_names(options: Mapping[str, Any]) -> Sequence[str]:
    """Return which options are stamps."""
    names = options.get(STAMPED) or ()
    return (names,) if isinstance(names, str) else names


def stamps_in(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stamps among options."""
    return {name: options[name] for name in stamp_names(options) if name in options}


def put_over(own: Mapping[str, Any], further: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with further ones over them; stamps stay as they were put on."""
    if STAMPED not in own or not further:
        return {**own, **further}
    names = [*stamp_names(own), *stamp_names(further)]
    return {**own, **further, **stamps_in(own), STAMPED: list(dict.fromkeys(names))}


# ------------------------------------------------------------------------------------------------------- inside
def _header_of(chord: Any) -> Any:
    """Return the header of a chord as a group of the very same members."""
    group = chord.types["group"]()
    group.kwargs["tasks"] = chord.tasks
    return group


def _joined(stamps: Mapping[str, Any], further: Mapping[str, Any] | None, *, append: bool) -> dict[str, Any]:
    """Return stamps with further ones; of two with one name the first, or a list of both."""
    further = further or {}
    names = list(dict.fromkeys([*_named(stamps), *_named(further)]))
    joined = {**further, **stamps}
    if append:
        for name in further.keys() & stamps.keys() & set(names):
            joined[name] = [*_listed(stamps[name]), *_listed(further[name])]
    return {**joined, STAMPED: names}


def _named(stamps: Mapping[str, Any]) -> Sequence[str]:
    return stamp_names(stamps) if STAMPED in stamps else list(stamps)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
