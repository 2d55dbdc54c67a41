"""Whatever processes do to users, flows and projects at the same time, nothing is left of what is gone."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from millstream.clock import SystemClock
from millstream.ledger import schema
from millstream.ledger.accounts import NameTakenError, UserNotFoundError
from millstream.ledger.database import Connection, database
from millstream.ledger.flow_store import FlowNotFoundError, ProjectNotFoundError, StoredFlow, VersionConflictError
from millstream.ledger.sql import SqlLedger
from millstream.testing.server_doings import make_flow, make_key, make_project, make_session, make_user

REFUSALS = (NameTakenError, UserNotFoundError, FlowNotFoundError, ProjectNotFoundError, VersionConflictError)
NAMES = ("a", "b", "c")


class Doings:
    """What may be done next, on either of two ledger objects."""

    def __init__(self, chance: random.Random, ledgers: list[SqlLedger]) -> None:
        self.chance, self.ledgers = chance, ledgers
        self.users = [make_user(name) for name in NAMES]
        self.projects = [make_project(user, name) for user in self.users for name in NAMES[:2]]
        self.flows = [make_flow(user, name) for user in self.users for name in NAMES]
        self.added: Counter[str] = Counter()
        self.replaced: Counter[tuple[str, int]] = Counter()

    def next(self) -> Coroutine[Any, Any, Any]:
        ledger, pick = self.chance.choice(self.ledgers), self.chance.choice
        accounts, store = ledger.accounts, ledger.flow_store
        user, flow, project = pick(self.users), pick(self.flows), pick(self.projects)
        changed = replace(flow, name=pick(NAMES), endpoint_name=pick([None, *NAMES]), project=self.project_of(flow))
        doings = (
            *[lambda: accounts.add_user(user)] * 3,
            lambda: accounts.change_user(user.id, name=pick(NAMES), is_active=pick([True, False])),
            lambda: accounts.begin([make_session(user)]),
            lambda: accounts.add_key(make_key(user)),
            *[lambda: self.add(store.add(changed), flow.id)] * 2,
            lambda: self.replace(store.replace(changed, pick([1, 2, 3]))),
            lambda: self.replace(store.replace(changed)),
            lambda: store.remove(flow.id, None),
            lambda: store.add_project(project),
            lambda: store.replace_project(replace(project, name=pick(NAMES))),
            lambda: store.remove_project(project.id, None),
        )
        if self.chance.random() < 0.01:
            return accounts.remove_user(user.id)
        doing: Callable[[], Coroutine[Any, Any, Any]] = pick(doings)
        return doing()

    def project_of(self, flow: StoredFlow) -> str | None:
        return self.chance.choice([None, *(project.id for project in self.projects if project.owner == flow.owner)])

    async def add(self, doing: Coroutine[Any, Any, None], flow_id: str) -> None:
        await doing
        self.added[flow_id] += 1

    async def replace(self, doing: Coroutine[Any, Any, StoredFlow]) -> None:
        made = await doing
        self.replaced[made.id, made.version] += 1


def lost(connection: Connection) -> list[tuple[str, int]]:
    """Return what belongs to nobody, by table, and flows in projects that are not there."""
    user, flow, project = schema.user.c, schema.flow.c, schema.project.c
    counts = []
    for table in (schema.session, schema.api_key, schema.project, schema.flow):
        unowned = sa.select(sa.func.count()).where(table.c.owner.not_in(sa.select(user.id)))
        counts.append((table.name, connection.raw.execute(unowned).scalar_one()))
    whose = sa.select(project.id + project.owner)
    stray = sa.select(sa.func.count()).where(flow.project.is_not(None), (flow.project + flow.owner).not_in(whose))
    return [*counts, ("in no project", connection.raw.execute(stray).scalar_one())]


@pytest.mark.parametrize("seed", [1, 2, *(pytest.param(seed, marks=pytest.mark.matrix) for seed in range(3, 13))])
async def test_nothing_is_left_of_what_is_gone_whatever_is_done_at_once(url: str, seed: int) -> None:
    ledgers = [SqlLedger(url, SystemClock()) for _ in range(2)]
    doings = Doings(random.Random(seed), ledgers)  # noqa: S311  no secrets are made of it
    connection: Connection | None = None
    done: Counter[str] = Counter()
    rounds = 0
    while rounds < 40 or done["NoneType"] <= 100:  # how much is refused is up to who comes first
        rounds += 1
        answers = await asyncio.gather(*(doings.next() for _ in range(12)), return_exceptions=True)
        for answer in answers:
            assert not isinstance(answer, BaseException) or isinstance(answer, REFUSALS), repr(answer)
        done.update(type(answer).__name__ for answer in answers)
        connection = connection or database(url).connect(reads=True)
        assert {count for _, count in lost(connection)} == {0}, lost(connection)
    assert connection is not None
    connection.close()
    assert all(times <= doings.added[flow_id] for (flow_id, _), times in doings.replaced.items()), "a version twice"
    for ledger in ledgers:
        await ledger.close()
