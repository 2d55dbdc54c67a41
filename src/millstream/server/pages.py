"""Lists in pages: which part of a list is asked for, and where the next part begins.

A list answers with an array; where it goes on, the header `Link` has the address of the next page, with `rel="next"`.
That address has a cursor in it, which nobody but the server has to understand. A cursor names a place in the list and
not a count, so that a page is right whatever was added or removed meanwhile.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import msgspec
from fastapi import Depends, Query, Request
from pydantic import BeforeValidator, WithJsonSchema

from millstream.clock import instant
from millstream.model.job import JobState
from millstream.server.problem import Problem

DEFAULT_LIMIT = 100
MOST = 1000


@dataclass(frozen=True)
class Page:
    """The part of a list that is asked for.

    Attributes:
        limit: At most so many entries.
        cursor: Where the part begins, as the link to it had it; `None` at the start of the list.
    """

    limit: int
    cursor: str | None = None

    def after(self, listed: str, parts: int = 1) -> list[str] | None:
        """Return the place after which this part begins, as `next_page` was told it; `None` at the start of the list.

        Args:
            listed: Names the list and its order: a cursor belongs to one.
            parts: How many texts a place in this list consists of.

        Raises:
            Problem: 400: the cursor is none of this list.

        Example:
            >>> Page(10, _written("flows", ["7"])).after("flows")
            ['7']
        """
        if self.cursor is None:
            return None
        try:
            encoded = self.cursor.encode("ascii")
            of, place = msgspec.json.decode(
                urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)), type=tuple[str, list[str]]
            )
        except ValueError:  # also UnicodeError, binascii.Error and msgspec's
            of, place = "", []
        if of != listed or len(place) != parts:
            raise Problem(400, "the cursor is none of this list: take it from the header Link, rel=next")
        return place


def next_page(request: Request, listed: str, place: list[str]) -> dict[str, str]:
    """Return the headers of a page behind which the list goes on.

    Args:
        request: The request for this page; the next one asks for the same, but for the cursor.
        listed: As for `Page.after`.
        place: What `Page.after` is to return for the next page, such as the id of the last entry of this one.
    """
    asked = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    query = urlencode([*asked, ("cursor", _written(listed, place))])
    return {"Link": f'<{quote(request.url.path)}?{query}>; rel="next"'}


def _written(listed: str, place: list[str]) -> str:
    return urlsafe_b64encode(msgspec.json.encode((listed, place))).rstrip(b"=").decode()


async def _page(
    limit: Annotated[int, Query(ge=1, le=MOST, description="At most so many entries.")] = DEFAULT_LIMIT,
    cursor: Annotated[
        str | None, Query(max_length=1000, description="Where the page begins: from the Link of the page before it.")
    ] = None,
) -> Page:
    return Page(limit, cursor)


Paged = Annotated[Page, Depends(_page)]
"""The part of a list that a request asks for."""


# ---------------------------------------------------------------------------------------------------- lists of jobs
@dataclass(frozen=True)
class Which:
    """The jobs that a request is about.

    Attributes:
        states: Jobs in one of these; all without.
        flow: Jobs of this flow; all without.
        since: Jobs submitted at this time or later.
        newest_first: The order.
    """

    states: tuple[JobState, ...] = ()
    flow: str | None = None
    since: datetime | None = None
    newest_first: bool = True


def _apart(values: Any) -> Any:
    """Return the parts of what is written with commas between."""
    return [part.strip() for value in values for part in value.split(",")] if isinstance(values, list) else values


def time_of(text: Any) -> Any:
    """Return the time that a text means (see `instant`), for a validator; what is no text as it is."""
    return instant(text, datetime.now().astimezone()) if isinstance(text, str) else text


async def _which(
    state: Annotated[
        list[JobState] | None,
        BeforeValidator(_apart),
        Query(description="Jobs in one of these states; several with commas between."),
    ] = None,
    flow: Annotated[str | None, Query(max_length=500, description="Jobs of this flow or task.")] = None,
    since: Annotated[
        datetime | None,
        BeforeValidator(time_of),
        WithJsonSchema({"type": "string", "examples": ["1h", "2026-11-01T08:30:00Z"]}),
        Query(description="Submitted so long ago at most (30m, 2h, 7d), or since a date and time."),
    ] = None,
    sort: Annotated[
        Literal["-created_at", "created_at"], Query(description="The newest first, or the oldest.")
    ] = "-created_at",
) -> Which:
    return Which(tuple(state or ()), flow, since, sort == "-created_at")


Chosen = Annotated[Which, Depends(_which)]
"""The jobs that a request is about, by `state`, `flow` and `since`, in the order `sort`."""
