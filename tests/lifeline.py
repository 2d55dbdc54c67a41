"""What a private server of the tests needs, whichever it is: a directory, a port, a user, an end with its starter."""

from __future__ import annotations

import ctypes
import fcntl
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from millstream import points

_ROOT = Path(__file__).resolve().parents[1]
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>
_END_SECONDS = 120.0
_PORTS = range(15_000, 32_000)
_claims: list[socket.socket] = []


def free_port() -> int:
    """Return a port on which nobody listens, and that nobody else is given for as long as this process lives.

    It lies below those that the system chooses for connections: one of these could have the port of a server that is
    just being started again. Other processes of the tests see it taken by a name that goes with this process.
    """
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        claim = socket.socket(socket.AF_UNIX)
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
                if sys.platform == "linux":
                    claim.bind(f"\0millstream-tests-{port}")
            except OSError:
                claim.close()
                continue
        _claims.append(claim)
        return port
    raise RuntimeError(f"none of the ports {_PORTS.start} to {_PORTS.stop - 1} is free")


def end_with_parent(how: signal.Signals = signal.SIGQUIT) -> None:
    """Let this new process end when the one that started it does, however that ends: a `preexec_fn`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, how, 0, 0, 0)


def die_with_parent() -> None:
    """As `end_with_parent`, for what takes its time over every other signal: a `preexec_fn`."""
    end_with_parent(signal.SIGKILL)


def ordinary_user() -> int | None:
    """Return as whom a server runs that refuses to run as root; `None` stands for the present user."""
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def new_home(prefix: str, parent: Path | None = None) -> tuple[Path, BinaryIO]:
    """Make a directory that the server's user may write to; unless it is said where, in memory if possible.

    With it comes a file in it that is locked for as long as this process lives. What processes that were killed left
    behind is removed.
    """
    fast = Path("/dev/shm")  # noqa: S108  the directory in it is made under a new name, for one user only
    parent = parent or (fast if os.access(fast, os.W_OK) else Path(tempfile.gettempdir()))
    for left in parent.glob(f"millstream-{prefix}*/lock"):
        with suppress(OSError), left.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left.parent)
    home = Path(tempfile.mkdtemp(prefix=f"millstream-{prefix}", dir=parent))
    lock = (home / "lock.new").open("wb")
    fcntl.flock(lock, fcntl.LOCK_EX)
    (home / "lock.new").rename(home / "lock")  # locked before anybody can find it
    user = ordinary_user()
    if user is not None:
        os.chown(home, user, -1)
    return home, lock


def descriptors(pid: int) -> Iterator[tuple[int, str]]:
    """Yield what a process has open, each with its number; what it closes meanwhile is left out."""
    for one in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            yield int(one.name), str(one.readlink())


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that are still there."""
    found: list[int] = []
    with suppress(OSError):  # of each of its threads
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (thread / "children").read_text(encoding="ascii").split())
    return found


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, those that these have started, and so on."""
    return [found for child in children(pid) for found in (child, *descendants(child))]


def stopped_family(pid: int) -> list[int]:
    """Stop a process, which starts no more from then on, and return it with its descendants."""
    send(signal.SIGSTOP, pid)
    _await_standstill(pid)
    return [pid, *descendants(pid)]


def send(how: signal.Signals, *pids: int) -> None:
    """Send a signal to those of the processes that are still there."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, how)


def stop_between_writes(ledger: Path, *pids: int) -> None:
    """Stop processes where they are, while none of them writes to a ledger in a file.

    One that is stopped in the middle of a write keeps everybody else from writing until it goes on.
    """
    with ledger.with_name(f"{ledger.name}.lock").open("rb+") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        send(signal.SIGSTOP, *pids)
        _await_standstill(*pids)


def _await_standstill(*pids: int) -> None:
    until = time.monotonic() + _END_SECONDS
    while not all(map(_stands_still, pids)):
        if time.monotonic() > until:
            raise RuntimeError(f"not all of the processes {pids} stand still")
        time.sleep(0.002)


def stop_at(point: str, nth: int, url: str) -> None:
    """Have this process stopped where it reaches a crash point for the n-th time, but not while it writes a record.

    With a ledger in a file another process does that: who keeps itself from writing keeps all others from it.

    Args:
        point: One of `points.POINTS`; none within a write.
        nth: From 1.
        url: The ledger's.
    """
    reached = count(1)

    def reach(name: str) -> None:
        if name != point or next(reached) != nth:
            return
        if url.startswith("sqlite"):
            stop = f"stop_between_writes(Path({url.removeprefix('sqlite:///')!r}), {os.getpid()})"
            code = f"from pathlib import Path; from tests.lifeline import stop_between_writes; {stop}"
            subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(_ROOT)})
        else:
            os.kill(os.getpid(), signal.SIGSTOP)

    points.arm(reach)


def _stands_still(pid: int) -> bool:
    """Whether all threads of a process are stopped, or it has ended."""
    threads = Path(f"/proc/{pid}/task")
    try:
        return all(_state(thread / "stat") in "TZX" for thread in threads.iterdir())
    except OSError:
        return is_gone(pid)


def await_end(pid: int) -> None:
    """Wait until a process has ended."""
    until = time.monotonic() + _END_SECONDS
    while not is_gone(pid):
        if time.monotonic() > until:
            raise RuntimeError(f"process {pid} does not end")
        time.sleep(0.002)


def is_gone(pid: int) -> bool:
    """Whether a process has ended, even if nobody has asked how."""
    try:
        return _state(Path(f"/proc/{pid}/stat")) in "ZX"
    except OSError:
        return True


def _state(stat: Path) -> str:
    return stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0]
