"""Guessing passwords: counted before any hash is made; whoever has a session notices nothing of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from millstream.server.passwords import Passwords
from millstream.server.problem import Problem
from millstream.server.site import Site
from millstream.settings import Settings
from tests.server.running import PASSWORD, RunningServer, signed_in


@pytest.fixture(scope="module", autouse=True)
def password_cost() -> None:
    """Hashes cost here what they cost."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """One for each test: what is counted for all accounts together would reach into the next test."""
    settings = Settings.of(config_dir=tmp_path, superuser="admin", superuser_password=PASSWORD, auto_login=False)
    with RunningServer(settings) as running:
        yield running


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that a hash was made of, in order."""
    seen: list[str] = []
    is_right = Passwords.is_right

    async def counting(self: Passwords, password: str, stored: str | None) -> bool:
        seen.append(password)
        return await is_right(self, password, stored)

    monkeypatch.setattr(Passwords, "is_right", counting)
    return seen


@pytest.fixture
def owner(server: RunningServer) -> Iterator[httpx.Client]:
    """Somebody who signed in before anybody guessed."""
    server.add_user("owner")
    client = signed_in(server, "owner")
    yield client
    client.close()


def test_of_hundreds_of_wrong_passwords_few_are_looked_at_and_the_owner_goes_on(
    server: RunningServer, owner: httpx.Client, hashed: list[str]
) -> None:
    statuses = []
    with httpx.Client(base_url=server.url, timeout=120) as guesser:
        began = server.site.clock.monotonic()
        for number in range(300):
            answer = guesser.post("/api/v1/login", data={"username": "owner", "password": f"guess {number}"})
            statuses.append(answer.status_code)
            if answer.status_code == 429:
                assert int(answer.headers["Retry-After"]) > 0
            if number % 100 == 0:
                assert owner.get("/api/v1/users/whoami").status_code == 200
        minutes = (server.site.clock.monotonic() - began) / 60
    assert set(statuses) == {401, 429}
    assert len(hashed) == statuses.count(401) <= 5 + minutes


def test_who_knows_the_password_signs_in_as_often_as_they_like(server: RunningServer, anonymous: httpx.Client) -> None:
    server.add_user("often")
    for _ in range(8):
        answer = anonymous.post("/api/v1/login", data={"username": "often", "password": PASSWORD})
        assert answer.status_code == 200, answer.text


def test_right_passwords_use_up_nothing_of_what_their_address_has(server: RunningServer) -> None:
    async def sign_in(site: Site) -> None:
        for number in range(50):  # more than the thirty wrong ones that an address has a minute
            await site.attempts.take(f"user {number % 7}", "198.51.100.7")
            await site.attempts.succeeded(f"user {number % 7}", "198.51.100.7")

    server.do(sign_in)


def test_an_unknown_name_costs_as_many_hashes_as_a_known_one(
    server: RunningServer, anonymous: httpx.Client, hashed: list[str]
) -> None:
    server.add_user("known")
    for name in ("known", "unknown"):
        answer = anonymous.post("/api/v1/login", data={"username": name, "password": "wrong"})
        assert (answer.status_code, answer.json()["detail"]) == (401, "Incorrect username or password")
    assert len(hashed) == 2


def allowed(server: RunningServer, tries: list[tuple[str, str]]) -> tuple[int, float]:
    """Return how many of these tries, each by name and address, are let through, and in how many minutes."""

    async def take(site: Site) -> tuple[int, float]:
        refused, began = 0, site.clock.monotonic()
        for name, address in tries:
            try:
                await site.attempts.take(name, address)
            except Problem:
                refused += 1
        return len(tries) - refused, (site.clock.monotonic() - began) / 60

    return server.do(take)


def test_from_a_thousand_addresses_one_account_is_still_bounded(server: RunningServer) -> None:
    tried = [("somebody", f"192.0.{number // 250}.{number % 250}") for number in range(1000)]
    count, minutes = allowed(server, tried)
    assert count <= 30 + 2 * minutes + 1


def test_one_address_that_tries_a_thousand_names_is_bounded_and_leaves_the_others_room(server: RunningServer) -> None:
    count, minutes = allowed(server, [(f"name {number}", "198.51.100.7") for number in range(1000)])
    assert count <= 30 + 30 * minutes + 1
    assert allowed(server, [("alice", "192.0.2.1")])[0] == 1


def test_a_password_of_any_length_costs_the_same(anonymous: httpx.Client, server: RunningServer) -> None:
    server.add_user("long")
    for password in (PASSWORD * 1000, "", "\x00", "é" * 500):
        answer = anonymous.post("/api/v1/login", data={"username": "long", "password": password})
        assert answer.status_code in {401, 422}, answer.status_code
