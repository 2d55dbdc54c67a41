"""Run the examples of README.md and docs/, each document in a directory and processes of its own.

- A ```python block whose first line is `# name.py` is saved under that name and run as a program.
- All other ```python blocks of a document are one program, run after everything else; line numbers in a traceback are
  the document's.
- Of a ```console block the lines that start with `$ millstream ` or `$ curl ` are run in the shell and have to exit
  with 0. One that ends with ` &` goes on until the document ends. Lines `$ export NAME=value`, and `$ NAME=$(curl …)`,
  hold for what follows.
- Where a document runs `millstream serve &`, localhost:7860 is that server, on a port of its own.
- Where an HTML comment `runs with: broker` stands in a document, redis://localhost:6379 is a private server for it;
  with `runs with: broker, database` so is postgresql://millstream:secret@localhost:5432/millstream.
- A block right after an HTML comment `not run: reason` is left out.

`check_docs.py [DOCUMENT]...` runs these documents, or all of them.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the servers of the tests
TIMEOUT_SECONDS = 200

FENCE = re.compile(
    r"^ *(?P<fence>`{3,}|~{3,})(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *(?P=fence) *$", re.DOTALL | re.MULTILINE
)
COMMAND = re.compile(r"^\$ (?P<command>(?:millstream |export |curl |\w+=\$\(curl )(?:[^\n]*\\\n)*[^\n]*)", re.MULTILINE)
EXPORT = re.compile(r"export (?P<name>\w+)=(?P<value>\S+)")
ASSIGNMENT = re.compile(r"(?P<name>\w+)=\$\(curl ")
WITH_SERVERS = re.compile(r"<!--\s*runs with: (?P<names>\w+(?:, \w+)*)\s*-->")
BROKER = "redis://localhost:6379/"
DATABASE = "postgresql://millstream:secret@localhost:5432/millstream"
SERVES = "$ millstream serve &"
SERVER = "localhost:7860"
LEFT_OUT = re.compile(r"<!--\s*not run:\s*\S(?:(?!-->).)*-->\s*\Z", re.DOTALL)
FILE_NAME = re.compile(r"# (?P<name>\w+\.py)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced example: its language, its code, and the line of the document on which the code starts."""

    language: str
    code: str
    line: int

    @property
    def file_name(self) -> str | None:
        """The name under which the block is saved, when its first line says one."""
        match = FILE_NAME.match(self.code)
        return match["name"] if match else None

    @property
    def commands(self) -> list[tuple[int, str]]:
        """The command lines of a console block that are run, each with its line; a trailing backslash continues one."""
        return [
            (self.line + self.code.count("\n", 0, match.start()), match["command"].replace("\\\n", ""))
            for match in COMMAND.finditer(self.code)
        ]


def documents(root: Path = ROOT) -> list[Path]:
    """Return the documents whose examples are run."""
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def blocks(text: str) -> list[Block]:
    r"""Return the examples of a document that are to be run, in order.

    Example:
        >>> blocks("```python\nprint(1)\n```\n")
        [Block(language='python', code='print(1)\n', line=2)]
    """
    return [
        Block(match["language"], dedent(match["code"]), text.count("\n", 0, match.start("code")) + 1)
        for match in FENCE.finditer(text)
        if match["language"] in {"python", "console"} and not LEFT_OUT.search(text, 0, match.start())
    ]


def environment(home: Path) -> dict[str, str]:
    """Return the environment of an example: this interpreter's programs first, nobody's settings, a home of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MILLSTREAM_", "LANGFLOW_"))}
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    return kept | {"PATH": path, "HOME": str(home), "PYTHONWARNINGS": "error"}


def steps(text: str, work: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the document line and the command of each example, saving files in `work` on the way."""
    program = ""
    for block in blocks(text):
        if block.language == "console":
            yield from ((line, ["bash", "-euo", "pipefail", "-c", command]) for line, command in block.commands)
        elif block.file_name is None:
            program += "\n" * (block.line - 1 - program.count("\n")) + block.code
        else:
            (work / block.file_name).write_text(block.code, encoding="utf-8")
            yield block.line, [sys.executable, block.file_name]
    if program:
        (work / "document.py").write_text(program, encoding="utf-8")
        yield len(program) - len(program.lstrip("\n")) + 1, [sys.executable, "document.py"]


