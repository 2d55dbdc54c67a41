"""Server processes on one ledger, as their users start them, which a test kills, stops and ends one by one.

They are started as separate programs, each with a port of its own, or as the workers of one Gunicorn, on one port.
Tests say which process they talk to in both cases: the kernel tells whose the other end of a connection is.
"""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeVar

import httpx

from millstream.server.flows.python import id_of
from tests.celery_workers import environment
from tests.chaos.witness import Witness, pid_of
from tests.lifeline import await_end, children, die_with_parent, free_port, is_gone, send

PATIENCE = 120.0
PASSWORD = "correct horse battery staple"  # noqa: S105  of a user who lives as long as a test
FLOWS = "tests.server.fleet_flows"
WITHOUT_PROOF = "from millstream.ledger import proof; proof.fcntl = None"
"""A change with which a process holds no lock as proof of life, as on another machine; its lease has to run out."""

Kind = Literal["separate", "gunicorn"]
T = TypeVar("T")


class Combination(NamedTuple):
    """What several server processes may be made of.

    Attributes:
        kind: How they are started.
        queue: What carries events from one to another: `asyncio` (the ledger) or `redis`.
        ledger: `sqlite` or `postgresql`.
    """

    kind: Kind
    queue: Literal["asyncio", "redis"]
    ledger: Literal["sqlite", "postgresql"]


