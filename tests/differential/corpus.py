"""The canvases that were chosen, or once found a difference, with what real Celery made of them: `corpus.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NotRequired, TypedDict

from tests.differential.canvases import Case
from tests.differential.outcomes import Played

PATH = Path(__file__).parent / "corpus.json"


class Deviation(TypedDict):
    """What millstream makes of a case on purpose, and why."""

    why: str
    played: Played


class Entry(TypedDict):
    """One case."""

    case: Case
    celery: Played
    deviation: NotRequired[Deviation]


def read() -> dict[str, Entry]:
    """Return the entries by title."""
    found: dict[str, Entry] = json.loads(PATH.read_text(encoding="utf-8"))
    return found


def write(entries: dict[str, Entry]) -> None:
    """Keep the entries, one a line, so that a change shows what it changes."""
    lines = (f"{json.dumps(title)}: {json.dumps(entry)}" for title, entry in entries.items())
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
