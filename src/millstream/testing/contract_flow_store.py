"""The suite of stores of flows, which several processes share: see `FlowStore` for what it promises in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import pytest
from msgspec.structs import replace

from millstream.clock import Clock, new_id
from millstream.errors import DefinitionError, NotSerializableError
from millstream.ledger.accounts import NameTakenError, User
from millstream.ledger.base import SharedLedger
from millstream.ledger.flow_store import (
    FlowNotFoundError,
    FlowStore,
    ProjectNotFoundError,
    StoredFlow,
    VersionConflictError,
)
from millstream.testing.clock import VirtualClock
from millstream.testing.server_doings import make_flow, make_project, make_user, summary

DOCUMENT: dict[str, Any] = {
    "nodes": [
        {"id": "a", "position": {"x": 1.5, "y": -2}, "data": {"values": {"text": 'é\u2028\\ "q" \0', "n": None}}}
    ],
    "edges": [],
    "viewport": {"zoom": 1e-7, "big": 2**53 + 1, "deep": [[[[True]]]]},
}


class FlowStoreContract:
    """Subclass it as `Test…` and override `open`; each test gets a ledger, as two processes see it."""

    def open(self, clock: Clock) -> AbstractAsyncContextManager[SharedLedger]:
        """Return a context manager that gives the test's ledger, as another process would open it."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> VirtualClock:
        """The clock that gives the times of changes."""
        return VirtualClock()

    @pytest.fixture
    async def ledgers(self, clock: VirtualClock) -> AsyncIterator[tuple[SharedLedger, SharedLedger]]:
        """The ledger, as two processes see it."""
        async with AsyncExitStack() as stack:
            first, second = [await stack.enter_async_context(self.open(clock)) for _ in range(2)]
            yield first, second

    @pytest.fixture
    def store(self, ledgers: tuple[SharedLedger, SharedLedger]) -> FlowStore:
        """The store under test."""
        return ledgers[0].flow_store

    @pytest.fixture
    def other(self, ledgers: tuple[SharedLedger, SharedLedger]) -> FlowStore:
        """The same store, as another process sees it."""
        return ledgers[1].flow_store

    @pytest.fixture
    async def ada(self, ledgers: tuple[SharedLedger, SharedLedger]) -> User:
        """A user."""
        user = make_user("ada")
        await ledgers[0].accounts.add_user(user)
        return user

    @pytest.fixture
    async def bob(self, ledgers: tuple[SharedLedger, SharedLedger]) -> User:
        """Another user."""
        user = make_user("bob")
        await ledgers[0].accounts.add_user(user)
        return user

    # ------------------------------------------------------------------------------------------------------- flows
    async def test_a_flow_is_there_as_it_was_added(self, store: FlowStore, other: FlowStore, ada: User) -> None:
        project = make_project(ada)
        await store.add_project(project)
        flow = make_flow(
            ada,
            name="Tägliche Zahlen",
            data=DOCUMENT,
            project=project.id,
            description="what\nfor",
            endpoint_name="daily",
            webhook="nonce",
        )
        await store.add(flow)
        assert await other.get(flow.id, ada.id) == await other.get(flow.id, None) == flow
        assert await other.version_of(flow.id, ada.id) == await other.version_of(flow.id, None) == 1

    async def test_an_unknown_flow_and_anothers_are_the_same_error(
        self, store: FlowStore, ada: User, bob: User
    ) -> None:
        flow = make_flow(ada)
        await store.add(flow)
        told: set[str] = set()
        for flow_id in (flow.id, new_id(), "%"):
            stolen = make_flow(bob, id=flow_id, name="stolen")
            for doing in (
                store.get(flow_id, bob.id),
                store.version_of(flow_id, bob.id),
                store.replace(stolen, None),
                store.replace(stolen, 7),
                store.remove(flow_id, bob.id),
                store.remove(flow_id, bob.id, 7),
            ):
                with pytest.raises(FlowNotFoundError) as refused:
                    await doing
                told.add(str(refused.value).replace(repr(flow_id), "…"))
        assert len(told) == 1
        for doing in (store.get("\0", ada.id), store.version_of("\0", None), store.remove("\0", ada.id)):
            with pytest.raises(FlowNotFoundError):
                await doing
        assert await store.get(flow.id, ada.id) == flow

    async def test_each_change_makes_a_new_version(
        self, store: FlowStore, other: FlowStore, ada: User, clock: VirtualClock
    ) -> None:
        flow = make_flow(ada)
        await store.add(flow)
        await clock.advance(5)
        given = replace(flow, data=DOCUMENT, name="renamed", endpoint_name="e", created_at=99.0, version=40)
        changed = await store.replace(given, 1)
        assert changed == replace(given, version=2, created_at=flow.created_at, updated_at=clock.now())
        assert await other.get(flow.id, ada.id) == changed
        assert (await store.replace(given)).version == await other.version_of(flow.id, ada.id) == 3

    async def test_a_change_to_an_older_version_is_refused(self, store: FlowStore, other: FlowStore, ada: User) -> None:
        flow = make_flow(ada)
        await store.add(flow)
        second = await store.replace(replace(flow, description="second"), 1)
        for doing in (other.replace(flow, 1), other.replace(flow, 3), other.remove(flow.id, ada.id, 1)):
            with pytest.raises(VersionConflictError) as refused:
                await doing
            assert refused.value.version == 2
        assert await store.get(flow.id, None) == second

    async def test_of_changes_to_one_version_one_wins(self, store: FlowStore, other: FlowStore, ada: User) -> None:
        flow = make_flow(ada)
        await store.add(flow)
        changes = [replace(flow, description=str(i)) for i in range(12)]
        changing = [(store, other)[i % 2].replace(change, 1) for i, change in enumerate(changes)]
        answers = await asyncio.gather(*changing, return_exceptions=True)
        (winner,) = [answer for answer in answers if isinstance(answer, StoredFlow)]
        assert sum(isinstance(answer, VersionConflictError) for answer in answers) == len(changes) - 1
        assert await other.get(flow.id, ada.id) == winner
        assert winner.version == 2

    async def test_changes_to_whichever_version_all_count(self, store: FlowStore, other: FlowStore, ada: User) -> None:
        flow = make_flow(ada)
        await store.add(flow)
        changed = await asyncio.gather(*((store, other)[i % 2].replace(flow) for i in range(10)))
        assert sorted(answer.version for answer in changed) == list(range(2, 12))

    async def test_names_are_unique_for_each_owner(self, store: FlowStore, ada: User, bob: User) -> None:
        first, second = make_flow(ada, "one", endpoint_name="one-e"), make_flow(ada, "two")
        for flow in (first, second, make_flow(ada, "three"), make_flow(bob, "one", endpoint_name="one-e")):
            await store.add(flow)
        for field, doing in (
            ("name", store.add(make_flow(ada, "one"))),
            ("endpoint_name", store.add(make_flow(ada, "four", endpoint_name="one-e"))),
            ("id", store.add(make_flow(bob, "four", id=first.id))),
            ("name", store.replace(replace(second, name="one"))),
            ("endpoint_name", store.replace(replace(second, endpoint_name="one-e"))),
        ):
            with pytest.raises(NameTakenError) as refused:
                await doing
            assert refused.value.field == field
        assert await store.version_of(second.id, ada.id) == 1
        assert (await store.replace(first)).version == 2

    async def test_of_those_who_take_a_name_at_the_same_time_one_gets_it(
        self, store: FlowStore, other: FlowStore, ada: User
    ) -> None:
        old = [make_flow(ada, f"flow {i}") for i in range(8)]
        for flow in old:
            await store.add(flow)
        new = [make_flow(ada, "wanted") for _ in range(8)]
        doing: list[Any] = [(store, other)[i % 2].add(flow) for i, flow in enumerate(new)]
        doing += [(store, other)[i % 2].replace(replace(flow, name="wanted")) for i, flow in enumerate(old)]
        answers = await asyncio.gather(*doing, return_exceptions=True)
        assert sum(isinstance(answer, NameTakenError) for answer in answers) == len(doing) - 1, answers
        named = [flow for flow in await store.flows(ada.id) if flow.name == "wanted"]
        assert len(named) == 1

    async def test_a_flow_is_found_by_the_name_of_its_endpoint_then_by_its_own(
        self, store: FlowStore, ada: User, bob: User
    ) -> None:
        by_name, by_endpoint = make_flow(ada, "daily"), make_flow(ada, "other", endpoint_name="daily")
        theirs = make_flow(bob, "theirs", endpoint_name="hourly")
        for flow in (by_name, by_endpoint, theirs, make_flow(bob, "other")):
            await store.add(flow)
        assert await store.named("daily", ada.id) == by_endpoint
        assert await store.named("hourly", bob.id) == await store.named("hourly", None) == theirs
        assert await store.named("hourly", ada.id) is None
        assert await store.named("other", None) is None  # whose?
        for unknown in ("", "Daily", "%", "\0", "\ud800"):
            assert await store.named(unknown, None) is None
        await store.remove(by_endpoint.id, ada.id)
        assert await store.named("daily", ada.id) == by_name

    async def test_the_names_of_several_flows_are_found_at_once(self, store: FlowStore, ada: User, bob: User) -> None:
        mine, theirs = make_flow(ada, "mine"), make_flow(bob, "theirs")
        for flow in (mine, theirs):
            await store.add(flow)
        asked = [mine.id, theirs.id, mine.id, "no flow's", "\0", "\ud800"]
        assert await store.names(asked, None) == {mine.id: "mine", theirs.id: "theirs"}
        assert await store.names(asked, ada.id) == {mine.id: "mine"}
        assert await store.names([], None) == {}
        await store.remove(mine.id, ada.id)
        assert await store.names(asked, ada.id) == {}

    async def test_webhooks_of_a_name_are_found_whoever_has_them(self, store: FlowStore, ada: User, bob: User) -> None:
        mine = make_flow(ada, "hook", webhook="a")
        theirs = make_flow(bob, "theirs", endpoint_name="hook", webhook="b")
        for flow in (mine, theirs, make_flow(bob, "hook"), make_flow(ada, "other", webhook="c")):
            await store.add(flow)
        assert await store.webhooks("hook") == sorted((summary(mine), summary(theirs)), key=lambda flow: flow.id)
        for unknown in ("", "Hook", "%", "\0", "\ud800"):
            assert await store.webhooks(unknown) == []

    async def test_pages_of_flows_together_are_all_flows_without_their_documents(
        self, store: FlowStore, ada: User, bob: User
    ) -> None:
        project = make_project(ada)
        await store.add_project(project)
        flows = [make_flow(ada, f"flow {i}", project=project.id if i % 2 else None) for i in range(7)]
        theirs = make_flow(bob)
        for flow in (*flows, theirs):
            await store.add(flow)
        mine = [summary(flow) for flow in flows]
        assert await store.flows(ada.id) == mine
        assert await store.flows(None) == [*mine, summary(theirs)]
        assert await store.flows(ada.id, after=flows[1].id, limit=3) == mine[2:5]
        assert await store.flows(ada.id, project=project.id) == mine[1::2]
        assert await store.flows(None, project=project.id, after=flows[1].id, limit=1) == [mine[3]]
        assert await store.flows(bob.id, project=project.id) == []
        assert await store.flows(ada.id, after=flows[6].id) == []

    async def test_a_flow_that_is_removed_is_gone(self, store: FlowStore, other: FlowStore, ada: User) -> None:
        flow, second = make_flow(ada), make_flow(ada, "second")
        for added in (flow, second):
            await store.add(added)
        await store.remove(flow.id, ada.id, 1)
        await store.remove(second.id, None)
        assert await other.flows(ada.id) == []
        with pytest.raises(FlowNotFoundError):
            await other.remove(flow.id, ada.id)
        await store.add(flow)

    async def test_a_large_document_comes_back_whole(self, store: FlowStore, other: FlowStore, ada: User) -> None:
        text = "ab\u00e9\n" * 64_000
        flow = make_flow(ada, data={"nodes": [{"id": str(i), "data": {"text": text}} for i in range(100)]})
        await store.add(flow)  # 32 MiB
        assert await other.get(flow.id, ada.id) == flow
        assert await other.version_of(flow.id, ada.id) == 1
        assert await other.flows(ada.id) == [summary(flow)]

    async def test_a_document_that_is_not_json_is_refused(self, store: FlowStore, ada: User) -> None:
        for data in ({"x": object()}, {"x": "\ud800"}, {"x": {1j}}, {"x": {(1, 2): 3}}):
            with pytest.raises(NotSerializableError):
                await store.add(make_flow(ada, data=data))
        assert await store.flows(ada.id) == []

    async def test_a_text_that_no_database_takes_is_refused(self, store: FlowStore, ada: User) -> None:
        for fields in ({"name": "a\0"}, {"description": "\ud800"}, {"endpoint_name": "\0"}, {"id": "\0"}):
            with pytest.raises(DefinitionError, match=next(iter(fields))):
                await store.add(make_flow(ada, **fields))

    # ---------------------------------------------------------------------------------------------------- projects
    async def test_projects_are_kept_as_flows_are(
        self, store: FlowStore, other: FlowStore, ada: User, bob: User, clock: VirtualClock
    ) -> None:
        projects = [make_project(ada, f"project {i}", description="why") for i in range(5)]
        theirs = make_project(bob, "project 1")
        for project in (*projects, theirs):
            await store.add_project(project)
        assert await other.projects(ada.id) == projects
        assert await other.projects(None, after=projects[3].id) == [projects[4], theirs]
        assert await other.projects(ada.id, after=projects[0].id, limit=2) == projects[1:3]
        assert await other.project(projects[2].id, ada.id) == await other.project(projects[2].id, None) == projects[2]
        await clock.advance(5)
        changed = await store.replace_project(replace(projects[2], name="renamed"), 1)
        assert changed == replace(projects[2], name="renamed", version=2, updated_at=clock.now())
        assert await other.project(changed.id, ada.id) == changed
        for doing in (store.replace_project(projects[2], 1), store.remove_project(changed.id, ada.id, 1)):
            with pytest.raises(VersionConflictError):
                await doing
        for taking in (
            store.add_project(make_project(ada, "project 1")),
            store.replace_project(replace(changed, name="project 1")),
        ):
            with pytest.raises(NameTakenError):
                await taking

    async def test_an_unknown_project_and_anothers_are_the_same_error(
        self, store: FlowStore, ada: User, bob: User
    ) -> None:
        project = make_project(ada)
        await store.add_project(project)
        for project_id in (project.id, new_id()):
            for doing in (
                store.project(project_id, bob.id),
                store.replace_project(make_project(bob, id=project_id)),
                store.remove_project(project_id, bob.id),
                store.add(make_flow(bob, project=project_id)),
            ):
                with pytest.raises(ProjectNotFoundError):
                    await doing
        flow = make_flow(bob)
        await store.add(flow)
        with pytest.raises(ProjectNotFoundError):
            await store.replace(replace(flow, project=project.id))

    async def test_the_flows_of_a_project_that_is_removed_stay(
        self, store: FlowStore, ada: User, clock: VirtualClock
    ) -> None:
        project = make_project(ada)
        await store.add_project(project)
        flow = make_flow(ada, project=project.id)
        await store.add(flow)
        await store.remove_project(project.id, ada.id, 1)
        assert await store.projects(ada.id) == []
        assert await store.get(flow.id, ada.id) == replace(flow, project=None, version=2, updated_at=clock.now())

    async def test_no_flow_gets_into_a_project_that_is_removed_meanwhile(
        self, store: FlowStore, other: FlowStore, ada: User
    ) -> None:
        for i in range(8):
            project = make_project(ada)
            await store.add_project(project)
            flows = [make_flow(ada, f"flow {i} {j}", project=project.id) for j in range(4)]
            doing: list[Any] = [(store, other)[j % 2].add(flow) for j, flow in enumerate(flows)]
            doing.insert(2, other.remove_project(project.id, ada.id))
            for answer in await asyncio.gather(*doing, return_exceptions=True):
                assert answer is None or isinstance(answer, ProjectNotFoundError)
            assert await store.flows(None, project=project.id) == []
