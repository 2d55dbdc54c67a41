"""Hamilton: a function per node, found by its parameters' names; the asynchronous driver, or the plain one."""

from __future__ import annotations

import asyncio
import os
from importlib.metadata import version
from typing import Any, ClassVar

os.environ["HAMILTON_TELEMETRY_ENABLED"] = "false"

from hamilton import ad_hoc_utils, async_driver, driver

from benchmarks.shapes import Shape
from benchmarks.system import Once


class Hamilton:
    title = f"Hamilton {version('sf-hamilton')}"
    notes: ClassVar = {"plain": "calls them, without a thread"}

    def __init__(self) -> None:
        self._drivers: dict[str, Any] = {}

    async def open(self, shape: Shape) -> Once:
        if shape.name not in self._drivers:
            self._drivers[shape.name] = await built(shape)
        built_driver = self._drivers[shape.name]
        wanted = [f"n{node}" for node in shape.leaves]
        expected = dict.fromkeys(wanted, 1)

        async def run() -> None:
            assert await built_driver.execute(wanted) == expected

        async def run_plain() -> None:
            assert built_driver.execute(wanted) == expected

        async def many() -> None:
            await asyncio.gather(*(run() for _ in range(shape.jobs)))

        if shape.is_plain:
            return run_plain
        return run if shape.jobs == 1 else many

    async def close(self) -> None:
        pass


async def built(shape: Shape) -> Any:
    module = ad_hoc_utils.create_temporary_module(*_functions(shape), module_name=f"shape_{shape.name}")
    if shape.is_plain:
        return driver.Builder().with_modules(module).with_adapters(_as_dict()).build()
    return await async_driver.Builder().with_modules(module).build()


def _as_dict() -> Any:
    from hamilton.base import DictResult  # noqa: PLC0415  it takes pandas along

    return DictResult()


def _functions(shape: Shape) -> list[Any]:
    lines = ["import asyncio"]
    for node, sources in enumerate(shape.before):
        parameters = ", ".join(f"n{source}: int" for source in sources)
        lines.append(f"{'' if shape.is_plain else 'async '}def n{node}({parameters}) -> int:")
        if shape.wait_seconds:
            lines.append(f"    await asyncio.sleep({shape.wait_seconds})")
        lines.append("    return 1")
    names: dict[str, Any] = {}
    exec("\n".join(lines), names)  # noqa: S102  a function per node is how its graphs are written
    return [names[f"n{node}"] for node in range(len(shape.before))]
