"""Proof of life: a lock that a process holds as long as it lives, so that others on its machine see at once if it died.

The kernel releases a lock of `flock(2)` with its process, however that ends. A lock that can be taken therefore proves
that its holder is dead, without waiting for a lease to run out. Where there is no proof, the lease decides.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from contextlib import suppress
from pathlib import Path

from millstream.ledger.fork import call_in_child

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment, unused-ignore]  # which of the two it is depends on the platform

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def directory_beside(ledger: Path) -> Path:
    """Return where the members of a ledger in a file keep their locks and sockets.

    >>> directory_beside(Path("data/ledger.db")).name
    'ledger.db.members'
    """
    return ledger.with_name(f"{ledger.name}.members")


def directory_for(ledger: str) -> Path:
    """Return where the members of a ledger on a server keep their locks: a directory of this user, on this machine.

    Args:
        ledger: What names the ledger for all of its members, such as host, port and database.
    """
    root = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    digest = hashlib.sha256(ledger.encode()).hexdigest()[:16]
    return Path(root) / f"millstream-{os.getuid()}-{digest}"


class ProofOfLife:
    """The locks of one process's memberships, and the look at those of others.

    Args:
        directory: Where all members that share a machine keep them; it is made when it is needed.
        is_on: Whether to take locks at all; without, leases alone decide.

    Attributes:
        place: Names this machine since it was started; locks prove something there only. `None` where none are taken.
    """

    def __init__(self, directory: Path, *, is_on: bool = True) -> None:
        """Hold nothing yet."""
        self.place = _place() if is_on and fcntl is not None else None
        self._directory = directory
        self._held: dict[str, int] = {}
        if self.place is not None:
            call_in_child(self._drop)  # a child that kept the lock would hide the death of this process

    def begin(self, member: str) -> str | None:
        """Take the lock of a member, and return the place to record with it; `None` where it cannot be taken."""
        if self.place is None:
            return None
        try:
            _make_private(self._directory)
            held = os.open(self._file(member), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:  # nobody may write here: it is no reason not to work
            return None
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:  # a file system without locks
            os.close(held)
            return None
        self._held[member] = held
        return self.place

    def end(self, member: str) -> None:
        """Release a member's lock, when the ledger knows that it has left; does nothing the second time."""
        held = self._held.pop(member, None)
        if held is not None:
            self.forget(member)
            os.close(held)

    def is_dead(self, member: str, place: str | None) -> bool:
        """Whether it is proved that a member, which recorded this place, has died."""
        if self.place is None or place != self.place or member in self._held:
            return False
        try:
            seen = os.open(self._file(member), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a file that somebody deleted proves nothing
            return False
        try:
            fcntl.flock(seen, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: those who look do not see each other
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(seen)

    def forget(self, member: str) -> None:
        """Remove the file of a member whose death is recorded."""
        with suppress(OSError):
            self._file(member).unlink()

    def _file(self, member: str) -> Path:
        return self._directory / f"{member}.lock"

    def _drop(self) -> None:
        held, self._held = self._held, {}
        for descriptor in held.values():
            os.close(descriptor)


def _place() -> str:
    boot = _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else ""
    return f"{platform.node()}/{boot}"


def _make_private(directory: Path) -> None:
    """Make a directory that no other user can write to.

    Raises:
        PermissionError: There is one already, and it is another user's or open to others.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"{directory} is not this user's alone")