def failures(document: Path) -> list[str]:
    """Run one document's examples and return what failed, each as the place followed by the output."""
    found = []
    text = document.read_text(encoding="utf-8")
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="millstream-docs-")))
        for name in server_names(text):
            text = text.replace(*stack.enter_context(SERVERS[name]()))
        variables = environment(work)
        if SERVES in text:
            server = f"localhost:{free_port()}"
            text, variables["MILLSTREAM_PORT"] = text.replace(SERVER, server), server.partition(":")[2]
        for line, command in steps(text, work):
            shown = " ".join(command)
            if exported := EXPORT.fullmatch(command[-1]):
                variables[exported["name"]] = exported["value"]
            elif assigned := ASSIGNMENT.match(command[-1]):
                said = work / assigned["name"]
                command[-1] += f'; printf %s "${assigned["name"]}" > {said.name}'
                if outcome := failure(command, work, variables):
                    found.append(f"{document}:{line}: {shown}: {outcome}")
                else:
                    variables[assigned["name"]] = said.read_text(encoding="utf-8")
            elif command[-1].endswith(" &"):
                stack.enter_context(in_background([*command[:-1], f"exec {command[-1][:-2]}"], work, variables))
                if f"$ {command[-1]}" == SERVES:
                    wait_for(int(variables["MILLSTREAM_PORT"]))
            elif outcome := failure(command, work, variables):
                found.append(f"{document}:{line}: {shown}: {outcome}")
    return found


def server_names(text: str) -> list[str]:
    """Return the names of the servers that a document asks for.

    Example:
        >>> server_names("<!-- runs with: broker, database -->")
        ['broker', 'database']
    """
    asked = WITH_SERVERS.search(text)
    return asked["names"].split(", ") if asked else []


@contextmanager
def private_broker() -> Iterator[tuple[str, str]]:
    """Give what documents write, and the URL of a server of this document's own."""
    from tests.valkey import ValkeyServer  # noqa: PLC0415  only some documents need one

    with ValkeyServer() as server:
        yield BROKER, server.url.removesuffix("0")


@contextmanager
def private_database() -> Iterator[tuple[str, str]]:
    """Give what documents write, and the URL of a database of this document's own."""
    from tests.services import PostgresServer  # noqa: PLC0415  as above

    with PostgresServer() as server, server.database() as url:
        yield DATABASE, url


SERVERS = {"broker": private_broker, "database": private_database}


def free_port() -> int:
    """Return a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def wait_for(port: int) -> None:
    """Wait until something listens on a port.

    Raises:
        TimeoutError: Nothing does for too long.
    """
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


@contextmanager
def in_background(command: list[str], work: Path, variables: dict[str, str]) -> Iterator[None]:
    """Run a command beside what follows, such as a worker, and end it afterwards."""
    quiet = subprocess.DEVNULL
    settled = variables | {"PYTHONWARNINGS": "default"}  # Celery warns of workers that run as root, as in containers
    with subprocess.Popen(command, cwd=work, env=settled, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(TIMEOUT_SECONDS)


def failure(command: list[str], work: Path, variables: dict[str, str]) -> str | None:
    """Run one command and return what went wrong, or None."""
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"did not end within {TIMEOUT_SECONDS} s"
    return f"exit code {done.returncode}\n{done.stdout}" if done.returncode else None


def main(arguments: list[str]) -> int:
    """Run the documents, print what failed and return the exit code."""
    chosen = [Path(a).resolve() for a in arguments] or documents()
    found = [complaint for document in chosen for complaint in failures(document)]
    print("\n".join(found) or f"Docs: the examples of {len(chosen)} documents ran.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
