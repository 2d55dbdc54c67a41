"""Flows whose nodes are handed out, and the process that executes them without any broker."""

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from millstream import Millstream, Settings, chord, flow, task
from millstream.backends.role import Role
from millstream.model.policy import DEFAULT_QUEUE

NO_BROKER = "redis://127.0.0.1:1/0"


def app_on(place: Path | str, queues: Collection[str | None] | None = None, **settings: Any) -> Millstream:
    """Return an app that executes, and hands out, on a ledger; its broker is never there.

    Args:
        place: The directory that the ledger is in, or its URL.
        queues: What is executed, `None` among them for the default queue; `None`: all.
        settings: Further settings.
    """
    url = place if isinstance(place, str) else f"sqlite:///{place}/ledger.db"
    given = {"celery_enabled": True, "broker_url": NO_BROKER, "max_segments": 1, **settings}
    imports = ["tests.integration.handed_out_flows", "millstream.testing.contract_backend.handing_out"]
    app = Millstream(settings=Settings(database_url=url, **given), imports=imports, executes=True)
    app._home.employ(Role(executes=True, queues=queues))
    return app


async def serve(url: str, *queues: str) -> None:
    """Execute what is there, of these queues where there are any, until the process is killed."""
    async with app_on(url, [None if queue == DEFAULT_QUEUE else queue for queue in queues] or None):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def note(directory: str, *words: object) -> None:
    with (Path(directory) / "notes").open("a", encoding="utf-8") as notes:
        notes.write(f"{' '.join(map(str, words))}\n")


@task
def compute(_number: int, seconds: float) -> int:
    """Keep the interpreter busy, and return which process did."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(200))
    return os.getpid()


@task
def identity(number: int) -> int:
    return number


@task
def count(values: list[Any]) -> dict[Any, int]:
    return dict(Counter(values))


@task
def number_of(values: list[Any]) -> int:
    return len(values)


@task(run_in="worker")
def stay(directory: str, name: str) -> str:
    """Begin, and end once the file `go` is there."""
    note(directory, "begin", name, os.getpid())
    while not (Path(directory) / "go").exists():
        time.sleep(0.01)
    note(directory, "end", name, os.getpid())
    return name


@task(queue="heavy", effect="once")
def stay_once(directory: str, name: str) -> str:
    """Begin, and end once the file `go` is there; never twice."""
    return stay.fn(directory, name)


@task(run_in="process", queue="heavy")
def stay_apart(directory: str, name: str) -> str:
    """Begin, in a process of its own, and end once the file `go` is there."""
    note(directory, "begin", name, os.getpid())
    while not (Path(directory) / "go").exists():
        time.sleep(0.01)
    note(directory, "end", name, os.getpid())
    return name


@task(run_in="worker")
def die() -> None:
    """Kill the process that runs this."""
    os.kill(os.getpid(), signal.SIGKILL)


@task(run_in="worker")
def tell_process() -> int:
    """Return which process runs this."""
    return os.getpid()


@task(run_in="process")
def compute_apart(seconds: float) -> int:
    """Keep a process busy, and return which one had it started."""
    time.sleep(seconds)
    return os.getppid()


@flow
async def gives_up(directory: str, *, is_apart: bool) -> list[Any]:
    """Give up a call once others have begun it, and make another one."""
    call = asyncio.ensure_future((stay_apart if is_apart else stay.options(queue="heavy"))(directory, "a"))
    while not (Path(directory) / "notes").exists():  # noqa: ASYNC110  other processes make it
        await asyncio.sleep(0.01)
    call.cancel()
    await asyncio.wait({call})
    return [call.cancelled(), await tell_process.options(queue="heavy")()]


def computing(nodes: int, seconds: float) -> Any:
    return chord([compute.s(number, seconds) for number in range(nodes)], count.s())


def cheap(nodes: int) -> Any:
    return chord([identity.s(number) for number in range(nodes)], number_of.s())


@task(run_in="worker")
def identity_apart(number: int) -> int:
    return number


@flow
def wide(items: int) -> Any:
    return number_of(identity_apart.map(list(range(items))))


def staying(directory: Path, names: list[str]) -> Any:
    return chord([stay.s(str(directory), name) for name in names], number_of.s())


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))
