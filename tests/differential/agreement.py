"""When two ways of playing a case agree: equal, but for the few things that millstream does otherwise on purpose."""

from __future__ import annotations

import json
from typing import Any

from tests.differential.outcomes import Outcome, Played


def differences(celery: Played, ours: Played) -> list[str]:
    """Return in words what differs; nothing where they agree."""
    found = list(_between(celery["outcome"], ours["outcome"]))
    made_up = {note[0] for note in celery["notes"] if _is_made_up(note)}
    told, expected = (sorted(_note(note, made_up) for note in played["notes"]) for played in (ours, celery))
    if told != expected:
        found.append(f"notes: Celery has {expected}, we have {told}")
    return found


def _between(celery: Outcome, ours: Outcome) -> list[str]:
    match celery, ours:
        case {"group": expected}, {"group": told} if len(expected) == len(told):
            return [line for pair in zip(expected, told, strict=True) for line in _between(*pair)]
        # What does not fit is refused by both; the error has our name.
        case {"raises": _}, {"raises": _}:
            return []
        # What failed a chord's header is what the chord raises, not an error that quotes it.
        case {"error": "ChordError"}, {"error": _}:
            return []
        # The members of a group that waits for something that failed wait for ever in Celery; ours fail with it.
        case {"never": True}, {"error": _}:
            return []
    return [] if celery == ours else [f"result: Celery has {json.dumps(celery)}, we have {json.dumps(ours)}"]


def _is_made_up(note: list[Any]) -> bool:
    """Whether an errback noted a request and an error that Celery makes up, for the body of a chord that cannot run.

    Ours get what really failed, with its request and traceback.
    """
    match note:
        case [_, _, _, bool(has_traceback)]:
            return not has_traceback
    return False


def _note(note: list[Any], made_up: set[Any]) -> str:
    return json.dumps(note[:1] if note[0] in made_up else note)
