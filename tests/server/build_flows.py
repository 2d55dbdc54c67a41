"""Flows that the tests of builds run, written in Python."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from millstream import ctx, flow, task


@task
async def speak(text: str, words: int) -> str:
    for number in range(words):
        ctx.emit("token", {"chunk": f"{text}{number} "})
    return text * 2


@task
async def finish(text: str) -> str:
    return f"<{text}>"


@flow
def talk(input_value: str = "hi", words: int = 3) -> Any:
    return finish(speak(speak(input_value, words), words))


@task
async def wait_for_ever() -> None:
    await asyncio.sleep(3600)


@flow
def endless() -> Any:
    return wait_for_ever()


@task
async def pass_gate(path: str) -> str:
    while not Path(path).exists():  # noqa: ASYNC110, ASYNC240  whoever opens it is another process
        await asyncio.sleep(0.01)
    return "open"


@flow
def gated(path: str) -> Any:
    return pass_gate(path)


@task
async def break_down(text: str) -> str:
    raise ValueError(f"no {text}")


@flow
def broken(input_value: str = "bread") -> Any:
    return finish(break_down(input_value))


@task
async def pour(megabytes: int) -> int:
    for _ in range(megabytes * 64):
        ctx.emit("token", {"chunk": "x" * 16_000})
        await asyncio.sleep(0)
    return megabytes


@flow
def flood(megabytes: int = 1) -> Any:
    return pour(megabytes)


@task
async def drip() -> None:
    while True:
        ctx.emit("token", {"chunk": "drop "})
        await asyncio.sleep(0.05)


@flow
def dripping() -> Any:
    return drip()


@task
async def write(size: int) -> str:
    return "x" * size


@flow
def large(size: int) -> Any:
    return write(size)


@task
async def count_stars() -> int:
    return 2**70


@flow
def count() -> Any:
    return count_stars()
