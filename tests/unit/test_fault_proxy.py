"""The fault proxy spoils connections in the way it is told, before a server that sends back what it gets."""

import asyncio
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from millstream.testing.proxy import (
    HALF_OPEN,
    PASS,
    REFUSE,
    RESET,
    STALL,
    FaultProxy,
    cut_after,
    cut_answers_after,
    delay,
)

SHORT = 0.1
"""How long a test waits for what must not come."""


class Echo(socketserver.ThreadingTCPServer):
    """Sends back what it gets, and keeps it."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.got = b""
        self.grew = threading.Condition()

    def wait_for(self, text: bytes) -> None:
        with self.grew:
            assert self.grew.wait_for(lambda: text in self.got, 120), self.got


class _Answer(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        server = self.server
        assert isinstance(server, Echo)
        try:
            while piece := self.request.recv(65_536):
                with server.grew:
                    server.got += piece
                    server.grew.notify_all()
                self.request.sendall(piece)
        except ConnectionError:
            return


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(echo: Echo) -> Iterator[FaultProxy]:
    with FaultProxy(echo.server_address[1]) as proxy:
        yield proxy


@pytest.fixture
def client(proxy: FaultProxy) -> Iterator[socket.socket]:
    with connected(proxy) as client:
        assert asked(client, b"hello") == b"hello"
        yield client


def connected(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=20)


def asked(client: socket.socket, text: bytes) -> bytes:
    client.sendall(text)
    return received(client, len(text))


def ask_once(proxy: FaultProxy) -> None:
    """Ask on a connection of its own; it fails where that is not answered."""
    with connected(proxy) as client:
        if asked(client, b"x") != b"x":
            raise ConnectionAbortedError


def received(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size and (piece := client.recv(size - len(found))):
        found += piece
    return found


def says_nothing(client: socket.socket) -> bool:
    client.settimeout(SHORT)
    try:
        return client.recv(1) == b"nothing"
    except TimeoutError:
        return True
    finally:
        client.settimeout(20)


def test_it_passes_everything_on(client: socket.socket) -> None:
    text = bytes(range(256)) * 4_000
    sender = threading.Thread(target=client.sendall, args=(text,))
    sender.start()
    assert received(client, len(text)) == text
    sender.join()


def test_the_end_of_a_connection_is_passed_on(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)
    assert client.recv(1) == b""


def test_delayed_pieces_come_later(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.behave(delay(SHORT))
    start = time.monotonic()
    assert asked(client, b"late") == b"late"
    assert time.monotonic() - start >= 2 * SHORT


def test_what_was_sent_into_a_stall_comes_when_it_is_over(echo: Echo, proxy: FaultProxy, client: socket.socket) -> None:
    proxy.behave(STALL)
    client.sendall(b"held up")
    assert says_nothing(client)
    assert b"held up" not in echo.got
    proxy.behave(PASS)
    assert received(client, 7) == b"held up"


def test_refused_connections_are_refused_and_those_that_there_are_go_on(
    proxy: FaultProxy, client: socket.socket
) -> None:
    proxy.behave(REFUSE)
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)
    assert asked(client, b"still here") == b"still here"
    proxy.behave(PASS)
    with connected(proxy) as another:
        assert asked(another, b"again") == b"again"


def test_a_reset_ends_what_is_open_and_what_comes(proxy: FaultProxy, client: socket.socket) -> None:
    proxy.behave(RESET)
    with pytest.raises(ConnectionResetError):
        client.recv(1)
    with pytest.raises(ConnectionError):
        ask_once(proxy)


def test_half_open_requests_arrive_and_answers_do_not(echo: Echo, proxy: FaultProxy, client: socket.socket) -> None:
    proxy.behave(HALF_OPEN)
    client.sendall(b"do it")
    echo.wait_for(b"do it")
    assert says_nothing(client)
    proxy.behave(PASS)
    assert asked(client, b"next") == b"next"


def test_a_cut_lets_so_many_bytes_through(echo: Echo, proxy: FaultProxy, client: socket.socket) -> None:
    proxy.behave(cut_after(4))
    client.sendall(b"abcdefgh")
    with pytest.raises(ConnectionResetError):
        received(client, 16)
    echo.wait_for(b"helloabcd")
    assert b"e" not in echo.got.removeprefix(b"hello")


def test_a_cut_of_answers_lets_requests_through(echo: Echo, proxy: FaultProxy, client: socket.socket) -> None:
    proxy.behave(cut_answers_after(4))
    client.sendall(b"abcdefgh")
    with pytest.raises(ConnectionResetError):
        received(client, 16)
    echo.wait_for(b"abcdefgh")


def test_a_request_can_bring_the_fault_with_it(echo: Echo, proxy: FaultProxy, client: socket.socket) -> None:
    proxy.behave_at(b"COMMIT", HALF_OPEN)
    assert asked(client, b"INSERT") == b"INSERT"
    client.sendall(b"COMMIT")
    proxy.wait()
    echo.wait_for(b"COMMIT")
    assert says_nothing(client)


def test_a_request_that_does_not_come_is_not_waited_for_for_ever(proxy: FaultProxy) -> None:
    proxy.behave_at(b"COMMIT", STALL)
    with pytest.raises(TimeoutError, match="did not come by"):
        proxy.wait(timeout=SHORT)


def test_a_server_that_is_not_there_ends_the_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with FaultProxy(unused.getsockname()[1]) as proxy, pytest.raises(ConnectionError):
            ask_once(proxy)


async def test_it_works_while_the_loop_of_the_test_is_blocked(proxy: FaultProxy) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"first")
    assert await reader.readexactly(5) == b"first"
    proxy.behave(STALL)
    proxy.behave(PASS)
    writer.write(b"second")
    assert await reader.readexactly(6) == b"second"
    writer.close()
    await writer.wait_closed()


def test_when_it_is_closed_nothing_is_left(echo: Echo) -> None:
    with FaultProxy(echo.server_address[1]) as proxy:
        clients = [connected(proxy) for _ in range(3)]
        assert [asked(client, b"x") for client in clients] == [b"x"] * 3
        assert proxy.connections == 3
        proxy.behave(STALL)
    assert proxy.connections == 0
    assert "fault-proxy" not in {thread.name for thread in threading.enumerate()}
    for client in clients:
        client.close()
