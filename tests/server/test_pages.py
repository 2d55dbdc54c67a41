"""Pages of lists, and what chooses jobs, over a real FastAPI application."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from millstream.server.pages import Chosen, Paged, next_page

_LETTERS = "abcdefg"


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()

    @app.get("/letters")
    def letters(request: Request, response: Response, page: Paged, only: str = "") -> list[str]:
        after = page.after("letters")
        rest = [letter for letter in _LETTERS if after is None or letter > after[0]]
        shown = [letter for letter in rest if letter >= only][: page.limit]
        if len(rest) > len(shown):
            response.headers.update(next_page(request, "letters", shown[-1:]))
        return shown

    @app.get("/others")
    def others(page: Paged) -> list[str] | None:
        return page.after("others")

    @app.get("/jobs")
    def jobs(which: Chosen) -> dict[str, Any]:
        return {
            "states": which.states,
            "flow": which.flow,
            "since": which.since and which.since.isoformat(),
            "newest_first": which.newest_first,
        }

    return app


@pytest.fixture
def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_following_the_links_gives_every_entry_once(client: httpx.AsyncClient) -> None:
    pages, url = [], "/letters?limit=3"
    while url:
        answer = await client.get(url)
        pages.append(answer.json())
        url = answer.links["next"]["url"] if answer.links else ""
    assert pages == [["a", "b", "c"], ["d", "e", "f"], ["g"]]


async def test_a_link_asks_for_what_the_page_before_it_asked_for(client: httpx.AsyncClient) -> None:
    answer = await client.get("/letters", params={"only": "A&B=c d", "limit": "2", "cursor": ""})
    assert answer.status_code == 400
    answer = await client.get("/letters", params={"only": "A&B=c d", "limit": "2"})
    link = httpx.URL(answer.links["next"]["url"])
    assert {**link.params} == {"only": "A&B=c d", "limit": "2", "cursor": link.params["cursor"]}
    assert link.is_relative_url, "the address holds behind any proxy"


@pytest.mark.parametrize("cursor", ["x", "~", "é", "AAAA", "W10", "e30", "WyJsZXR0ZXJzIiwgMV0", "/" * 900, "1-0"])
async def test_a_cursor_that_is_none_is_refused_with_400(client: httpx.AsyncClient, cursor: str) -> None:
    answer = await client.get("/letters", params={"cursor": cursor})
    assert (answer.status_code, "Link" in answer.json()["detail"]) == (400, True)


async def test_a_cursor_of_another_list_is_refused(client: httpx.AsyncClient) -> None:
    link = httpx.URL((await client.get("/letters?limit=3")).links["next"]["url"])
    assert (await client.get("/others", params={"cursor": link.params["cursor"]})).status_code == 400


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "many", "1.5", ""])
async def test_a_limit_that_is_none_is_refused_with_422(client: httpx.AsyncClient, limit: str) -> None:
    assert (await client.get("/letters", params={"limit": limit})).status_code == 422


async def test_jobs_are_chosen_by_state_flow_age_and_order(client: httpx.AsyncClient) -> None:
    said = (await client.get("/jobs?state=failed,running&state=queued&flow=shop.order&since=1h&sort=created_at")).json()
    assert said["states"] == ["failed", "running", "queued"]
    assert (said["flow"], said["newest_first"]) == ("shop.order", False)
    ago = datetime.now(UTC) - datetime.fromisoformat(said["since"])
    assert timedelta(minutes=59) < ago < timedelta(minutes=62)


async def test_without_a_choice_all_jobs_are_meant_and_the_newest_come_first(client: httpx.AsyncClient) -> None:
    said = (await client.get("/jobs")).json()
    assert said == {"states": [], "flow": None, "since": None, "newest_first": True}


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("state=broken", ["query", "state", 0]),
        ("state=failed,,", ["query", "state", 1]),
        ("since=yesterday", ["query", "since"]),
        ("since=99999999999999w", ["query", "since"]),
        ("sort=name", ["query", "sort"]),
    ],
)
async def test_a_choice_that_is_none_is_refused_with_its_place(
    client: httpx.AsyncClient, query: str, where: list[str]
) -> None:
    answer = await client.get(f"/jobs?{query}")
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == where
