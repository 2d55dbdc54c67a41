"""Flows read and write files below one directory; no name leads out of it."""

import os
import socket
import threading
from pathlib import Path

import pytest

from millstream import Millstream, Settings
from millstream.errors import OutputTooLargeError
from millstream.library.directory import MOST_BYTES, Directory
from millstream.library.files import file_read, file_write

OUTSIDE = [
    "../secret",
    "a/../../secret",
    "..",
    ".",
    "",
    "/",
    "/etc/passwd",
    "//etc/passwd",
    "a//b",
    "a/",
    "./a",
    "a/./b",
    "a\0b",
    "C:\\x",
    "a\\b",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "files"
    root.mkdir()
    (tmp_path / "secret").write_text("secret", encoding="utf-8")
    return root


@pytest.fixture
def directory(root: Path) -> Directory:
    return Directory(root)


def state_of(place: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in place.rglob("*") if path.is_file()}


async def test_what_one_flow_writes_another_reads_in_the_directory_of_the_settings(tmp_path: Path) -> None:
    settings = Settings(durability="off", files_dir=tmp_path / "here")
    async with Millstream(settings=settings) as app:
        written = await (await app.submit(file_write, "reports/2026/a.txt", {"rows": "ä"})).result()
        assert written == {"path": "reports/2026/a.txt", "size": 13}
        assert await (await app.submit(file_read, "reports/2026/a.txt")).result() == '{"rows":"ä"}'
    assert (tmp_path / "here" / "reports" / "2026" / "a.txt").stat().st_mode & 0o077 == 0


async def test_without_a_setting_files_lie_beside_the_ledger(tmp_path: Path) -> None:
    async with Millstream(settings=Settings(durability="off", config_dir=tmp_path)) as app:
        await (await app.submit(file_write, "a.txt", "x")).result()
    assert state_of(tmp_path) == {str(tmp_path / "files" / "a.txt"): b"x"}


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_path_that_leads_elsewhere_is_refused_and_nothing_is_touched(
    path: str, directory: Directory, tmp_path: Path
) -> None:
    before = state_of(tmp_path)
    with pytest.raises(ValueError, match="is no path below"):
        directory.read(path)
    with pytest.raises(ValueError, match="is no path below"):
        directory.write(path, b"x")
    assert state_of(tmp_path) == before


def test_a_name_that_is_only_encoded_is_a_name_like_any_other(directory: Directory, root: Path) -> None:
    directory.write("..%2fsecret", b"x")
    assert state_of(root) == {str(root / "..%2fsecret"): b"x"}


def test_no_link_is_followed(directory: Directory, root: Path, tmp_path: Path) -> None:
    (root / "to_file").symlink_to(tmp_path / "secret")
    (root / "to_folder").symlink_to(tmp_path)
    (root / "to_itself").symlink_to("to_itself")
    (root / "inside").symlink_to("real")
    (root / "real").write_text("x", encoding="utf-8")
    before = state_of(tmp_path)
    for path in ("to_file", "to_folder/secret", "to_itself", "inside"):
        with pytest.raises(ValueError, match="over a link"):
            directory.read(path)
        with pytest.raises(ValueError, match="over a link"):
            directory.write(path, b"y")
    assert state_of(tmp_path) == before


def test_a_link_that_comes_and_goes_never_leads_out(directory: Directory, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a").write_text("secret", encoding="utf-8")
    (root / "folder").mkdir()
    (root / "folder" / "a").write_text("public", encoding="utf-8")
    (root / "link").symlink_to(tmp_path / "outside")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "folder").rename(root / "aside")
            (root / "link").rename(root / "folder")
            (root / "folder").rename(root / "link")
            (root / "aside").rename(root / "folder")

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen = set()
    try:
        for _ in range(3000):
            try:
                seen.add(directory.read("folder/a"))
            except (ValueError, FileNotFoundError):
                continue
    finally:
        stop.set()
        swapping.join()
    assert seen == {b"public"}


def test_what_is_no_file_is_neither_read_nor_replaced(directory: Directory, root: Path) -> None:
    os.mkfifo(root / "pipe")
    (root / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(root)  # the path of a socket must be short
        listener.bind("socket")
        for path in ("pipe", "folder", "socket"):
            with pytest.raises(ValueError, match="is no file"):
                directory.read(path)
            with pytest.raises(ValueError, match="is no file"):
                directory.write(path, b"x")


def test_a_file_in_the_place_of_a_directory_is_told(directory: Directory) -> None:
    directory.write("a", b"x")
    with pytest.raises(ValueError, match="'a/b' leads over a link or a file"):
        directory.write("a/b", b"x")
    with pytest.raises(ValueError, match="'a/b' leads over a link or a file"):
        directory.read("a/b")


@pytest.mark.parametrize("path", ["none", "no/folder"])
def test_a_file_that_is_not_there_is_told_without_naming_a_place_of_the_machine(
    path: str, directory: Directory, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        directory.read(path)
    assert path in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


def test_a_name_that_is_too_long_is_told_without_naming_a_place_of_the_machine(
    directory: Directory, tmp_path: Path
) -> None:
    with pytest.raises(OSError, match="too long") as caught:
        directory.write("a" * 300, b"x")
    assert str(tmp_path) not in str(caught.value)


def test_files_have_a_most_size(directory: Directory, root: Path) -> None:
    directory.write("a", bytes(MOST_BYTES))
    assert len(directory.read("a")) == MOST_BYTES
    with pytest.raises(OutputTooLargeError, match="10 MiB"):
        directory.write("a", bytes(MOST_BYTES + 1))
    with (root / "a").open("ab") as file:
        file.write(b"x")
    with pytest.raises(OutputTooLargeError, match="10 MiB"):
        directory.read("a")


async def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xff")
    async with Millstream(settings=Settings(durability="off", files_dir=tmp_path)) as app:
        with pytest.raises(ValueError, match="no text in UTF-8"):
            await (await app.submit(file_read, "a")).result()


def test_whoever_reads_while_others_write_sees_one_whole_file(directory: Directory, root: Path) -> None:
    contents = [bytes([letter]) * 300_000 for letter in b"abcd"]
    directory.write("a", contents[0])

    def write(content: bytes) -> None:
        for _ in range(10):
            directory.write("a", content)

    writers = [threading.Thread(target=write, args=(content,)) for content in contents]
    for writer in writers:
        writer.start()
    while any(writer.is_alive() for writer in writers):
        assert directory.read("a") in contents
    for writer in writers:
        writer.join()
    assert [path.name for path in root.iterdir()] == ["a"]  # nothing unfinished is left


def test_a_write_that_fails_leaves_what_was_there(
    directory: Directory, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.write("a", b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        directory.write("a", b"new")
    assert state_of(root) == {str(root / "a"): b"old"}
