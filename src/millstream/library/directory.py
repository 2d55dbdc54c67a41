"""A directory whose files are reached by names from outside, and nothing beside them.

A path is walked part by part from the open directory, and no link is followed: what a name stands for is decided by the
kernel as it is opened, so that nobody can put a link in its place between a check and the use.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from millstream.errors import OutputTooLargeError

MOST_BYTES = 10 << 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would let us wait for who writes to it
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ONLY_OURS = 0o600
_ONLY_OUR_FOLDER = 0o700


class Directory:
    """The files below a directory, which is made when something is written.

    Args:
        root: The directory.
    """

    def __init__(self, root: Path) -> None:
        """Open nothing yet."""
        self._root = root

    def read(self, path: str) -> bytes:
        """Return what is in a file.

        Raises:
            ValueError: The path leads out of the directory, over a link, or to something that is no file.
            FileNotFoundError: There is no such file.
            OutputTooLargeError: It has more than `MOST_BYTES`.
        """
        *folders, name = parts(path)
        with (
            _told(path),
            self._folder(folders, is_made=False) as folder,
            os.fdopen(os.open(name, _READ, dir_fd=folder), "rb") as file,
        ):
            _need_file(os.fstat(file.fileno()), path)
            content = file.read(MOST_BYTES + 1)
        _check_size(content, path)
        return content

    def write(self, path: str, content: bytes) -> None:
        """Put a file there, in place of the one that is; as a whole or not at all, whatever happens meanwhile.

        Raises:
            ValueError: The path leads out of the directory, over a link, or to something that is no file.
            OutputTooLargeError: The content has more than `MOST_BYTES`.
        """
        *folders, name = parts(path)
        _check_size(content, path)
        self._root.mkdir(mode=_ONLY_OUR_FOLDER, parents=True, exist_ok=True)
        with _told(path), self._folder(folders, is_made=True) as folder:
            with suppress(FileNotFoundError):
                _need_file(os.stat(name, dir_fd=folder, follow_symlinks=False), path)
            unfinished = f".{secrets.token_hex(8)}.unfinished"
            try:
                with os.fdopen(os.open(unfinished, _WRITE, _ONLY_OURS, dir_fd=folder), "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(unfinished, dir_fd=folder)
                raise
            os.fsync(folder)

    @contextmanager
    def _folder(self, folders: list[str], *, is_made: bool) -> Iterator[int]:
        """Open the folder in which a file is, one after the other of those on the way."""
        here = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # it may itself be reached by a link
        try:
            for folder in folders:
                if is_made:
                    with suppress(FileExistsError):
                        os.mkdir(folder, _ONLY_OUR_FOLDER, dir_fd=here)
                below = os.open(folder, _FOLDER, dir_fd=here)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)


def parts(path: str) -> list[str]:
    r"""Return the names of which a path consists.

    Raises:
        ValueError: It leads out of the directory, or has a part that is no name.

    >>> parts("reports/2026.txt")
    ['reports', '2026.txt']
    """
    names = path.split("/")
    if any(name in ("", ".", "..") for name in names) or "\\" in path or "\0" in path:
        raise ValueError(f"{path!r} is no path below the directory of files; give one as in reports/2026.txt")
    return names


def _need_file(found: os.stat_result, path: str) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise ValueError(f"{path!r} leads over a link, which is not followed")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path!r} is no file")


def _check_size(content: bytes, path: str) -> None:
    if len(content) > MOST_BYTES:
        raise OutputTooLargeError(f"{path!r} has more than the {MOST_BYTES >> 20} MiB that a file may have")


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Say what the kernel refuses in the words of the path that was given: it names no place of this machine."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path!r}") from None
    except OSError as error:
        match error.errno:
            case errno.ELOOP | errno.ENOTDIR:
                raise ValueError(f"{path!r} leads over a link or a file, and not to a file in a directory") from None
            case errno.EISDIR | errno.ENXIO:
                raise ValueError(f"{path!r} is no file") from None
            case _:
                raise type(error)(error.errno, error.strerror, path) from None
