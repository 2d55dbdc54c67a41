"""What the values of settings that do something here must be, and which names are misspelt ones."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from datetime import tzinfo
from math import isfinite
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

from millstream.compat.conf_catalogue import NAMES, SETTINGS

_OLD_PREFIXES: Final = ("CELERY_", "CELERYD_", "CELERYBEAT_")
_FAMILIES: Final = ("beat_", "broker_", "result_", "task_", "worker_")
_FURTHEST: Final = 2
"""By how many letters a misspelt name in capitals may be longer or shorter than the right one."""


def _is_switch(value: Any) -> bool:
    return value is None or isinstance(value, int)


def _is_seconds(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (is_number and isfinite(value) and value > 0)


def _is_priority(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 9)  # noqa: PLR2004


def _is_queue(value: Any) -> bool:
    return bool(isinstance(value, str) and value) or isinstance(getattr(value, "name", None), str)


def _is_zone(value: Any) -> bool:
    if value is None or isinstance(value, tzinfo):
        return True
    try:
        return isinstance(value, str) and ZoneInfo(value) is not None
    except (KeyError, OSError, ValueError):
        return False


def _are_modules(value: Any) -> bool:
    if value is None or isinstance(value, str):
        return True
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(item, str) for item in value)


_SWITCH: Final = (_is_switch, "True or False")
_SECONDS: Final = (_is_seconds, "a number of seconds over 0, or None")
_MODULES: Final = (_are_modules, "a list of modules' names")

_KINDS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = MappingProxyType(
    {
        "enable_utc": _SWITCH,
        "imports": _MODULES,
        "include": _MODULES,
        "task_acks_late": _SWITCH,
        "task_always_eager": _SWITCH,
        "task_default_priority": (_is_priority, "a whole number from 0 to 9, or None"),
        "task_default_queue": (_is_queue, "a queue's name"),
        "task_eager_propagates": _SWITCH,
        "task_inherit_parent_priority": _SWITCH,
        "task_soft_time_limit": _SECONDS,
        "task_time_limit": _SECONDS,
        "timezone": (_is_zone, "the name of a time zone, such as 'Europe/Berlin', or None"),
    }
)


def wrong_value(name: str, value: Any) -> str | None:
    """Return what is wrong with the value of a setting, in one line; `None` where nothing is.

    Example:
        >>> wrong_value("task_time_limit", "abc")
        "task_time_limit is 'abc'; it must be a number of seconds over 0, or None"
    """
    fits, kind = _KINDS.get(name, (None, ""))
    return None if fits is None or fits(value) else f"{name} is {value!r}; it must be {kind}"


def wrong_name(key: str, namespace: str | None) -> str | None:
    """Return what is wrong with a name that is no setting's; `None` where it may be somebody else's.

    Lower-case names are all Celery's. Of those in capitals only the ones that begin like Celery's are looked at, and
    they must be closer: a project may have names of its own beside them, such as `CELERY_RESULT_BACKEND_DB`.

    Example:
        >>> wrong_name("CELERY_TASK_TIME_LIMITS", None)
        "there is no setting 'CELERY_TASK_TIME_LIMITS'; did you mean 'CELERY_TASK_TIME_LIMIT'?"
    """
    if key.islower():
        hint = near(key) or ("; Celery has none of this name" if key.startswith(_FAMILIES) else "")
    else:
        hint = _near_in_capitals(key, namespace)
    return f"there is no setting {key!r}{hint}" if hint else None


def near(key: str) -> str:
    """Return the question whether another setting was meant; nothing where none has a name like this."""
    found = difflib.get_close_matches(key.lower(), SETTINGS, n=1, cutoff=0.85)
    return _question(found[0]) if found else ""


def _near_in_capitals(key: str, namespace: str | None) -> str:
    own = f"{namespace}_" if namespace else None
    for prefix in dict.fromkeys(filter(None, (own, *_OLD_PREFIXES))):
        if not key.startswith(prefix):
            continue
        known = {name.removeprefix(prefix) for name in NAMES if name.startswith(prefix)}
        if prefix == own:
            known |= {name.upper() for name in SETTINGS}
        rest = key.removeprefix(prefix)
        found = difflib.get_close_matches(rest.upper(), known, n=1, cutoff=0.88)
        if found and abs(len(found[0]) - len(rest)) <= _FURTHEST:
            return _question(f"{prefix}{found[0]}")
    return ""


def _question(name: str) -> str:
    return f"; did you mean {name!r}?"