_PROGRAM = "import sys; from millstream.cli.program import main; sys.exit(main())"
_READY = r"✓ millstream is ready at (http://\S+)"
_DEFAULTS = {
    "imports": FLOWS,
    "superuser": "admin",
    "superuser_password": PASSWORD,
    "auto_login": "false",
    "drain_grace": "5",
    "disconnect_grace": "60",
}
_PROBES = 1000
_CONTEXT = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Nobody uses it; a client that is given none reads all certificates of the machine first: 30 ms."""


class ServerProcess:
    """One process that answers requests.

    Attributes:
        pid: Its id.
        url: Where it answers; with Gunicorn, where all answer.
    """

    def __init__(self, pid: int, url: str, program: subprocess.Popen[bytes] | None = None) -> None:
        self.pid, self.url, self._program = pid, url, program

    @property
    def is_gone(self) -> bool:
        """Whether it has ended."""
        return is_gone(self.pid)

    def send(self, how: signal.Signals) -> None:
        """Send it a signal."""
        send(how, self.pid)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        self.send(signal.SIGKILL)
        self.wait()

    def resume(self) -> None:
        """Let it go on."""
        self.send(signal.SIGCONT)

    def ask_to_stop(self) -> None:
        """Ask it to end in order."""
        self.send(signal.SIGTERM)

    def stop(self) -> None:
        """End it in order, and wait until it is gone."""
        self.ask_to_stop()
        self.wait()

    def wait(self) -> None:
        """Wait until it has ended."""
        if self._program is None:
            until(lambda: self.is_gone)  # a child of Gunicorn, which collects it
        else:
            self._program.wait(PATIENCE)

    def __repr__(self) -> str:
        """Return a form that tells which it is."""
        return f"<ServerProcess {self.pid} at {self.url}{', gone' if self.is_gone else ''}>"


class Fleet:
    """Server processes that share a ledger. Use it as a context manager: at the end they are killed.

    Args:
        home: An empty directory: they run there, and their logs lie there.
        settings: Settings of millstream by their names, beyond those that make a server for tests; `database_url` is
            needed.
        kind: Whether each is a program of its own, or all are workers of one Gunicorn.
        size: How many there are.
        changes: Lines of Python that each program runs before anything else, such as `WITHOUT_PROOF`.
        variables: Environment variables as they are, beyond those of the settings.

    Attributes:
        settings: Their settings.
        url: Where the ledger lies.
        witness: Looks into its tables.
    """

    def __init__(
        self,
        home: Path,
        settings: Mapping[str, str],
        *,
        kind: Kind = "separate",
        size: int = 3,
        changes: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Start nothing yet."""
        self.home, self.kind, self.size = home, kind, size
        self.settings = {**_DEFAULTS, **settings}
        self._changes, self._variables = tuple(changes), dict(variables or {})
        self._programs: list[subprocess.Popen[bytes]] = []
        self._alone: list[ServerProcess] = []
        self._port = 0
        self._token, self._signing_in = "", threading.Lock()
        self.url = settings["database_url"]
        self.witness = Witness(self.url)

    def __enter__(self) -> Self:
        """Start them all, and wait until they answer."""
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        """Kill them all."""
        self.close()

    # ------------------------------------------------------------------------------------------------- processes
    def start(self) -> None:
        """Start as many as there are to be, and wait until they answer."""
        if self.kind == "gunicorn":
            self._port = free_port()
            arguments = ("--port", str(self._port), "--workers", str(self.size))
            self._launch(*arguments, settings={"gunicorn_preload": "true"})
        self.heal()

    @contextmanager
    def another(
        self,
        settings: Mapping[str, str] | None = None,
        changes: Sequence[str] = (),
    ) -> Iterator[ServerProcess]:
        """Start one more program of its own, which may differ from the others; at the end it is killed."""
        program = self._launch("--port", "0", settings=settings, changes=changes)
        try:
            started = self._ready(program)
            self._alone.append(started)
            yield started
        finally:
            program.kill()
            program.wait(PATIENCE)

    def heal(self) -> None:
        """Start those that are missing, and wait until they answer."""
        for process in self.processes():
            process.resume()
        if self.kind == "gunicorn":
            self.await_size()
        else:
            missing = [self._launch("--port", "0") for _ in range(self.size - len(self.processes()))]
            self._alone += [self._ready(program) for program in missing]

    def await_size(self, size: int | None = None) -> list[ServerProcess]:
        """Wait until so many live and take part in the ledger, and return them."""

        def complete() -> list[ServerProcess] | None:
            self._check()
            found = self.processes()
            return found if len(found) == (size or self.size) else None

        return until(complete, lambda: f"{self.processes()}, {self.said()}")

    @property
    def master(self) -> int:
        """Gunicorn's own process, which answers no requests."""
        return self._programs[0].pid

    def processes(self) -> list[ServerProcess]:
        """Return those that live; of Gunicorn's workers, those that take part in the ledger."""
        alone = [process for process in self._alone if not process.is_gone]
        if self.kind != "gunicorn":
            return alone
        url = f"http://127.0.0.1:{self._port}"
        try:
            members = set(self.witness.members())
        except Exception:  # noqa: BLE001  of either database: the ledger is not there yet, or the server is away
            members = set()
        return [ServerProcess(pid, url) for pid in children(self.master) if pid in members] + alone

    def close(self) -> None:
        """Kill all of them."""
        for program in self._programs:
            left = [program.pid, *children(program.pid)]
            send(signal.SIGKILL, *left)
            program.wait(PATIENCE)
            for pid in left[1:]:
                send(signal.SIGKILL, pid)
                await_end(pid)

    def said(self) -> str:
        """Return what they said so far."""
        logs = sorted(self.home.glob("server-*.log"))
        return "\n".join(f"{log.name}:\n{log.read_text(encoding='utf-8', errors='replace')[-4000:]}" for log in logs)

    # ----------------------------------------------------------------------------------------------------- talking
    def client(self, process: ServerProcess | None = None, timeout: float = PATIENCE) -> httpx.Client:
        """Return a client, signed in as the superuser, all of whose requests one process answers, one at a time.

        Args:
            process: Which one; the first by default.
            timeout: Seconds until a request that nobody answers fails.
        """
        process = process or self.processes()[0]
        others = self.kind == "gunicorn" and process not in self._alone
        transport = _Pinned(process.pid) if others else _transport()
        headers = {"Authorization": f"Bearer {self._signed_in(process)}"}
        return httpx.Client(base_url=process.url, headers=headers, transport=transport, timeout=timeout)

    def _signed_in(self, process: ServerProcess) -> str:
        """Return a token of the superuser; it is good for all processes, so there is one sign-in.

        It is one also for several threads: more at a time are too many for the server.
        """
        with self._signing_in:
            if not self._token:
                form = {"username": self.settings["superuser"], "password": self.settings["superuser_password"]}
                answer = httpx.post(f"{process.url}/api/v1/login", data=form, timeout=PATIENCE, verify=_CONTEXT)
                assert answer.status_code == 200, answer.text
                self._token = answer.json()["access_token"]
            return self._token

    # ------------------------------------------------------------------------------------------------------- jobs
    def build(self, flow: str, process: ServerProcess | None = None, **inputs: Any) -> str:
        """Begin a build of one of `fleet_flows`, and return its job's id."""
        with self.client(process) as client:
            return build(client, flow, **inputs)

    def holder(self, job_id: str) -> ServerProcess:
        """Wait until a process runs a job, and return it."""

        def holder() -> ServerProcess | None:
            held = self.witness.rows(
                f"SELECT holder FROM millstream_segment WHERE job = '{job_id}' AND holder IS NOT NULL"  # noqa: S608  ours
            )
            pids = {pid_of(one) for (one,) in held}
            return next((process for process in self.processes() if process.pid in pids), None)

        return until(holder, self.said)

    def others(self, *but: ServerProcess) -> list[ServerProcess]:
        """Return the processes that live, but for some."""
        pids = {process.pid for process in but}
        return [process for process in self.processes() if process.pid not in pids]

    def state(self, job_id: str) -> str:
        """Return how a job stands, as the ledger has it."""
        ((state,),) = self.witness.rows(f"SELECT state FROM millstream_job WHERE id = '{job_id}'")  # noqa: S608  ours
        return str(state)

    def await_end(self, job_id: str) -> str:
        """Wait until a job has ended, and return how."""

        def ended() -> str | None:
            state = self.state(job_id)
            return state if state in {"succeeded", "failed", "cancelled"} else None

        return until(ended, lambda: f"{self.state(job_id)}\n{self.said()}")

    # --------------------------------------------------------------------------------------------------- starting
    def _launch(
        self,
        *arguments: str,
        settings: Mapping[str, str] | None = None,
        changes: Sequence[str] = (),
    ) -> subprocess.Popen[bytes]:
        code = "\n".join((*self._changes, *changes, _PROGRAM))
        given = environment({**self.settings, **(settings or {})}) | self._variables
        with self._log(len(self._programs)).open("wb") as log:
            program = subprocess.Popen(
                [sys.executable, "-P", "-c", code, "serve", *arguments],
                env=given,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=die_with_parent,  # noqa: PLW1509  the tests' threads hold no lock that it takes
            )
        self._programs.append(program)
        return program

    def _log(self, number: int) -> Path:
        return self.home / f"server-{number}.log"

    def _ready(self, program: subprocess.Popen[bytes]) -> ServerProcess:
        """Wait until a program of its own says where it answers."""
        log = self._log(self._programs.index(program))

        def address() -> str | None:
            self._check(program)
            found = re.search(_READY, log.read_text(encoding="utf-8", errors="replace"))
            return found and found[1]

        return ServerProcess(program.pid, until(address, self.said), program)

    def _check(self, program: subprocess.Popen[bytes] | None = None) -> None:
        assert (program or self._programs[0]).poll() is None, self.said()


