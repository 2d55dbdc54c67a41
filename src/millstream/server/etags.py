"""ETags: the version of what an answer shows, and requests that hold for one version only (RFC 9110, section 13)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Header

from millstream.server.problem import Problem

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')

Tags = frozenset[str] | Literal["*"]
"""The versions that a request names; `*` is any that there is."""


def tag(version: int, made: float) -> str:
    """Return the ETag of a version of an object.

    Args:
        version: The object's version, from 1.
        made: When the object was made, in seconds since the epoch: one that is made anew under the same id begins with
            version 1 again.

    Example:
        >>> tag(3, 1_793_521_800.0)
        '"3-1a1963ad340"'
    """
    return f'"{version}-{int(made * 1000):x}"'


@dataclass(frozen=True)
class Conditions:
    """The versions for which a request holds.

    Attributes:
        if_match: It holds for these only; `None` where it asks for none.
        if_none_match: It holds for any but these.
    """

    if_match: Tags | None = None
    if_none_match: Tags | None = None

    def require(self, current: str | None) -> None:
        """Check that a request to change something holds for what there is.

        Args:
            current: The ETag of what there is; `None` where there is nothing.

        Raises:
            Problem: 412: it does not.
        """
        if self.if_match is not None and not _names(self.if_match, current):
            there = f"its ETag is {current}" if current else "there is nothing yet"
            raise Problem(
                412,
                f"If-Match names another version: {there}; read it again",
                headers={"ETag": current} if current else None,
            )
        if self.if_none_match is not None and _names(self.if_none_match, current):
            raise Problem(
                412,
                f"If-None-Match names the version that there is, {current}",
                headers={"ETag": current} if current else None,
            )

    def is_known(self, current: str) -> bool:
        """Return whether who reads has this version already, so that the answer is 304 without a body."""
        return self.if_none_match is not None and _names(self.if_none_match, current)


def _names(tags: Tags, current: str | None) -> bool:
    return current is not None and (tags == "*" or current in tags)


def _tags(header: str, value: str | None, *, weak_count: bool) -> Tags | None:
    """Read the tags of a header: weak ones count where only equal content is asked for, never where changes are made.

    Raises:
        Problem: 400: they are none.
    """
    if value is None or value.strip() == "*":
        return None if value is None else "*"
    if not _TAG.search(value) or _TAG.sub("", value).strip(" \t,"):
        raise Problem(400, f'{header} is {value!r}, but has to be an ETag in quotes, as "1-1a1963ad340", or *')
    return frozenset(f'"{opaque}"' for weak, opaque in _TAG.findall(value) if weak_count or not weak)


async def _conditions(
    if_match: Annotated[
        str | None, Header(max_length=2000, description="The ETag of the version to change; another one answers 412.")
    ] = None,
    if_none_match: Annotated[
        str | None, Header(max_length=2000, description="The ETag of the version that is known; `*` is any.")
    ] = None,
) -> Conditions:
    return Conditions(
        _tags("If-Match", if_match, weak_count=False), _tags("If-None-Match", if_none_match, weak_count=True)
    )


Conditional = Annotated[Conditions, Depends(_conditions)]
"""The versions for which a request holds, by its headers `If-Match` and `If-None-Match`."""
