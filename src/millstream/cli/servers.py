"""The checks that ask servers: the Redis of the event log, the broker, and whoever uses them. Most are of `doctor`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from millstream.cli.findings import Finding, since
from millstream.errors import MillstreamError, SettingsError
from millstream.urls import without_password

if TYPE_CHECKING:
    from millstream.settings import Settings


def check_event_log(settings: Settings) -> None:
    """See that the Redis of the event log would have this program. One that is away may come back: it is waited for.

    Raises:
        SettingsError: It refuses the password, the database or the user that the settings give.
    """
    if settings.effective_job_queue_type != "redis":
        return
    from millstream.events.redis.look import refusal  # noqa: PLC0415  only these settings need redis

    url = settings.effective_redis_queue_url
    if (why := refusal(url)) is not None:
        raise SettingsError(
            f"the event log cannot use Redis at {without_password(url)}: {why.rstrip('.')}; "
            "correct redis_queue_url, or redis_queue_db, or redis_url"
        )


def look_at_event_log(settings: Settings) -> Iterator[Finding]:
    """Look at the event log that processes share, where they share one, and whether all of them do."""
    began = time.perf_counter()
    if disagreement := _disagreement(settings):
        yield Finding("event log", False, disagreement, since(began))
    elif settings.effective_job_queue_type == "redis":
        yield _look_at_redis(settings)


def _look_at_redis(settings: Settings) -> Finding:
    from millstream.events.redis.link import RedisUnavailableError  # noqa: PLC0415  only these settings need redis
    from millstream.events.redis.look import OLDEST, look  # noqa: PLC0415  as above

    began = time.perf_counter()
    try:
        found = look(settings.effective_redis_queue_url)
    except RedisUnavailableError as error:
        return Finding("event log", False, str(error), since(began))
    told = [without_password(settings.effective_redis_queue_url), found.name]
    if found.is_too_old or found.is_cluster:
        wrong = f"too old: give version {OLDEST} or later" if found.is_too_old else "a cluster: give one server"
        return Finding("event log", False, ", ".join([*told, wrong]), since(began))
    told += [f"answers in {found.milliseconds} ms", found.eviction if found.is_bounded else "no maxmemory"]
    if found.loses_live_events:
        told.append("tokens of running jobs may be evicted: set maxmemory-policy volatile-lru")
    if settings.shares_database_with_broker:
        told.append("in the broker's database: set redis_queue_db")
    return Finding("event log", True, ", ".join(told), since(began))


def _disagreement(settings: Settings) -> str | None:
    """Return what is to be said of processes on this ledger that have another event log, where there are such."""
    from millstream.ledger.maintenance import Keeper  # noqa: PLC0415  SQLAlchemy: --help does without

    mine = settings.effective_job_queue_type
    try:
        members = Keeper(settings.effective_database_url).members()
    except MillstreamError:  # the check of the ledger tells it
        return None
    others = [member for member in members if member.job_queue not in {None, mine}]
    if not others:
        return None
    first, more = others[0], f" (and {len(others) - 1} more)" if others[1:] else ""
    who = f"process {first.pid} on {first.host}{more}"
    return f"{mine} here, but {who} shares this ledger and uses {first.job_queue}; set job_queue_type the same in all"


def look_at_broker(settings: Settings) -> Iterator[Finding]:
    """Look at the broker of workers, where there are such."""
    if not settings.celery_enabled:
        return
    from millstream.backends.celery.link import Link  # noqa: PLC0415  only these settings need Celery

    began, place = time.perf_counter(), "; ".join(map(without_password, settings.effective_broker_url.split(";")))
    link = None
    try:
        link = Link(settings.effective_broker_url)
        link.open()
    except Exception as error:  # noqa: BLE001  each library has its own
        yield Finding("broker", False, f"{place} cannot be reached: {error}", since(began))
    else:
        yield Finding("broker", True, place, since(began))
    finally:
        if link is not None:
            link.drop()
