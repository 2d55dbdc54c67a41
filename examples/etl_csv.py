"""Extract, transform, load: a big CSV of orders, checked in parallel, summed up, and published or held back.

    millstream run examples/etl_csv.py
    millstream run examples/etl_csv.py -i rows=50000 -i bad_share=0.1 -i out=/tmp/orders

The flow makes its own orders, so it runs anywhere, and some rows are bad on purpose. It shows a map in processes, a
step that fails at first and is tried again, and a branch: with too many bad rows the result is quarantined.
"""

from __future__ import annotations

import csv
import json
import random
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from millstream import branch, ctx, fixed, flow, task

COLUMNS = ("order", "day", "country", "product", "quantity", "price")
COUNTRIES = ("AT", "BR", "CA", "DE", "FR", "IN", "JP", "KE", "US", "ZA")
PRODUCTS = ("anvil", "bellows", "chisel", "file", "hammer", "lathe", "saw", "vice")
FIRST_DAY = date(2025, 1, 1)
CHUNK = 4  # pieces of the file that share one hand-over to a process
REPORT_EVERY = 50_000
AMOUNT = re.compile(r"\d+\.\d\d")

SPOILED: dict[str, Callable[[list[str]], list[str]]] = {  # what is wrong with a row, and how to make it so
    "too few columns": lambda row: row[:-1],
    "no such day": lambda row: [row[0], "2025-02-30", *row[2:]],
    "unknown country": lambda row: [*row[:2], "XX", *row[3:]],
    "quantity is not positive": lambda row: [*row[:4], "-1", row[5]],
    "price is no amount": lambda row: [*row[:5], "n/a"],
}


class ServiceUnavailableError(Exception):
    """Raised when the list of countries cannot be had at the moment."""


@dataclass
class Orders:
    """What is in one piece of the file, or in all of it.

    Attributes:
        good: Rows that passed.
        bad: Rows that did not, each as (order, reason, what it says).
        cents: Turnover by country and product.
    """

    good: int = 0
    bad: list[tuple[str, str, str]] = field(default_factory=list)
    cents: Counter[tuple[str, str]] = field(default_factory=Counter)


# ------------------------------------------------------------------------------------------------------ extract
@task
def open_output(out: str | None) -> str:
    """Return the directory for all files, made if need be."""
    directory = Path(out) if out else Path(tempfile.mkdtemp(prefix="orders-"))
    directory.mkdir(parents=True, exist_ok=True)
    return str(directory)


@task(run_in="process")
def make_orders(directory: str, rows: int, bad_share: float, seed: int) -> str:
    """Write a file of orders, and return its path; the same seed makes the same file."""
    chance = random.Random(seed)  # noqa: S311  no secrets are made of it
    path = Path(directory, "orders.csv")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(1, rows + 1):
            row = _make_row(number, chance)
            if chance.random() < bad_share:
                row = SPOILED[chance.choice(list(SPOILED))](row)
            writer.writerow(row)
            if number % REPORT_EVERY == 0:
                ctx.progress(number, rows, f"{number:,} orders written")
    return str(path)


def _make_row(number: int, chance: random.Random) -> list[str]:
    return [
        str(number),
        str(FIRST_DAY + timedelta(days=chance.randrange(365))),
        chance.choice(COUNTRIES),
        chance.choice(PRODUCTS),
        str(chance.randint(1, 20)),
        f"{chance.randint(1, 500)}.{chance.randint(0, 99):02}",
    ]


@task(retries=4, retry_backoff=0.05, retry_for=ServiceUnavailableError)
def fetch_countries(outages: int) -> list[str]:
    """Ask another service for the countries that there are; it fails as often as `outages` says."""
    if ctx.attempt <= outages:
        raise ServiceUnavailableError(f"503, attempt {ctx.attempt}")
    return list(COUNTRIES)


@task
def split(path: str, piece_bytes: int) -> list[tuple[int, int]]:
    """Return where pieces of the file begin and end, in bytes; each begins and ends with whole rows."""
    pieces = []
    with Path(path).open("rb") as file:
        file.readline()  # the names of the columns
        while file.peek(1):
            begin = file.tell()
            file.seek(begin + piece_bytes)
            file.readline()
            pieces.append((begin, file.tell()))
    return pieces


