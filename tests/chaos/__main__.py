"""`make chaos ROUNDS=n SEED=s`: rounds on both databases, with proof of life and without, and their sum in a table."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import cycle, product
from pathlib import Path

from tests.chaos.rounds import Outcome, Round, Setup
from tests.chaos.witness import Witness
from tests.services import PostgresServer

DATABASES = ("sqlite", "postgresql")

_HEAD = (
    *("round", "seed", "  database", "flock", "lease", "processes"),
    *("kills", "in a node", "jobs", "violations", "seconds"),
)


def setups(options: argparse.Namespace, home: Path, server: PostgresServer, stack: ExitStack) -> Iterator[Setup]:
    """Yield how each round is played; the databases, with and without proof of life, take turns."""
    kinds = cycle(product(options.databases, (True, False)))
    for number, (database, has_proof) in zip(range(options.rounds), kinds, strict=False):
        place = home / str(number)
        place.mkdir()
        url = f"sqlite:///{place}/ledger.db" if database == "sqlite" else stack.enter_context(server.database())
        yield Setup(
            url=url,
            home=place,
            seed=options.seed + number,
            kills=options.kills,
            workers=1 + number % 3,
            has_proof=has_proof,
            lease=3.0 if has_proof else 1.0,
            action=options.action,
        )


def row(number: int, outcome: Outcome) -> tuple[object, ...]:
    """Return what became of a round, cell by cell."""
    setup = outcome.setup
    kind = (setup.url.partition(":")[0], "yes" if setup.has_proof else "no", f"{setup.lease:g}", setup.workers + 1)
    return (number, setup.seed, *kind, *figures([outcome]))


def figures(outcomes: Sequence[Outcome]) -> tuple[object, ...]:
    """Return the sums of rounds, cell by cell."""
    return (
        sum(one.kills for one in outcomes),
        sum(one.in_a_node for one in outcomes),
        sum(one.jobs for one in outcomes),
        sum(len(one.violations) for one in outcomes),
        f"{sum(one.seconds for one in outcomes):.1f}",
    )


def say(*cells: object) -> None:
    """Print a row of the table."""
    line = "  ".join(str(cell).rjust(max(len(name), 6)) for name, cell in zip(_HEAD, cells, strict=True))
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> int:
    """Play, print, and return 1 where something did not hold."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=100, help="per round")
    parser.add_argument("--action", choices=("kill", "term"), default="kill", help="what happens at crash points")
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=DATABASES)
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="millstream-chaos-"))
    outcomes: list[Outcome] = []
    with PostgresServer() as server, ExitStack() as stack:
        say(*_HEAD)
        for setup in setups(options, home, server, stack):
            outcomes.append(Round(setup).play())
            say(*row(len(outcomes), outcomes[-1]))
            sys.stdout.writelines(f"{' '.join(violation)}\n" for violation in outcomes[-1].violations[:20])
        deadlocks = Witness(server.url).count("SELECT sum(deadlocks) FROM pg_stat_database")
    say("sum", "", "", "", "", "", *figures(outcomes))
    points = sum((one.points for one in outcomes), Counter[str]())
    told = ", ".join(f"{name} {number}" for name, number in sorted(points.items()))
    sys.stdout.write(f"kills by point: {told}\ndeadlocks: {deadlocks}\nlogs: {home}\n")
    return 1 if deadlocks or any(one.violations for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
