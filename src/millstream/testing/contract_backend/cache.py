"""Results that are used again."""

from __future__ import annotations

import pytest

from millstream.testing.contract_attempts import cached, cached_by_key
from millstream.testing.contract_backend.stage import BackendCase, Stage, with_settings
from millstream.testing.contract_tasks import ShopError
from millstream.testing.room import Room


class CacheContract(BackendCase):
    """The cache, which each process has for itself: with one slot one process executes the jobs."""

    @with_settings(max_segments=1)
    async def test_a_result_is_used_again_for_the_same_arguments(self, stage: Stage, room: Room) -> None:
        for x in ({"b": 1, "a": [2]}, {"a": [2], "b": 1}, [3]):
            assert await stage.run(cached, room.path, x) == x
        job = await stage.submit(cached, room.path, [3])
        assert await stage.drive(job.result()) == [3]
        assert len(room.notes()) == 2
        assert [node.attempt for node in await job.nodes()] == [0]
        assert "node_started" not in {event.type for event in await stage.events(job)}

    @with_settings(max_segments=1)
    async def test_a_cached_result_lasts_as_long_as_it_says(self, stage: Stage, room: Room) -> None:
        for _ in range(3):
            await stage.run(cached, room.path, 1)
            await stage.clock.advance(59)
        assert room.notes() == ["called 1", "called 1"]

    @with_settings(max_segments=1)
    async def test_a_key_of_one_s_own_decides_what_is_the_same(self, stage: Stage, room: Room) -> None:
        assert await stage.run(cached_by_key, room.path, 7) == "7 ok"
        assert await stage.run(cached_by_key, room.path, 7, how="shop") == "7 ok"
        assert await stage.run(cached_by_key, room.path, 8) == "8 ok"
        assert room.notes() == ["called 7 ok", "called 8 ok"]

    @with_settings(max_segments=1)
    async def test_a_failure_is_not_cached(self, stage: Stage, room: Room) -> None:
        with pytest.raises(ShopError):
            await stage.run(cached_by_key, room.path, 9, how="shop")
        assert await stage.run(cached_by_key, room.path, 9) == "9 ok"
