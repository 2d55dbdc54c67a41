"""ETags and conditional requests, over a real FastAPI application."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI, Response

from millstream.server.etags import Conditional, tag

_MADE = 1_793_521_800.0
_CURRENT = tag(3, _MADE)


@pytest.fixture
def client() -> httpx.AsyncClient:
    app = FastAPI()

    @app.get("/thing")
    def read(conditions: Conditional) -> Response:
        return Response(status_code=304 if conditions.is_known(_CURRENT) else 200, headers={"ETag": _CURRENT})

    @app.put("/thing")
    def change(conditions: Conditional) -> None:
        conditions.require(_CURRENT)

    @app.put("/nothing")
    def make(conditions: Conditional) -> None:
        conditions.require(None)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


def test_a_tag_tells_versions_apart_and_objects_made_anew_under_the_same_id() -> None:
    assert len({tag(1, _MADE), tag(2, _MADE), tag(1, _MADE + 0.001)}) == 3


@pytest.mark.parametrize("tags", [_CURRENT, "*", f'"1", {_CURRENT}', f'{_CURRENT},"9"'])
async def test_a_change_that_names_the_present_version_is_made(client: httpx.AsyncClient, tags: str) -> None:
    assert (await client.put("/thing", headers={"If-Match": tags})).status_code == 200


async def test_a_change_that_names_no_version_is_made(client: httpx.AsyncClient) -> None:
    assert (await client.put("/thing")).status_code == 200


@pytest.mark.parametrize("tags", ['"2-0"', '"1", "2"', f"W/{_CURRENT}", '""'])
async def test_a_change_of_another_version_is_refused_with_412_and_the_present_tag(
    client: httpx.AsyncClient, tags: str
) -> None:
    answer = await client.put("/thing", headers={"If-Match": tags})
    assert (answer.status_code, answer.headers["ETag"]) == (412, _CURRENT)


@pytest.mark.parametrize(("path", "expected"), [("/thing", 412), ("/nothing", 200)])
async def test_if_none_match_with_a_star_makes_only_what_is_not_there(
    client: httpx.AsyncClient, path: str, expected: int
) -> None:
    assert (await client.put(path, headers={"If-None-Match": "*"})).status_code == expected


async def test_nothing_matches_where_nothing_is(client: httpx.AsyncClient) -> None:
    assert (await client.put("/nothing", headers={"If-Match": "*"})).status_code == 412


@pytest.mark.parametrize(
    ("tags", "expected"), [(_CURRENT, 304), (f"W/{_CURRENT}", 304), ("*", 304), ('"2-0"', 200), (None, 200)]
)
async def test_who_has_the_present_version_is_told_so_without_a_body(
    client: httpx.AsyncClient, tags: str | None, expected: int
) -> None:
    answer = await client.get("/thing", headers={} if tags is None else {"If-None-Match": tags})
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (expected, b"", _CURRENT)


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("tags", ["3", '"3', "3-19a", "", '"1" "2" x', "**"])
async def test_what_is_no_tag_is_refused_with_400(client: httpx.AsyncClient, header: str, tags: str) -> None:
    answer = await client.put("/thing", headers={header: tags})
    assert (answer.status_code, header in answer.json()["detail"]) == (400, True)
