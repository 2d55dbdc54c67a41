"""What the events say that make side segments and end them."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Final

from millstream.model.event import Draft
from millstream.model.value import Sealed

HANDED_OUT: Final = "handed_out"
TAKEN_BACK: Final = "taken_back"
SIDES: Final = frozenset({HANDED_OUT, TAKEN_BACK})

_type = itemgetter(1)


def has_sides(drafts: Sequence[Draft]) -> bool:
    """Whether any of these drafts makes a side segment or ends one."""
    return not SIDES.isdisjoint(map(_type, drafts))


def named(draft: Draft) -> tuple[int, str | None]:
    """Return the number of the side segment that a draft of one of these types names, and its queue."""
    data = draft[4].shown if type(draft[4]) is Sealed else draft[4]
    return data["segment"], data.get("queue")
