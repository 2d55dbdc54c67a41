"""What a user's module has, for servers that load it."""

from __future__ import annotations

from typing import Any

from millstream import flow, task


@task
def price(item: str, rebate: float = 0.0) -> float:
    return (1 - rebate) * len(item)


@flow
def order(items: list[str], rebate: float = 0.0) -> Any:
    """Add up what an order costs.

    And more words.
    """
    return price.map(items, rebate=rebate)
