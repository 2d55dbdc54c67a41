"""A directory with a small shop, and a ledger in it that tests fill and the program looks after."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from textwrap import dedent
from typing import Any

from millstream import Millstream, task
from millstream.settings import Settings
from tests.integration.cli_program import millstream

FLOWS = """
    import asyncio
    import os
    from pathlib import Path

    from millstream import approval, flow, sleep, task

    async def told(name):
        while not Path(name).exists():
            await asyncio.sleep(0.005)

    def note(line):
        with Path("effects").open("a") as effects:
            effects.write(f"{line}\\n")

    @task(retries=1)
    def price(item: str) -> float:
        note(f"price {item}")
        return {"apple": 1.5, "pear": 2.0}[item]

    @task
    def total(prices: list) -> float:
        note("total")
        if not Path("open").exists():
            raise RuntimeError("the till is closed")
        return sum(prices)

    @flow
    def order(items: list[str] = ["apple", "pear"]):
        return total([price(item) for item in items])

    @task
    async def pack(until: str) -> str:
        Path("packing").touch()
        await told(until)
        return "packed"

    @flow
    def parcel(until: str):
        return pack(until)

    @task
    def send(answer) -> str:
        return f"sent: {answer}"

    @flow
    def delivery():
        return send(approval("send it?"))

    @flow
    def two():
        return [approval("this?", id="this"), approval("that?", id="that")]

    @flow
    def tomorrow():
        return sleep(86_400)

    @task(effect="once")
    async def pay() -> str:
        note("pay")
        if Path("dies").exists():
            os._exit(9)
        return "paid"

    @flow
    def payment():
        return send(pay())
"""


@task(name="shop.order")
def order(items: list[str]) -> list[str]:
    """Stand for the shop's flow of this name; no job of it is executed here."""
    return items


class Shop:
    """A working directory with `shop.py`, whose ledger is where it is by default."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "shop.py").write_text(dedent(FLOWS).lstrip("\n"), encoding="utf-8")

    def run(self, *arguments: str, **variables: str) -> Any:
        """Run the program to its end."""
        return millstream(*arguments, cwd=self.directory, **variables)

    def made(self, name: str, *arguments: str) -> str:
        """Run a flow of the shop to its end, and return its job's id."""
        done = self.run("run", f"shop.py:{name}", *arguments, "--json")
        job_id: str = json.loads(done.stdout)["job_id"]
        return job_id

    def told(self, *arguments: str) -> Any:
        """Return what a command tells as JSON."""
        return json.loads(self.run(*arguments, "--json").stdout)

    def listed(self, *options: str) -> list[Any]:
        """Return the jobs that are listed; none before there is a ledger."""
        told = self.run("jobs", "list", *options, "--json").stdout
        return json.loads(told) if told else []

    def lines(self, *arguments: str) -> list[Any]:
        """Return what a command tells as lines of JSON."""
        return [json.loads(line) for line in self.run(*arguments, "--json").stdout.splitlines()]

    def state(self, job_id: str) -> str:
        """Return where a job stands."""
        state: str = self.told("jobs", "show", job_id)["state"]
        return state

    def submitted(self, count: int, **options: Any) -> list[str]:
        """Submit jobs that wait for somebody to execute them, and return their ids, the oldest first."""

        async def submit() -> list[str]:
            settings = Settings(config_dir=self.directory / ".millstream")
            async with Millstream(settings=settings, executes=False) as app:
                jobs = await asyncio.gather(*(app.submit(order, items=["plum"], **options) for _ in range(count)))
                return sorted(job.id for job in jobs)

        return asyncio.run(submit())

    def effects(self) -> list[str]:
        """Return what the shop's tasks have done so far."""
        path = self.directory / "effects"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
