"""Flows that the tests of several server processes run: each node tells where it runs, and waits where it is held."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from millstream import ctx, flow, task


@task
async def step(before: int, home: str, tokens: int) -> int:
    """Tell tokens that name the process, note that it began, wait while it is held, and note that it is done.

    It is held while the file `hold-<number>` is in `home`. What it notes is in `effects`, a line each.
    """
    number = before + 1
    _note(home, f"began {number} {os.getpid()}")
    for index in range(tokens):
        ctx.emit("token", {"chunk": f"{number}.{index}@{os.getpid()} "})
        await asyncio.sleep(0)
    while Path(home, f"hold-{number}").exists():  # noqa: ASYNC110, ASYNC240  whoever lets go is another process
        await asyncio.sleep(0.01)
    _note(home, f"done {number} {os.getpid()}")
    return number


@flow
def walk(home: str, steps: int = 4, tokens: int = 3) -> Any:
    """Go some steps, one after the other."""
    number: Any = 0
    for _ in range(steps):
        number = step(number, home, tokens)
    return number


@task
async def speak_on(home: str) -> int:
    """Tell a token each 20 ms, numbered, until the file `enough` is in `home`."""
    number = 0
    while not Path(home, "enough").exists():  # noqa: ASYNC240  as above
        ctx.emit("token", {"chunk": f"{number}@{os.getpid()} "})
        number += 1
        await asyncio.sleep(0.02)
    return number


@flow
def speech(home: str) -> Any:
    """Speak until it is enough."""
    return speak_on(home)


def _note(home: str, line: str) -> None:
    with Path(home, "effects").open("a", encoding="utf-8") as effects:
        effects.write(f"{line}\n")
