"""Both backends of `TaskService` do the same with all that workers can find by its name."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from millstream import JobCancelledError, Settings
from millstream.errors import DefinitionError, InvalidInputError, JobNotFoundError
from millstream.service import TaskService
from tests.integration import service_flows

MODULE = service_flows.__name__


@pytest.fixture(params=["anyio", "celery"])
async def service(request: pytest.FixtureRequest) -> AsyncIterator[TaskService]:
    if request.param == "anyio":
        settings = Settings.of(imports=MODULE)
    else:
        workers = request.getfixturevalue("redis_workers")
        workers.start(MODULE)
        settings = Settings.of(imports=MODULE, **workers.settings)
    async with TaskService(settings) as service:
        assert service.backend_name == request.param
        yield service


async def test_both_backends_tell_the_same_of_what_they_run(service: TaskService, tmp_path: Path) -> None:
    works: list[tuple[Any, object]] = [
        (service_flows.doubled, 8),
        (service_flows.doubled_later, 8),
        (service_flows.tripled, 12),
        (service_flows.both, [12, 24]),
        (service_flows.tripled.s(), 12),
        (service_flows.tripled.s() | service_flows.tripled.s(), 36),
    ]
    for work, expected in works:
        task_id, task = await service.launch_task(work, 4)
        assert await task == expected
        assert (task.id, task.status, task.result, task.ready()) == (task_id, "SUCCESS", expected, True)
        assert service.get_task(task_id) is task
        assert await service.revoke_task(task_id) is False

    _, failed = await service.launch_task(service_flows.failing)
    with pytest.raises(LookupError, match="nothing there"):
        await failed
    assert (failed.status, "in failing" in failed.traceback) == ("FAILURE", True)

    begun = tmp_path / "begun"
    task_id, endless = await service.launch_task(service_flows.endless, str(begun))
    async with asyncio.timeout(120):
        while not begun.exists():  # noqa: ASYNC110  a file tells nobody that it is there
            await asyncio.sleep(0.01)
    assert sorted(await asyncio.gather(*(service.revoke_task(task_id) for _ in range(5)))) == [False] * 4 + [True]
    assert endless.status == "REVOKED"
    with pytest.raises(JobCancelledError):
        await endless


async def test_both_backends_refuse_the_same(service: TaskService) -> None:
    with pytest.raises(InvalidInputError):
        await service.launch_task(service_flows.tripled, nothing="of the kind")
    with pytest.raises(DefinitionError, match="a function, a task, a flow or a signature is needed"):
        await service.launch_task("shop.pay")
    with pytest.raises(JobNotFoundError):
        await service.get_task("no such task").refresh()
    assert await service.revoke_task("no such task") is False
