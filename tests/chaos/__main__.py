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
from typing import Any

from tests.chaos.celery_rounds import CeleryRound, CelerySetup
from tests.chaos.fleet_rounds import FleetRound, FleetSetup
from tests.chaos.rounds import Outcome, Round, Setup
from tests.chaos.soak import Soak, tell
from tests.chaos.witness import Witness
from tests.rabbitmq import RabbitMQServer
from tests.services import PostgresServer
from tests.valkey import ValkeyServer

DATABASES = ("sqlite", "postgresql")
POOLS = ("prefork", "async")
UNDER = ("apart", "gunicorn")
QUEUES = ("redis", "asyncio")
BROKERS: dict[str, type[ValkeyServer | RabbitMQServer]] = {"redis": ValkeyServer, "rabbitmq": RabbitMQServer}

_HEAD = (
    *("round", "seed", "  database", "flock", "lease", "processes", "executed by"),
    *("kills", "in a node", "jobs", "violations", "seconds"),
)


def rounds(options: argparse.Namespace, home: Path, server: PostgresServer, stack: ExitStack) -> Iterator[Round]:
    """Yield the rounds; brokers, pools, databases, with and without proof of life, take turns."""
    places = [(name, pool) for name in options.brokers for pool in (options.pools if name != "none" else ("",))]
    kinds = cycle(product(options.databases, (True, False), places))
    for number, (database, has_proof, (broker, pool)) in zip(range(options.rounds), kinds, strict=False):
        place = home / str(number)
        place.mkdir()
        url = f"sqlite:///{place}/ledger.db" if database == "sqlite" else stack.enter_context(server.database())
        how: dict[str, Any] = {
            "url": url,
            "home": place,
            "seed": options.seed + number,
            "kills": options.kills,
            "has_proof": has_proof,
            "lease": 3.0 if has_proof else 1.0,
        }
        if options.servers:
            yield from fleet_rounds(options, number, stack, how)
        elif broker == "none":
            yield Round(Setup(workers=1 + number % 3, action=options.action, **how))
        else:
            with BROKERS[broker]() as started:
                yield CeleryRound(CelerySetup(workers=2, broker=started, pool=pool, **how))


def fleet_rounds(options: argparse.Namespace, number: int, stack: ExitStack, how: dict[str, Any]) -> Iterator[Round]:
    """Yield a round with server processes; event logs, and ways to start the processes, take turns."""
    turns = list(product(options.under, options.queues))
    under, queue = turns[(number + number // 4) % len(turns)]  # each with each database, and with and without proof
    redis = stack.enter_context(ValkeyServer()) if queue == "redis" else None
    yield FleetRound(FleetSetup(workers=options.servers, under=under, redis=redis, **how))


def soak(options: argparse.Namespace, home: Path, server: PostgresServer, stack: ExitStack) -> int:
    """Play a soak on the last database that is named, with the last event log; return 1 if something did not hold."""
    is_redis, is_postgres = options.queues[-1] == "redis", options.databases[-1] == "postgresql"
    setup = FleetSetup(
        url=stack.enter_context(server.database()) if is_postgres else f"sqlite:///{home}/ledger.db",
        home=home,
        seed=options.seed,
        kills=0,
        workers=options.servers or 3,
        redis=stack.enter_context(ValkeyServer()) if is_redis else None,
    )
    played = Soak(setup, options.soak)
    outcome = played.play()
    tell(played, outcome)
    return 1 if outcome.violations else 0


def row(number: int, outcome: Outcome) -> tuple[object, ...]:
    """Return what became of a round, cell by cell."""
    setup = outcome.setup
    kind = (
        setup.url.partition(":")[0],
        "yes" if setup.has_proof else "no",
        f"{setup.lease:g}",
        setup.workers + 1,
        setup.executor,
    )
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
    parser.add_argument("--brokers", nargs="+", choices=("none", *BROKERS), default=("none",), help="of Celery workers")
    parser.add_argument("--pools", nargs="+", choices=POOLS, default=POOLS, help="of Celery workers")
    parser.add_argument("--servers", type=int, default=0, help="processes of `serve`, which get their load over HTTP")
    parser.add_argument("--under", nargs="+", choices=UNDER, default=UNDER, help="whose children they are")
    parser.add_argument("--queues", nargs="+", choices=QUEUES, default=QUEUES, help="their event logs")
    parser.add_argument("--soak", type=int, default=0, metavar="JOBS", help="in place of rounds: one with so many jobs")
    options = parser.parse_args()
    home = Path(tempfile.mkdtemp(prefix="millstream-chaos-"))
    outcomes: list[Outcome] = []
    with ExitStack() as stack:
        server = PostgresServer()
        is_used = "postgresql" in options.databases
        if is_used:
            stack.enter_context(server)
        if options.soak:
            return soak(options, home, server, stack)
        say(*_HEAD)
        for played in rounds(options, home, server, stack):
            outcomes.append(played.play())
            say(*row(len(outcomes), outcomes[-1]))
            sys.stdout.writelines(f"{' '.join(violation)}\n" for violation in outcomes[-1].violations[:20])
        deadlocks = Witness(server.url).count("SELECT sum(deadlocks) FROM pg_stat_database") if is_used else 0
    say("sum", "", "", "", "", "", "", *figures(outcomes))
    points = sum((one.points for one in outcomes), Counter[str]())
    told = ", ".join(f"{name} {number}" for name, number in sorted(points.items()))
    sys.stdout.write(f"kills by point: {told}\ndeadlocks: {deadlocks}\nlogs: {home}\n")
    return 1 if deadlocks or any(one.violations for one in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
