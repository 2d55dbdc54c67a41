"""Times and durations as Celery's options and settings have them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from millstream.compat.conf import Conf


def zone(conf: Conf) -> tzinfo | None:
    """Return the zone in which times without one are meant; `None` is the machine's own."""
    named = conf.timezone
    if named is not None:
        return named if isinstance(named, tzinfo) else ZoneInfo(str(named))
    return UTC if conf.enable_utc else None


def aware(conf: Conf, when: datetime | None) -> datetime | None:
    """Return a time with its zone."""
    if when is None or when.tzinfo is not None:
        return when
    found = zone(conf)
    return when.astimezone() if found is None else when.replace(tzinfo=found)


def countdown_of(when: Any) -> float:
    """Return a duration in seconds."""
    return when.total_seconds() if isinstance(when, timedelta) else float(when)


def seconds_from_now(conf: Conf, when: Any) -> float:
    """Return seconds from now, for a time or a duration; what is over is a moment, since nothing takes no time."""
    if not isinstance(when, datetime):
        return countdown_of(when)
    due = aware(conf, when)
    return max(0.001, (due - datetime.now(UTC)).total_seconds()) if due is not None else 0.001