class _Pinned(httpx.BaseTransport):
    """Sends all requests to one of the processes that listen on one port.

    Each new connection is taken by any of them. Before each request it is looked whose the other end of the present one
    is, and connections are made until it is the one that is meant.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._inner = _transport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(_PROBES):
            probe = httpx.Request("GET", request.url.copy_with(raw_path=b"/health"), extensions=request.extensions)
            answer = self._inner.handle_request(probe)
            try:
                local = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
                answer.read()
            finally:
                answer.close()
            is_last = answer.headers.get("Connection") == "close"  # its process is about to end
            if has_connection(self._pid, local) and not is_last:
                return self._inner.handle_request(request)
            self._inner.close()
            self._inner = _transport()
            if is_gone(self._pid):
                raise httpx.ConnectError(f"process {self._pid} is gone", request=request)
        raise httpx.ConnectError(f"process {self._pid} takes no connection", request=request)

    def close(self) -> None:
        self._inner.close()


def _transport() -> httpx.HTTPTransport:
    return httpx.HTTPTransport(verify=_CONTEXT, limits=httpx.Limits(max_connections=1))


def has_connection(pid: int, port: int) -> bool:
    """Whether a process has the end of a connection whose other end, on this machine, has a port."""
    inodes = set()
    for kind in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{kind}").read_text(encoding="ascii").splitlines()[1:]:
            fields = line.split()
            if int(fields[2].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    links = []
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                links.append(str(descriptor.readlink()))
    return not inodes.isdisjoint(links)


def build(client: httpx.Client, flow: str, **inputs: Any) -> str:
    """Begin a build of one of `fleet_flows`, and return its job's id."""
    answer = client.post(f"/api/v1/build/{id_of(f'{FLOWS}.{flow}')}/flow", json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    job_id: str = answer.json()["job_id"]
    return job_id


def until(what: Callable[[], T | None], else_: Callable[[], str] = lambda: "it never came to be so") -> T:
    """Wait until something is so, and return what it gave."""
    end = time.monotonic() + PATIENCE
    while not (found := what()):
        assert time.monotonic() < end, else_()
        time.sleep(0.01)
    return found


def effects(home: Path) -> list[tuple[str, int, int]]:
    """Return what the steps of a walk noted: `began` or `done`, the number of the step, and in which process."""
    path = home / "effects"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(what, int(number), int(pid)) for what, number, pid in map(str.split, lines)]


def hold(home: Path, number: int) -> Path:
    """Let the walks of a directory wait in a step, until the file that is returned is removed."""
    held = home / f"hold-{number}"
    held.touch()
    return held
