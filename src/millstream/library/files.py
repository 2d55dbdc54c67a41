"""Reading and writing text files in the one directory that is there for flows."""

from __future__ import annotations

from typing import Any, TypedDict

from millstream.authoring import current
from millstream.authoring.task import task
from millstream.library.directory import Directory
from millstream.library.values import as_text


class Written(TypedDict):
    """What was written.

    Attributes:
        path: The file, below the directory.
        size: Bytes that it has.
    """

    path: str
    size: int


@task
def file_read(path: str) -> str:
    """Read a text file of the directory that the setting `files_dir` names.

    Args:
        path: The file below that directory, with `/` between its parts.

    Raises:
        ValueError: The path leads elsewhere, over a link, or to something that is no file; or it is no text in UTF-8.
        FileNotFoundError: There is no such file.
        OutputTooLargeError: It has more than 10 MiB.
    """
    path = as_text(path)
    content = _directory().read(path)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path!r} is no text in UTF-8: {error}") from None


@task
def file_write(path: str, text: Any) -> Written:
    """Write a text file in the directory that the setting `files_dir` names.

    A file that is there is replaced, as a whole or not at all. Directories on the way are made.

    Args:
        path: The file below that directory, with `/` between its parts.
        text: What to write: a text; of a message its text, of any other value its JSON form.

    Raises:
        ValueError: The path leads elsewhere, over a link, or to something that is no file.
        OutputTooLargeError: The text has more than 10 MiB.
    """
    path, content = as_text(path), as_text(text).encode()
    _directory().write(path, content)
    return Written(path=path, size=len(content))


def _directory() -> Directory:
    return Directory(current.app().settings.effective_files_dir)
