"""`Card`: what a worker tells its master, on a page of memory that both see and that is in no file."""

from __future__ import annotations

import mmap
from enum import IntEnum
from typing import Final, NamedTuple

import msgspec

_SIZE: Final = mmap.PAGESIZE
_STATE: Final = 0
_TEXT: Final = 1
_LONGEST_LINE: Final = 1000


class State(IntEnum):
    """How far a worker is. One that leaves answers what it has begun, and takes no new connections."""

    BOOTING = 0
    READY = 1
    LEAVING = 2
    FAILED = 3


class Failure(NamedTuple):
    """Why something could not start: the exit code of the program, and what it says, a line for each problem."""

    code: int
    lines: list[str]


class Card:
    """A page of memory for the state of one worker. The master makes it before the fork; the worker writes on it.

    Example:
        >>> card = Card()
        >>> card.fail(Failure(78, ["port = x"]))
        >>> card.state.name, card.failure
        ('FAILED', Failure(code=78, lines=['port = x']))
    """

    def __init__(self) -> None:
        """Begin with a worker that boots."""
        self._page = mmap.mmap(-1, _SIZE)

    @property
    def state(self) -> State:
        """How far the worker is."""
        return State(self._page[_STATE])

    @state.setter
    def state(self, state: State) -> None:
        self._page[_STATE] = state

    @property
    def failure(self) -> Failure | None:
        """Why the worker could not start, if it could not."""
        if self.state is not State.FAILED:
            return None
        return msgspec.json.decode(self._page[_TEXT:].rstrip(b"\0"), type=Failure)

    def fail(self, failure: Failure) -> None:
        """Say why the worker cannot start; of many lines, those that there is room for."""
        lines = [line[:_LONGEST_LINE] for line in failure.lines]
        while len(text := msgspec.json.encode(Failure(failure.code, lines))) > _SIZE - _TEXT:
            lines.pop()
        self._page[_TEXT : _TEXT + len(text)] = text
        self.state = State.FAILED  # last: who sees it reads the text

    def close(self) -> None:
        """Release the page."""
        self._page.close()
