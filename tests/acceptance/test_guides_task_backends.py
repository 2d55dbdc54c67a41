"""What a guide to task backends tells its readers to type works here, with other import lines."""

import asyncio
import importlib
import sys
import time
import uuid
from pathlib import Path

import pytest

from millstream.service import TaskService, get_settings_service

EXAMPLE = """
from millstream.service import TaskService
from millstream.service import get_settings_service

settings = get_settings_service()
task_service = TaskService(settings)

async def process_data(x: int) -> int:
    return x * 2

async def main():
    task_id = await task_service.fire_and_forget_task(process_data, 5)
    print(f"Launched task {task_id} using backend: {task_service.backend_name}")
    return task_id

import asyncio
task_id = asyncio.run(main())
"""


def test_the_first_example_prints_a_uuid_and_the_backend_in_process(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, str] = {"__name__": "guide"}
    exec(EXAMPLE, names)  # noqa: S102  the reader's script
    told = capsys.readouterr().out
    assert str(uuid.UUID(names["task_id"])) == names["task_id"]
    assert told == f"Launched task {names['task_id']} using backend: anyio\n"


async def test_the_default_backend_is_the_one_in_process() -> None:
    settings_service = get_settings_service()
    assert settings_service.settings.celery_enabled is False
    task_service = TaskService(settings_service)
    assert task_service.use_celery is settings_service.settings.celery_enabled
    assert type(task_service.get_backend()).__name__ == "AnyIOBackend"


WORKER = """
from millstream.compat import Celery

celery_app = Celery("worker")
"""

TASKS = """
from worker import celery_app

@celery_app.task
def heavy_computation(x: int) -> int:
    import time
    time.sleep(5)  # Simulate intensive processing

    return x ** 3
"""


async def test_a_task_registered_with_a_celery_app_is_handed_to_the_service(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    (tmp_path / "guide_tasks.py").write_text(TASKS, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    heavy_computation = importlib.import_module("guide_tasks").heavy_computation
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    async with TaskService(get_settings_service()) as task_service:
        task_id = await task_service.fire_and_forget_task(heavy_computation, 4)
        assert await task_service.get_task(task_id) == 64
    assert 5 in slept
    for name in ("worker", "guide_tasks"):
        del sys.modules[name]


async def test_a_task_can_be_cancelled_by_its_id(
    capsys: pytest.CaptureFixture[str],
) -> None:
    began, stopped = asyncio.Event(), asyncio.Event()

    async def run() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    async with TaskService(get_settings_service()) as task_service:
        task_id = await task_service.fire_and_forget_task(run)
        await began.wait()
        if await task_service.revoke_task(task_id):
            print("Task cancelled successfully")  # noqa: T201  the guide's example
        assert stopped.is_set()
    assert capsys.readouterr().out == "Task cancelled successfully\n"


def in_config_file(monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001  one of two ways
    Path("config.yaml").write_text('celery_enabled: true\nredis_url: "redis://localhost:6379/0"\n', encoding="utf-8")


def in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGFLOW_CELERY_ENABLED", "true")
    monkeypatch.setenv("LANGFLOW_REDIS_URL", "redis://localhost:6379/0")


@pytest.mark.parametrize("configure", [in_config_file, in_environment])
async def test_the_two_lines_that_turn_celery_on_give_the_backend_on_celery(
    monkeypatch: pytest.MonkeyPatch, configure: object
) -> None:
    assert callable(configure)
    configure(monkeypatch)
    task_service = TaskService(get_settings_service())
    assert (task_service.backend_name, task_service.use_celery) == ("celery", True)
    assert type(task_service.get_backend()).__name__ == "CeleryBackend"
    await task_service.stop()
