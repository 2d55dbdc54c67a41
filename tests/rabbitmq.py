"""A private RabbitMQ: a node of its own on free ports, which tests may stop, kill and pause."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from tests.lifeline import await_end, children, die_with_parent, free_port, new_home, ordinary_user, send

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0
_PLUGINS = "[rabbitmq_management].\n"  # its HTTP API takes 10 ms for what rabbitmqctl needs seconds for
_CONFIG = """\
listeners.tcp.local = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http_port}
log.console.level = warning
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 1MB
"""


class RabbitMQServer:
    """A RabbitMQ node from Debian's package, started as an ordinary user by the scripts in its own folder.

    Debian's commands in /usr/sbin work for root and the user rabbitmq alone, and for the machine's own node.

    Attributes:
        port: Where it listens for AMQP, on 127.0.0.1 only; the same after each start.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self._http_port = free_port()
        self._epmd_port = free_port()
        self._dist_port = free_port()
        self._home: Path | None = None
        self._lock: BinaryIO | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its first virtual host is."""
        return self.url_of("/")

    @property
    def log(self) -> str:
        """What it said so far."""
        path = self._made_home() / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def url_of(self, vhost: str) -> str:
        """Return the URL of one of its virtual hosts."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

    def start(self) -> None:
        """Start it, and wait until it answers; one that runs already stays as it is."""
        if self._process is not None:
            return
        home = self._made_home()
        if self._epmd is None:  # else the node starts one, which would outlive it
            self._epmd = self._spawn(home, "epmd", "-port", str(self._epmd_port))
        self._process = self._spawn(home, str(_scripts() / "rabbitmq-server"))
        self._await_answer(self._process)

    def stop(self) -> None:
        """Stop it in order, which takes some seconds; one that does not run is left alone."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it with all its processes, as a crash would; durable messages are there when it starts again."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it where it is: connections stay open, and nobody answers."""
        if self._process is not None:
            send(signal.SIGSTOP, self._process.pid)

    def resume(self) -> None:
        """Let it go on."""
        if self._process is not None:
            send(signal.SIGCONT, self._process.pid)

    def raise_alarm(self) -> None:
        """Let it say that its memory is full: it takes nothing any more from those who publish."""
        self._evaluate("vm_memory_monitor:set_vm_memory_high_watermark(0.0)")

    def end_alarm(self) -> None:
        """Let it take messages again."""
        self._evaluate("vm_memory_monitor:set_vm_memory_high_watermark({absolute, 536870912})")

    @contextmanager
    def vhost(self) -> Iterator[str]:
        """Give a new, empty virtual host, as a URL, and drop it afterwards with whatever is still connected."""
        name = f"t{uuid.uuid4().hex}"
        self.call("PUT", f"vhosts/{name}", {})
        self.call("PUT", f"permissions/{name}/guest", {"configure": ".*", "write": ".*", "read": ".*"})
        try:
            yield self.url_of(name)
        finally:
            self.resume()
            self.start()
            self.call("DELETE", f"vhosts/{name}")

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Call its HTTP API, and return what it answers.

        Raises:
            urllib.error.HTTPError: It refused.
        """
        request = Request(
            f"http://127.0.0.1:{self._http_port}/api/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": "Basic " + base64.b64encode(b"guest:guest").decode(),
                "Content-Type": "application/json",
            },
        )
        with urlopen(request, timeout=10) as answer:  # noqa: S310  as above
            text = answer.read()
        return json.loads(text) if text else None

    def close(self) -> None:
        """End it at once, and remove its data."""
        self._end(signal.SIGKILL)
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None
        if self._home is not None:
            shutil.rmtree(self._home)
            self._home = None
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _made_home(self) -> Path:
        """Return its directory; on first use it is made, with its configuration in it."""
        if self._home is None:
            self._home, self._lock = new_home("rabbitmq-")
            config = _CONFIG.format(port=self.port, http_port=self._http_port)
            for name, text in {"plugins": _PLUGINS, "rabbitmq.conf": config, "env.conf": ""}.items():
                (self._home / name).write_text(text, encoding="ascii")
                (self._home / name).chmod(0o644)
        return self._home

    def _spawn(self, home: Path, *command: str) -> subprocess.Popen[bytes]:
        with (home / "log").open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=home,
                env=self._environment(home),
                user=ordinary_user(),
                extra_groups=[] if ordinary_user() is not None else None,
                start_new_session=True,  # Ctrl-C is for the tests
                preexec_fn=die_with_parent,  # noqa: PLW1509  the tests' threads hold no lock that it takes
            )

    def _environment(self, home: Path) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": str(home),  # where its cookie is made
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "env.conf"),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_LOG_BASE": str(home / "logs"),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_NODENAME": "tests@localhost",
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +S 2",
            "RUNNING_UNDER_SYSTEMD": "true",  # the script becomes the node: no shell is left between us and it
        }

    def _evaluate(self, expression: str) -> None:
        home = self._made_home()
        done = subprocess.run(
            [str(_scripts() / "rabbitmqctl"), "--quiet", "eval", f"{expression}."],
            capture_output=True,
            check=False,
            cwd=home,
            env=self._environment(home),
            user=ordinary_user(),
            extra_groups=[] if ordinary_user() is not None else None,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl eval {expression!r} failed: {(done.stdout + done.stderr).decode()}")

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.call("GET", "vhosts")
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except (URLError, OSError, HTTPException) as error:
                if process.poll() is not None or time.monotonic() > until:
                    said = self.log[-2000:]
                    self._end(signal.SIGKILL)
                    raise RuntimeError(f"RabbitMQ did not start: {said}") from error
                time.sleep(0.02)  # there is nothing else to wait for
            else:
                return

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        left = [child for parent in children(process.pid) for child in (parent, *children(parent))]
        send(how, process.pid)
        send(signal.SIGCONT, process.pid)
        try:
            process.wait(_STOP_SECONDS)
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            for pid in left:  # they end when the node's pipe to them is closed
                await_end(pid)


def _scripts() -> Path:
    """Return the folder of its scripts that any user may call."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    if not found:
        raise RuntimeError("the tests need RabbitMQ; install it: apt-get install -y rabbitmq-server")
    return found[-1]
