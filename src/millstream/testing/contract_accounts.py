"""The suite of records of users, which several processes share: see `Accounts` for what it promises in words."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

import pytest
from msgspec.structs import replace

from millstream.clock import Clock, new_id
from millstream.errors import DefinitionError
from millstream.ledger.accounts import Accounts, NameTakenError, Session, User, UserNotFoundError
from millstream.ledger.base import SharedLedger
from millstream.ledger.flow_store import FlowNotFoundError, ProjectNotFoundError
from millstream.testing.clock import VirtualClock
from millstream.testing.server_doings import make_flow, make_key, make_project, make_session, make_user

HOUR = 3600.0


class AccountsContract:
    """Subclass it as `Test…` and override `open`; each test gets a ledger, as two processes see it."""

    def open(self, clock: Clock) -> AbstractAsyncContextManager[SharedLedger]:
        """Return a context manager that gives the test's ledger, as another process would open it."""
        raise NotImplementedError

    @pytest.fixture
    def clock(self) -> VirtualClock:
        """The clock by which sessions and keys expire."""
        return VirtualClock()

    @pytest.fixture
    async def ledgers(self, clock: VirtualClock) -> AsyncIterator[tuple[SharedLedger, SharedLedger]]:
        """The ledger, as two processes see it."""
        async with AsyncExitStack() as stack:
            first, second = [await stack.enter_async_context(self.open(clock)) for _ in range(2)]
            yield first, second

    @pytest.fixture
    def accounts(self, ledgers: tuple[SharedLedger, SharedLedger]) -> Accounts:
        """The accounts under test."""
        return ledgers[0].accounts

    @pytest.fixture
    def others(self, ledgers: tuple[SharedLedger, SharedLedger]) -> Accounts:
        """The same accounts, as another process sees them."""
        return ledgers[1].accounts

    @pytest.fixture
    async def ada(self, accounts: Accounts) -> User:
        """A user."""
        user = make_user("ada")
        await accounts.add_user(user)
        return user

    # ------------------------------------------------------------------------------------------------------- users
    async def test_a_user_is_there_as_it_was_added(self, accounts: Accounts, others: Accounts) -> None:
        user = make_user("Ada Lovelace é", password=None, is_superuser=True, is_active=False)
        await accounts.add_user(user)
        assert await others.user(user.id) == await others.user_named(user.name) == user

    async def test_an_unknown_user_is_an_error_by_id_and_none_by_name(self, accounts: Accounts) -> None:
        await accounts.add_user(make_user("ada"))
        unknown = new_id()
        for reading in (accounts.user(unknown), accounts.user("\0"), accounts.change_user(unknown, name="x")):
            with pytest.raises(UserNotFoundError):
                await reading
        for name in ("ADA", "ada ", "", "a%", "\0", "\ud800"):
            assert await accounts.user_named(name) is None
        assert not await accounts.remove_user(unknown)

    async def test_a_name_has_one_user(self, accounts: Accounts, ada: User) -> None:
        bob = make_user("bob")
        await accounts.add_user(bob)
        for taking in (accounts.add_user(make_user("ada")), accounts.change_user(bob.id, name="ada")):
            with pytest.raises(NameTakenError, match="'ada'") as refused:
                await taking
            assert (refused.value.field, refused.value.value) == ("name", "ada")
        with pytest.raises(NameTakenError) as refused:
            await accounts.add_user(replace(ada, name="another"))
        assert refused.value.field == "id"
        assert await accounts.change_user(bob.id, name="bob") is not None

    async def test_of_those_who_take_a_name_at_the_same_time_one_gets_it(
        self, accounts: Accounts, others: Accounts
    ) -> None:
        users = [make_user("ada") for _ in range(16)]
        adding = [(accounts, others)[i % 2].add_user(user) for i, user in enumerate(users)]
        answers = await asyncio.gather(*adding, return_exceptions=True)
        (winner,) = [user for user, answer in zip(users, answers, strict=True) if answer is None]
        assert sum(isinstance(answer, NameTakenError) for answer in answers) == len(users) - 1
        assert await accounts.user_named("ada") == winner

    @pytest.mark.parametrize("name", ["a\0b", "a\ud800"], ids=["nul", "surrogate"])
    async def test_a_name_that_no_database_takes_is_refused(self, accounts: Accounts, ada: User, name: str) -> None:
        for naming in (accounts.add_user(make_user(name)), accounts.change_user(ada.id, name=name)):
            with pytest.raises(DefinitionError, match="name"):
                await naming

    async def test_what_is_changed_of_a_user_is_changed_alone(
        self, accounts: Accounts, others: Accounts, ada: User, clock: VirtualClock
    ) -> None:
        await clock.advance(5)
        changed = await accounts.change_user(ada.id, password="$argon2id$new", is_superuser=True)  # noqa: S106  a hash
        assert changed == replace(ada, password="$argon2id$new", is_superuser=True, updated_at=clock.now())  # noqa: S106
        assert await others.user(ada.id) == changed
        with pytest.raises(TypeError, match="created_at"):
            await accounts.change_user(ada.id, created_at=1.0)

    async def test_pages_of_users_together_are_all_users(self, accounts: Accounts) -> None:
        users = [make_user(f"user {i}", is_superuser=i in (2, 4, 5), is_active=i != 2) for i in range(7)]
        for user in users:
            await accounts.add_user(user)
        assert await accounts.users() == users
        assert await accounts.users(after=users[1].id, limit=3) == users[2:5]
        assert await accounts.users(after=users[6].id) == []
        assert await accounts.superusers() == [users[4]]
        assert await accounts.superusers(10) == [users[4], users[5]]

    async def test_a_user_goes_with_all_there_is_of_the_user(
        self, ledgers: tuple[SharedLedger, SharedLedger], ada: User
    ) -> None:
        accounts, flows = ledgers[0].accounts, ledgers[0].flow_store
        bob = make_user("bob")
        await accounts.add_user(bob)
        session, key, flow, project = make_session(ada), make_key(ada), make_flow(ada), make_project(ada)
        kept = make_flow(bob)
        await accounts.begin([session])
        await accounts.add_key(key)
        await flows.add_project(project)
        for added in (flow, kept):
            await flows.add(added)
        assert await accounts.remove_user(ada.id)
        assert not await accounts.remove_user(ada.id)
        assert await accounts.session(session.digest) is None
        assert await accounts.key(key.id) is None
        assert await accounts.keys(ada.id) == []
        with pytest.raises(FlowNotFoundError):
            await flows.get(flow.id, None)
        with pytest.raises(ProjectNotFoundError):
            await flows.project(project.id, None)
        assert await flows.get(kept.id, bob.id) == kept
        await accounts.add_user(make_user("ada"))

    async def test_nothing_is_added_for_a_user_who_is_gone(
        self, ledgers: tuple[SharedLedger, SharedLedger], ada: User
    ) -> None:
        accounts, flows = ledgers[0].accounts, ledgers[0].flow_store
        await accounts.remove_user(ada.id)
        for adding in (
            accounts.begin([make_session(ada)]),
            accounts.add_key(make_key(ada)),
            flows.add(make_flow(ada)),
            flows.add_project(make_project(ada)),
        ):
            with pytest.raises(UserNotFoundError):
                await adding

    # ---------------------------------------------------------------------------------------------------- sessions
    async def test_a_session_is_found_with_its_user(self, accounts: Accounts, others: Accounts, ada: User) -> None:
        access, refresh = make_session(ada), make_session(ada, kind="refresh")
        await accounts.begin([access, refresh])
        assert await others.session(access.digest) == (access, ada)
        assert await others.session(refresh.digest) == (refresh, ada)
        for unknown in ("", "f" * 64, "%", "\0"):
            assert await accounts.session(unknown) is None
        changed = await accounts.change_user(ada.id, is_superuser=True)
        assert await others.session(access.digest) == (access, changed)

    async def test_a_session_that_has_expired_is_gone(self, accounts: Accounts, ada: User, clock: VirtualClock) -> None:
        short, long = make_session(ada, expires_at=clock.now() + 60), make_session(ada, expires_at=clock.now() + HOUR)
        await accounts.begin([short, long])
        await clock.advance(59)
        assert await accounts.session(short.digest) == (short, ada)
        await clock.advance(1)
        assert await accounts.session(short.digest) is None
        assert not await accounts.renew(short.digest, [make_session(ada)])
        assert await accounts.session(long.digest) == (long, ada)

    async def test_what_has_expired_is_swept_and_nothing_else(
        self, ledgers: tuple[SharedLedger, SharedLedger], ada: User, clock: VirtualClock
    ) -> None:
        accounts = ledgers[0].accounts
        ending = [make_session(ada, expires_at=clock.now() + 60) for _ in range(3)]
        lasting = make_session(ada, expires_at=clock.now() + HOUR)
        await accounts.begin([*ending, lasting])
        await clock.advance(60)
        assert await ledgers[1].trim() == []
        await accounts.begin([replace(ending[0], expires_at=clock.now() + 60)])  # its place is free again
        assert await accounts.session(lasting.digest) == (lasting, ada)

    async def test_the_sessions_and_keys_of_a_user_who_is_not_active_do_not_count(
        self, accounts: Accounts, others: Accounts, ada: User
    ) -> None:
        session, key = make_session(ada), make_key(ada)
        await accounts.begin([session])
        await accounts.add_key(key)
        await accounts.change_user(ada.id, is_active=False)
        assert await others.session(session.digest) is None
        assert await others.key(key.id) is None
        assert not await others.renew(session.digest, [make_session(ada)])
        again = await accounts.change_user(ada.id, is_active=True)
        assert await others.session(session.digest) == (session, again)

    async def test_sessions_end_by_family_and_by_user(self, accounts: Accounts, others: Accounts, ada: User) -> None:
        bob = make_user("bob")
        await accounts.add_user(bob)
        mine = [make_session(ada, family=family) for family in ("a", "a", "b", "c")]
        other = make_session(bob, family="d")
        await accounts.begin(mine)
        await accounts.begin([other])

        async def left() -> list[int]:
            return [i for i, session in enumerate([*mine, other]) if await others.session(session.digest) is not None]

        await accounts.end_family("a")
        assert await left() == [2, 3, 4]
        await accounts.end_sessions(ada.id, except_family="c")
        assert await left() == [3, 4]
        await accounts.end_sessions(ada.id)
        assert await left() == [4]

    async def test_a_session_is_renewed_once(self, accounts: Accounts, others: Accounts, ada: User) -> None:
        old = make_session(ada, kind="refresh")
        await accounts.begin([old])
        new = [make_session(ada, family=old.family) for _ in range(12)]
        renewing = [(accounts, others)[i % 2].renew(old.digest, [session]) for i, session in enumerate(new)]
        answers = await asyncio.gather(*renewing)
        assert answers.count(True) == 1
        assert await accounts.session(old.digest) is None
        found = [await others.session(session.digest) is not None for session in new]
        assert found == answers

    async def test_a_user_who_is_removed_while_sessions_begin_and_are_looked_up_leaves_none(
        self, accounts: Accounts, others: Accounts
    ) -> None:
        for _ in range(8):
            user = make_user(new_id())
            await accounts.add_user(user)
            sessions = [make_session(user) for _ in range(6)]
            await accounts.begin(sessions[:1])
            doing: list[Any] = [
                others.begin([sessions[1]]),
                accounts.session(sessions[0].digest),
                others.remove_user(user.id),
                accounts.begin([sessions[2]]),
                others.session(sessions[0].digest),
                accounts.begin(sessions[3:]),
            ]
            for answer in await asyncio.gather(*doing, return_exceptions=True):
                assert answer in (None, True, (sessions[0], user)) or isinstance(answer, UserNotFoundError)
            for session in sessions:
                assert await accounts.session(session.digest) is None
                await self.check_unused(accounts, session)

    async def check_unused(self, accounts: Accounts, session: Session) -> None:
        """See that nothing is left of a session: another user may have one with its digest."""
        other = make_user(new_id())
        await accounts.add_user(other)
        await accounts.begin([replace(session, user=other.id)])
        assert await accounts.session(session.digest) == (replace(session, user=other.id), other)

    # ---------------------------------------------------------------------------------------------------- API keys
    async def test_an_api_key_is_found_with_its_user(self, accounts: Accounts, others: Accounts, ada: User) -> None:
        first = make_key(ada, scopes=("flows:read", "run:write"), expires_at=None)
        second = make_key(ada, name="für später", scopes=())
        for key in (first, second):
            await accounts.add_key(key)
        assert await others.key(first.id) == (first, ada)
        assert await others.keys(ada.id) == [first, second]
        for unknown in ("", new_id(), "%", "\0"):
            assert await accounts.key(unknown) is None
        with pytest.raises(NameTakenError):
            await accounts.add_key(first)

    async def test_an_api_key_that_has_expired_is_listed_and_does_not_count(
        self, accounts: Accounts, ada: User, clock: VirtualClock
    ) -> None:
        key = make_key(ada, expires_at=clock.now() + 60)
        await accounts.add_key(key)
        assert await accounts.key(key.id) == (key, ada)
        await clock.advance(60)
        assert await accounts.key(key.id) is None
        assert await accounts.keys(ada.id) == [key]

    async def test_an_api_key_is_removed_by_its_user_only(
        self, accounts: Accounts, others: Accounts, ada: User
    ) -> None:
        bob, key = make_user("bob"), make_key(ada)
        await accounts.add_user(bob)
        await accounts.add_key(key)
        assert not await others.remove_key(bob.id, key.id)
        assert await others.remove_key(ada.id, key.id)
        assert not await accounts.remove_key(ada.id, key.id)
        assert await accounts.key(key.id) is None

    async def test_the_last_use_of_an_api_key_is_known_to_a_minute(
        self, accounts: Accounts, others: Accounts, ada: User, clock: VirtualClock
    ) -> None:
        key = make_key(ada)
        await accounts.add_key(key)

        async def used() -> float | None:
            (found,) = await others.keys(ada.id)
            return found.last_used_at

        first = clock.now()
        await accounts.touch_key(key.id)
        assert await used() == first
        await clock.advance(59)
        await others.touch_key(key.id)
        assert await used() == first
        await clock.advance(2)
        await others.touch_key(key.id)
        assert await used() == clock.now()
        await accounts.touch_key("unknown")

    # ------------------------------------------------------------------------------------------------------ limits
    async def test_a_bucket_gives_its_capacity_and_then_says_how_long_to_wait(
        self, accounts: Accounts, others: Accounts
    ) -> None:
        waits = [await (accounts, others)[i % 2].take("login:ada", 5, HOUR) for i in range(8)]
        assert waits[:5] == [0.0] * 5
        assert all(HOUR / 5 - 120 < wait <= HOUR / 5 for wait in waits[5:]), waits
        assert await accounts.take("login:bob", 5, HOUR) == 0.0

    async def test_a_token_that_is_given_back_can_be_taken_again(self, accounts: Accounts, others: Accounts) -> None:
        for _ in range(3):
            assert [await accounts.take("given back", 2, HOUR) for _ in range(2)] == [0.0, 0.0]
            assert await accounts.take("given back", 2, HOUR) > 0
            for _ in range(2):
                await others.give_back("given back", 2, HOUR)
        await accounts.give_back("given back", 2, HOUR)  # it is full, and nothing more
        assert [await accounts.take("given back", 2, HOUR) > 0 for _ in range(3)] == [False, False, True]
        await accounts.give_back("nobody took from it", 2, HOUR)

    async def test_however_many_take_at_once_a_bucket_gives_no_more_than_its_capacity(
        self, accounts: Accounts, others: Accounts
    ) -> None:
        taking = [(accounts, others)[i % 2].take("all at once", 7, HOUR) for i in range(60)]
        waits = await asyncio.gather(*taking)
        assert waits.count(0.0) == 7
        assert min(wait for wait in waits if wait) > HOUR / 7 - 120

    async def test_a_bucket_fills_up_again(self, accounts: Accounts) -> None:
        seconds = 1.0
        while [await accounts.take("quick", 2, seconds) == 0.0 for _ in range(3)] != [True, True, False]:
            seconds *= 2  # the machine was slow: it filled up meanwhile
            await asyncio.sleep(seconds)
        async with asyncio.timeout(120):
            while wait := await accounts.take("quick", 2, seconds):
                assert 0 < wait <= seconds / 2
                await asyncio.sleep(wait)
