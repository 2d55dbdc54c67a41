"""A private RabbitMQ: a node of its own on free ports, which tests may stop, kill and pause."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

from tests.lifeline import free_port
from tests.private_server import PrivateServer

_PLUGINS = "[rabbitmq_management].\n"  # its HTTP API takes 10 ms for what rabbitmqctl needs seconds for
_CONFIG = """\
listeners.tcp.local = 127.0.0.1:{port}
management.tcp.ip = 127.0.0.1
management.tcp.port = {http_port}
log.console.level = warning
vm_memory_high_watermark.absolute = 512MB
disk_free_limit.absolute = 1MB
"""


class RabbitMQServer(PrivateServer):
    """A RabbitMQ node from Debian's package, started as an ordinary user by the scripts in its own folder.

    Debian's commands in /usr/sbin work for root and the user rabbitmq alone, and for the machine's own node.
    """

    name = "RabbitMQ"

    def __init__(self) -> None:
        super().__init__()
        self._http_port = free_port()
        self._epmd_port = free_port()
        self._dist_port = free_port()
        self._epmd: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its first virtual host is."""
        return self.url_of("/")

    def url_of(self, vhost: str) -> str:
        """Return the URL of one of its virtual hosts."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/{quote(vhost, safe='')}"

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
        with urlopen(request, timeout=60) as answer:  # noqa: S310  as above
            text = answer.read()
        return json.loads(text) if text else None

    def close(self) -> None:
        """End it at once, and remove its data."""
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()
            self._epmd = None
        super().close()

    def _prepare(self, home: Path) -> None:
        """Write its configuration, and start what nodes find each other by: else the node does, which it outlives."""
        config = _CONFIG.format(port=self.port, http_port=self._http_port)
        for name, text in {"plugins": _PLUGINS, "rabbitmq.conf": config, "env.conf": ""}.items():
            (home / name).write_text(text, encoding="ascii")
            (home / name).chmod(0o644)
        self._epmd = self._spawn("epmd", "-port", str(self._epmd_port))

    def _command(self, home: Path) -> Sequence[str | Path]:  # noqa: ARG002  it lies elsewhere
        return [_scripts() / "rabbitmq-server"]

    def _answers(self) -> bool:
        try:
            self.call("GET", "vhosts")
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except (URLError, OSError, HTTPException):
            return False
        return True

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
        self._run(_scripts() / "rabbitmqctl", "--quiet", "eval", f"{expression}.")


def _scripts() -> Path:
    """Return the folder of its scripts that any user may call."""
    found = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    if not found:
        raise RuntimeError("the tests need RabbitMQ; install it: apt-get install -y rabbitmq-server")
    return found[-1]
