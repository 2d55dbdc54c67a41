"""Canvases run: the values that they give, construct by construct of the canvas guide, and what callbacks get."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from millstream import Millstream
from millstream.authoring.canvas.maps import xmap
from millstream.authoring.canvas.primitives import chain, chord, group
from millstream.authoring.canvas.signature import Signature
from millstream.settings import Settings
from tests.unit.canvas_cases import add, answer, doubled, fail, given, grow, same, tell, told, total


@pytest.fixture
async def app() -> AsyncIterator[Millstream]:
    told.clear()
    async with Millstream(settings=Settings(durability="off")) as running:
        yield running


@pytest.mark.parametrize(
    ("canvas", "value"),
    [
        # the canvas guide, construct by construct; what Celery 5.7 gives where its guide gives none
        (add.s(2, 2) | add.s(4) | add.s(8), 16),
        (chain(add.s(2, 2), add.s(4)), 8),
        (chain(add.s(i) for i in range(10)).clone((3,)), 48),
        (group(add.s(i, i) for i in range(10)), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),
        (group(add.s(1), add.s(2)).clone((10,)), [11, 12]),
        (group([]), []),
        (chord((add.s(i, i) for i in range(10)), total.s()), 90),
        (chord((add.s(i, i) for i in range(3)), same.si("instead")), "instead"),
        (chord([], same.s()), []),
        (chord([add.s(1, 1)], same.s()), [2]),
        (chord(add.s(1, 1), same.s()), [2]),
        (chord([add.s(1), add.s(2)], total.s()).clone((10,)), 23),
        (group(add.s(i, i) for i in range(10)) | total.s(), 90),
        (add.s(4, 4) | group(add.s(i) for i in range(3)), [8, 9, 10]),
        (group(add.s(1, 1), add.s(2, 2)) | group(total.s(), same.s()), [6, [2, 4]]),
        (chain([group(add.s(1, 1), add.s(2, 2)), group(total.s(), same.s())]), [6, [2, 4]]),
        (chain(add.s(1, 1), group(add.s(2))), 4),
        (add.s(1, 1) | group(add.s(2)) | add.s(3), 7),
        (group(add.s(1, 1)) | same.s(), [2]),
        (group(add.s(1, 1)), [2]),
        (group(add.s(1, 1) | group(add.s(1), add.s(2))), [3, 4]),
        (group(add.s(1, 1) | group(add.s(1), add.s(2)), add.s(5, 5)), [[3, 4], 10]),
        (chord([add.s(1, 1) | group(add.s(1), add.s(2)), add.s(5, 5)], same.s()), [[3, 4], 10]),
        (group([add.s(0), group(add.s(1), add.s(2)), add.s(3)]), [0, 1, 2, 3]),
        (chord([chord([add.s(1, 1), add.s(2, 2)], total.s()), chord([add.s(3, 3)], total.s())], total.s()), 12),
        (add.s(1, 1) | chord([], same.s()), []),
        (chord([add.s(1, 1), add.s(2, 2)], total.s() | add.s(5)), 11),
        (chord([add.s(1, 1), add.s(2, 2)], group(total.s(), same.s())), [6, [2, 4]]),
        (group(add.s(1, 1), add.s(2, 2)) | chord([total.s(), total.s()], total.s()), 12),
        (chord([add.s(1, 1), add.s(2, 2)], total.s()) | group(add.s(1), add.s(2)), [7, 8]),
        (chord([add.s(1, 1), add.s(2, 2)], total.s()) | chord([add.s(1), add.s(2)], total.s()), 15),
        (add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | group(add.s(1), add.s(2)), [8, 9]),
        (add.s(1, 1) | group(given.s(1), given.s(2)).set(immutable=True), [[1, {}], [2, {}]]),
        (total.map([range(10), range(100)]), [45, 4950]),
        (add.starmap(zip(range(10), range(10), strict=True)), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),
        (given.starmap([(1,), (2, 3)]), [[1, {}], [2, 3, {}]]),
        (total.map([]), []),
        (add.starmap([]), []),
        (add.chunks(zip(range(5), range(5), strict=True), 2), [[0, 2], [4, 6], [8]]),
        (add.chunks(zip(range(5), range(5), strict=True), 2).group(), [[0, 2], [4, 6], [8]]),
        (add.s(1) | add.chunks([(1, 1), (2, 2)], 1) | same.s(), [[2], [4]]),
        (total.map([[1, 2], [3, 4]]) | same.s(), [3, 7]),
        (add.s(1, 1) | total.map([[1, 2], [3, 4]]), [3, 7]),
        (xmap(add.s(10), [1, 2]), [11, 12]),
        (given.s(1, k=1).clone((0,), {"k": 2, "j": 3}), [0, 1, {"k": 2, "j": 3}]),
        (chain(given.s(1), given.s(2)).clone((0,), {"k": 1}), [[0, 1, {"k": 1}], 2, {}]),
        (doubled.s(4) | add.s(1), 9),
        (add.s(1, 1) | doubled.s(), 4),
        (chord([grow.s(1), add.s(5), grow.s(2)], same.s()), [1, 5, 2, 2, 4]),
    ],
    ids=str,
)
async def test_a_canvas_gives_what_celery_gives(app: Millstream, canvas: Signature, value: Any) -> None:
    job = await app.submit(canvas)
    assert await job.result() == value


async def test_an_errback_gets_what_it_asks_for(app: Millstream) -> None:
    canvas = (add.s(1, 1) | fail.s() | add.s(1)).on_error(answer.s()).on_error(tell.s()).on_error(tell.si("only"))
    job = await app.submit(canvas)
    with pytest.raises(ValueError, match="no"):
        await job.result()
    assert sorted(map(str, told)) == sorted(
        ["only", f"{job.id}.fail", "('fail', \"ValueError('no')\", 'ValueError: no')"]
    )


async def test_an_errback_with_a_delay_of_its_own_gets_what_it_asks_for(app: Millstream) -> None:
    later = [answer.s().set(countdown=0.01), tell.s().set(countdown=0.01)]
    job = await app.submit((add.s(1, 1) | fail.s()).on_error(later[0]).on_error(later[1]))
    with pytest.raises(ValueError, match="no"):
        await job.result()
    assert sorted(map(str, told)) == sorted([f"{job.id}.fail", "('fail', \"ValueError('no')\", 'ValueError: no')"])

    told.clear()
    assert await (await app.submit((add.s(1, 1) | add.s(2)).on_error(later[0]))).result() == 4
    assert told == []


async def test_the_callback_of_a_task_that_adds_to_its_chord_gets_what_that_returned(app: Millstream) -> None:
    first, second = grow.s(1), grow.s(2)
    first.link(tell.s())
    second.link(tell.si("only"))
    job = await app.submit(chord([first, second], same.s()))
    assert await job.result() == [1, 2, 2, 4]
    assert sorted(map(str, told)) == ["1", "only"]


async def test_an_errback_of_what_never_ran_stays_quiet(app: Millstream) -> None:
    for quiet in (fail.s() | add.s(1).on_error(tell.s()), fail.s() | add.s(1).on_error(tell.si("x"))):
        job = await app.submit(quiet)
        with pytest.raises(ValueError, match="no"):
            await job.result()
    await (await app.submit(add.s(1).on_error(tell.s()))).result()
    assert told == []


async def test_a_failing_header_calls_the_bodys_errback_once(app: Millstream) -> None:
    job = await app.submit(chord([fail.s(1), fail.s(2)], total.s()).on_error(tell.s()))
    with pytest.raises(ValueError, match="no"):
        await job.result()
    assert len(told) == 1
    assert told[0] in {f"{job.id}.fail", f"{job.id}.fail-2"}
