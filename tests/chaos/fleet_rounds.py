"""A round of chaos with server processes: they, Redis and connections to the database fail under load over HTTP."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import psycopg

from millstream.cli.exits import Exit
from millstream.testing.history import Died
from millstream.testing.invariants import Violation, violations
from tests.chaos import children, probe
from tests.chaos.crowd import LATE, CrowdPlan, digest_of_event, lines_of, live
from tests.chaos.fault_rounds import STILL_SECONDS, FaultRound
from tests.chaos.rounds import Child, Setup
from tests.chaos.told import ToldLog, misread, outdated
from tests.chaos.verdict import history
from tests.lifeline import await_end, free_port, is_gone, send
from tests.lifeline import children as children_of
from tests.valkey import ValkeyServer

FAULTS = {
    "server": 10,
    "any server": 1,
    "busy servers": 2,
    "master": 1,
    "term": 1,
    "stop": 1,
    "redis": 1,
    "flush": 1,
    "pause": 1,
    "cut": 1,
}
"""What happens in turn, and how often: a server process is killed with a node running, or whatever it does, or all are
that have a node running; so is Gunicorn's master; one is ended in order; one stands still for longer than its lease;
Redis is killed and starts empty, forgets everything, or stands still; all connections to PostgreSQL are cut."""

REDIS_CONNECTIONS = 4
"""How many a process may have."""

REDIS_DATABASE = 1
"""Where the event log is."""

_CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
    "AND pid <> pg_backend_pid()"
)
_OF_BUSY = ("server", "busy servers", "term", "stop")
_DESCRIPTORS, _THREADS = 60, 60
_DRAIN_SECONDS = 180.0
_REST_SECONDS = 90.0
_LOOK_SECONDS = 0.01
_OPEN_JOBS = 32


@dataclass(frozen=True, kw_only=True)
class FleetSetup(Setup):
    """How a round with server processes is played.

    Attributes:
        under: Whether each process is a program of its own, on a port of its own, or all are workers of one Gunicorn.
        redis: The event log's server; nobody else uses it. Without, each process has its own event log.
    """

    under: Literal["apart", "gunicorn"] = "apart"
    redis: ValkeyServer | None = None

    @property
    def queue(self) -> str:
        """The event log, as the setting `job_queue_type` names it."""
        return "asyncio" if self.redis is None else "redis"

    @property
    def executor(self) -> str:
        """What executes, in a word."""
        return f"serve/{self.queue}" if self.under == "apart" else f"gunicorn/{self.queue}"


class FleetRound(FaultRound):
    """Plays one round.

    Args:
        setup: How; `workers` is the number of server processes.
    """

    _orderly = (*children.ORDERLY, Exit.UNAVAILABLE)  # whose connections were cut while it started
    """As in `Round`."""

    def __init__(self, setup: FleetSetup) -> None:
        """Prepare; nothing is started."""
        super().__init__(setup)
        self._fleet = setup
        self._ports = {free_port(): 0 for _ in range(setup.workers if setup.under == "apart" else 1)}
        home = setup.home
        self._crowd = CrowdPlan(tuple(self._ports), setup.seed, _OPEN_JOBS, home, home / "stop")

    # ------------------------------------------------------------------------------------------------- processes
    def _run(self) -> None:
        left: list[int] = []
        try:
            self._fill(is_armed=False)
            self._kill_until_enough()
            self._do_what_is_due(at_once=True)
            self._drain()
            left = self._end_servers()
        finally:
            for child in self._children:
                send(signal.SIGKILL, *probe.session(child.pid))
        for pid in left:
            self._outcome.violations.append(Violation("I15", "", f"process {pid} outlived its Gunicorn"))

    def _fill(self, *, is_armed: bool) -> None:  # noqa: ARG002  what dies here is killed from outside
        """Replace who is missing."""
        living = {child.pid for child in self._children}
        for port, pid in self._ports.items():
            if pid not in living and not (pid and probe.session(pid)):  # what is left of a Gunicorn has the port
                self._ports[port] = self._start("server", partial(children.serve, port, self._size))
        if not any(child.kind == "crowd" for child in self._children) and not self._plan.stop.exists():
            self._start("crowd", self._lives())

    def _lives(self) -> Callable[[], None]:
        """Return what the crowd does."""
        return partial(live, self._crowd)

    @property
    def _size(self) -> int:
        return 1 if self._fleet.under == "apart" else self._fleet.workers

    def _start(self, kind: str, work: Callable[[], None]) -> int:
        pid = self._fork(work, None)
        self._children.append(Child(kind, pid, "", time.monotonic()))
        return pid

    def _further_variables(self) -> dict[str, str]:
        redis = self._fleet.redis
        return {
            "MILLSTREAM_CONFIG_DIR": str(self._setup.home),
            "MILLSTREAM_AUTO_LOGIN": "true",
            "MILLSTREAM_DISCONNECT_GRACE": "30",
            "MILLSTREAM_JOB_QUEUE_TYPE": self._fleet.queue,
            "MILLSTREAM_REDIS_QUEUE_URL": "" if redis is None else redis.url_of(REDIS_DATABASE),
            "GUNICORN_CMD_ARGS": "--max-requests 400 --max-requests-jitter 200",
        }

    def _servers(self) -> list[int]:
        """Return the processes that answer requests."""
        mains = [child.pid for child in self._children if child.kind == "server"]
        if self._fleet.under == "apart":
            return mains
        return [pid for main in mains for pid in children_of(main) if not is_gone(pid)]

    # ------------------------------------------------------------------------------------------------------ faults
    def _faults(self) -> Sequence[str]:
        left_out: set[str] = {"master"} if self._fleet.under == "apart" else set()
        left_out |= {"redis", "flush", "pause"} if self._fleet.redis is None else set()
        left_out |= set() if self._witness.is_postgres else {"cut"}
        return [fault for fault, times in FAULTS.items() if fault not in left_out for _ in range(times)]

    def _happens(self, fault: str) -> bool:
        """Let something happen, if servers enough are there to go on."""
        servers = self._servers()
        busy = [pid for pid in servers if self._effects.is_busy(pid)]
        chosen = busy if fault in _OF_BUSY else servers
        if not chosen or len(servers) < min(2, self._fleet.workers):
            return False
        pid = self._chance.choice(chosen)
        with (self._setup.home / "faults").open("a", encoding="utf-8") as file:
            file.write(f"{time.monotonic():.3f} {fault} {pid}\n")
        match fault:
            case "server" | "any server":
                self._kill(pid, is_busy=pid in busy)
            case "busy servers":
                for one in busy:
                    self._kill(one, is_busy=True)
            case "master":
                self._kill_master()
            case _:
                self._strike(fault, pid)
                self._outcome.points[fault] += 1
        return True

    def _strike(self, fault: str, pid: int) -> None:
        """Let something happen that kills no server process."""
        redis = self._fleet.redis
        match fault:
            case "term":
                send(signal.SIGTERM, pid)
            case "stop":
                send(signal.SIGSTOP, pid)
                self._at(self._setup.lease + STILL_SECONDS, partial(send, signal.SIGCONT, pid))
            case "redis" if redis is not None:
                redis.kill()
                redis.start()
            case "flush" if redis is not None:
                redis.resume()
                redis.flush()
            case "pause" if redis is not None:
                redis.pause()
                self._at(STILL_SECONDS, redis.resume)
            case "cut":
                with psycopg.connect(self._setup.url, autocommit=True) as connection:
                    connection.execute(_CUT)

    def _kill(self, pid: int, *, is_busy: bool) -> None:
        self._deaths.put(Died(pid=pid))
        send(signal.SIGKILL, pid)
        for child in [child for child in self._children if child.pid == pid]:
            self._children.remove(child)
            os.waitpid(pid, 0)
        self._count("server process", is_busy=is_busy)

    def _kill_master(self) -> None:
        """Kill Gunicorn's own process; its workers see to themselves."""
        for child in [child for child in self._children if child.kind == "server"]:
            self._children.remove(child)
            is_busy = any(self._effects.is_busy(pid) for pid in children_of(child.pid))
            send(signal.SIGKILL, child.pid)
            os.waitpid(child.pid, 0)
            self._count("master", is_busy=is_busy)

    # ----------------------------------------------------------------------------------------------------- the end
    def _drain(self) -> None:
        """Let everything come to its end, under processes that nobody kills."""
        self._plan.stop.touch()
        end = time.monotonic() + _DRAIN_SECONDS
        while any(child.kind == "crowd" for child in self._children):
            self._fill(is_armed=False)
            self._bury()
            if time.monotonic() > end:
                self._outcome.violations.append(Violation("I2", "", "the readers did not come to an end"))
                return
            time.sleep(_LOOK_SECONDS)
        self._find_what_is_left()

    def _find_what_is_left(self) -> None:
        """Look what processes and Redis hold once nobody asks anything any more."""
        until = time.monotonic() + _REST_SECONDS
        while (left := self._left_over()) and time.monotonic() < until:
            time.sleep(10 * _LOOK_SECONDS)
        self._outcome.violations += [Violation("I15", "", what) for what in left]

    def _left_over(self) -> list[str]:
        left = []
        redis = self._fleet.redis
        for pid in self._servers():
            held = probe.sample(pid)
            if held.descriptors > _DESCRIPTORS:
                left.append(f"process {pid} has {held.descriptors} descriptors")
            if held.threads > _THREADS:
                left.append(f"process {pid} has {held.threads} threads")
            if redis is not None and (number := probe.connections(pid, redis.port)) > REDIS_CONNECTIONS:
                left.append(f"process {pid} has {number} connections to Redis")
        if redis is not None:
            left += [f"the key {key} has no TTL" for key in self._keys_without_ttl(redis)]
        return left

    def _keys_without_ttl(self, redis: ValkeyServer) -> list[str]:
        """Return the keys of jobs that stay in Redis for ever."""
        jobs = {job for (job,) in self._witness.rows("SELECT id FROM millstream_job")}
        with redis.client(REDIS_DATABASE) as client:
            staying = [key.decode() for key in client.scan_iter(count=1000) if client.ttl(key) == -1]
        return [key for key in staying if not jobs.isdisjoint(re.split("[:{}]", key))]

    def _end_servers(self) -> list[int]:
        """End the servers in order, and return whoever outlives them."""
        mains = [child for child in self._children if child.kind == "server"]
        sessions = {pid for child in mains for pid in probe.session(child.pid)}
        for child in mains:
            send(signal.SIGTERM, child.pid)
        for child in mains:
            _, status = os.waitpid(child.pid, 0)
            self._children.remove(child)
            self._note_death(child, status, was_busy=False)
        left = []
        for pid in sessions:
            try:
                await_end(pid)
            except RuntimeError:
                left.append(pid)
        return left

    def _judge(self) -> None:
        home = self._setup.home
        judged = history(self._witness, [home / name for name in ("client", "effects", "deaths")], digest_of_event)
        self._outcome.jobs = len(judged.dump.jobs)
        found = self._outcome.violations
        found += violations(judged)
        found += outdated(judged)
        found += misread(ToldLog(home / "told").read(), LATE)
        found += [Violation("HTTP", "", line) for line in lines_of(home / "refused")]
        asked = set(lines_of(home / "asked"))
        for row in judged.dump.jobs:
            if row.state == "cancelled" and row.id not in asked:
                found.append(Violation("I12", row.id, "it was cancelled, and nobody asked for it"))

    def _forget(self) -> None:
        """Keep it; other rounds see to that."""
