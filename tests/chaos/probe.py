"""What the kernel tells of a process: its memory, descriptors, threads, and connections to a server on this machine."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Sample(NamedTuple):
    """What a process holds.

    Attributes:
        memory: Resident memory, in KiB.
        descriptors: Open descriptors.
        threads: Threads.
    """

    memory: int
    descriptors: int
    threads: int


def sample(pid: int) -> Sample:
    """Return what a process holds now.

    Raises:
        OSError: It is gone.
    """
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
    return Sample(int(found["VmRSS"]), len(list(Path(f"/proc/{pid}/fd").iterdir())), int(found["Threads"]))


def connections(pid: int, port: int) -> int:
    """Return how many connections a process has to a port of this machine."""
    sockets = set()
    for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if int(fields[2].rpartition(":")[2], 16) == port and fields[3] == "01":  # established
            sockets.add(f"socket:[{fields[9]}]")
    links = []
    with suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                links.append(str(descriptor.readlink()))
    return len(sockets.intersection(links))


def session(leader: int) -> list[int]:
    """Return the processes of a session, but for its leader."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] not in "ZX" and int(stat.parent.name) != leader:
                found.append(int(stat.parent.name))
    return found
