"""Flows that `crash_sweep` is tried on."""

import os
from typing import Any

from millstream import flow, task


@task
async def double(x: int) -> int:
    return 2 * x


@task(effect="once")
def pay(amount: int) -> str:
    return f"paid {amount}"


@flow
def order(count: int = 1) -> object:
    return pay(double(count))


@flow
async def haggle(offer: int) -> object:
    for _ in range(2):
        offer = await double(offer)
    return await pay(offer)


@task
def whoami() -> int:
    return os.getpid()


@flow
def moody() -> object:
    return whoami()


@task
def fail() -> None:
    raise ValueError("out of paper")


@flow
def broken() -> object:
    return fail()


@task(bind=True, effect="once")
def order_more(self: Any, count: int) -> None:
    self.update_state(state="ORDERING", meta=count)
    raise self.replace(double.s(count) | double.s())


@flow
def replaced(count: int = 1) -> object:
    return pay(order_more(count))