# ---------------------------------------------------------------------------------------------------- transform
@task(run_in="process")
def check(piece: tuple[int, int], path: str, countries: list[str]) -> Orders:
    """Check the rows of one piece, and sum up the good ones."""
    begin, end = piece
    with Path(path).open("rb") as file:
        file.seek(begin)
        lines = file.read(end - begin).decode().splitlines()
    found, known = Orders(), frozenset(countries)
    for row in csv.reader(lines):
        reason = _fault(row, known)
        if reason:
            found.bad.append((row[0], reason, ",".join(row)))
        else:
            _, _, country, product, quantity, price = row
            found.good += 1
            found.cents[country, product] += int(quantity) * int(price.replace(".", ""))
    return found


def _fault(row: list[str], countries: frozenset[str]) -> str | None:
    """Return what is wrong with a row, if anything."""
    if len(row) != len(COLUMNS):
        return "too few columns" if len(row) < len(COLUMNS) else "too many columns"
    _, day, country, _, quantity, price = row
    if not _is_day(day):
        return "no such day"
    if country not in countries:
        return "unknown country"
    if not quantity.isdecimal() or int(quantity) == 0:
        return "quantity is not positive"
    if not AMOUNT.fullmatch(price):
        return "price is no amount"
    return None


def _is_day(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


@task
def join(pieces: list[Orders]) -> Orders:
    """Put the pieces together."""
    whole = Orders()
    for piece in pieces:
        whole.good += piece.good
        whole.bad += piece.bad
        whole.cents += piece.cents
    return whole


# --------------------------------------------------------------------------------------------------------- load
@task
def is_too_bad(orders: Orders, threshold: float) -> bool:
    """Decide whether too many rows are bad."""
    rows = orders.good + len(orders.bad)
    share = len(orders.bad) / rows if rows else 0.0
    ctx.log(f"{share:.2%} of {rows:,} rows are bad", level="warning" if share > threshold else "info")
    return share > threshold


@task
def publish(orders: Orders, directory: str) -> str:
    """Write the results where others look for them."""
    return _write(orders, Path(directory, "published"))


@task
def quarantine(orders: Orders, directory: str) -> str:
    """Write the results where somebody has to look at them first."""
    return _write(orders, Path(directory, "quarantine"))


def _write(orders: Orders, directory: Path) -> str:
    directory.mkdir(exist_ok=True)
    Path(directory, "summary.json").write_text(json.dumps(_sums(orders), indent=2), encoding="utf-8")
    with Path(directory, "bad_rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("order", "reason", "row"))
        writer.writerows(orders.bad)
    return str(directory)


def _sums(orders: Orders) -> dict[str, Any]:
    countries: Counter[str] = Counter()
    products: Counter[str] = Counter()
    for (country, product), cents in orders.cents.items():
        countries[country] += cents
        products[product] += cents
    return {
        "good_rows": orders.good,
        "turnover": _amount(orders.cents.total()),
        "by_country": {name: _amount(cents) for name, cents in countries.most_common()},
        "by_product": {name: _amount(cents) for name, cents in products.most_common()},
    }


def _amount(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


@task
def report(orders: Orders, written: str) -> dict[str, Any]:
    """Say what became of the rows."""
    return {
        "rows": orders.good + len(orders.bad),
        "good": orders.good,
        "bad": len(orders.bad),
        "reasons": dict(Counter(reason for _, reason, _ in orders.bad).most_common()),
        "turnover": _amount(orders.cents.total()),
        "decision": Path(written).name,
        "written": written,
    }


@flow
def etl_csv(
    rows: int = 300_000,
    bad_share: float = 0.01,
    threshold: float = 0.05,
    outages: int = 1,
    out: str | None = None,
    seed: int = 7,
    piece_bytes: int = 200_000,
) -> Any:
    """Make a file of orders, check and sum it up, and publish the result if the data is good enough.

    Args:
        rows: How many orders to make.
        bad_share: Share of them that is made bad, 0 to 1.
        threshold: With a higher share of bad rows the result is not published.
        outages: How often the list of countries cannot be had at first, 0 to 4.
        out: Directory for all files; by default a new temporary one.
        seed: For the orders' random values.
        piece_bytes: About how much of the file is checked at a time.
    """
    directory = open_output(out)
    path = make_orders(directory, rows, bad_share, seed)
    pieces = check.options(chunk=CHUNK).map(split(path, piece_bytes), fixed(path), fixed(fetch_countries(outages)))
    orders = join(pieces)
    written = branch(
        is_too_bad(orders, threshold),
        lambda: quarantine(orders, directory),
        lambda: publish(orders, directory),
    )
    return report(orders, written)


if __name__ == "__main__":
    print(json.dumps(etl_csv.run(), indent=2))
