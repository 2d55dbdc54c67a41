"""A flow's own durability goes before the setting: in the ledger that outlives the process, or in memory."""

from pathlib import Path
from typing import Any

import pytest

from millstream import Flow, Millstream, flow, task
from millstream.model.job import Durability
from millstream.settings import Settings


@task
def seven() -> int:
    return 7


@task
def unwritable() -> Any:
    return lambda: 7


def drawn(durability: Durability | None, work: Any = seven) -> Flow:
    @flow(durability=durability, name="it")
    def it() -> Any:
        return work()

    return it


async def kept(settings: Settings, job_id: str) -> bool:
    """Whether another process finds the job."""
    async with Millstream(settings=settings) as app:
        return job_id in {record.id for record in await app.jobs()}


def files_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


@pytest.mark.parametrize("setting", ["full", "relaxed", "off"])
@pytest.mark.parametrize("own", ["full", "relaxed", "off", None])
async def test_a_job_is_as_durable_as_its_flow_says_or_else_the_setting(
    own: Durability | None, setting: Durability
) -> None:
    settings = Settings(durability=setting)
    async with Millstream(settings=settings) as app:
        job = await app.submit(drawn(own))
        assert await job.result() == 7
        assert (await app.record(job.id)).durability == (own or setting)
    assert await kept(Settings(), job.id) == ((own or setting) != "off")


async def test_a_flow_of_durability_off_passes_on_what_cannot_be_written_down() -> None:
    async with Millstream(settings=Settings()) as app:
        job = await app.submit(drawn("off", unwritable))
        assert (await job.result())() == 7


async def test_where_nothing_is_durable_no_ledger_is_made(working_directory: Path) -> None:
    async with Millstream(settings=Settings(durability="off")) as app:
        await (await app.submit(drawn(None))).result()
    assert files_in(working_directory) == []
