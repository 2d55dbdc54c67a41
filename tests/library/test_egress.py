"""A flow's requests reach public addresses, and those that are allowed; listeners elsewhere see no connection."""

import socket
import threading
from collections.abc import Iterator, Sequence

import httpx
import pytest

from millstream import Millstream, Settings
from millstream.errors import EgressDeniedError
from millstream.library.egress import Egress, EgressTransport
from millstream.library.web import http_request
from tests.library.listeners import Asked, Listener, listening

PRIVATE = [
    "0.0.0.0",  # noqa: S104  it is refused
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.8.8.8",
    "169.254.169.254",
    "172.16.0.1",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:0:7f00:1::",
    "fc00::1",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["93.184.215.14", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"]


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def app(*allow: str) -> Millstream:
    return Millstream(settings=Settings(durability="off", egress_allow=allow))


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not Egress().permits("example.org", address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_permitted(address: str) -> None:
    assert Egress().permits("example.org", address)


def test_a_network_an_address_and_a_name_can_be_allowed() -> None:
    egress = Egress(["10.1.0.0/16", "127.0.0.1", "fc00::/7", "DB.internal."])
    assert egress.permits("x", "10.1.2.3")
    assert egress.permits("x", "::ffff:127.0.0.1")
    assert egress.permits("x", "fc00::1")
    assert egress.permits("db.internal", "192.168.1.1")
    assert not egress.permits("x", "10.2.0.1")
    assert not egress.permits("x.db.internal", "192.168.1.1")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:ffff:127.0.0.1]",
        "127.0.0.1.",
        "①②⑦.0.0.1",
        "user:password@127.0.0.1",
    ],
)
async def test_however_loopback_is_written_nothing_is_connected_to(host: str, listener: Listener) -> None:
    async with app() as here:
        job = await here.submit(http_request, f"http://{host}:{listener.port}/")
        with pytest.raises((EgressDeniedError, ConnectionError, ValueError)) as caught:
            await job.result()
    assert listener.connects == 0
    if not isinstance(caught.value, EgressDeniedError):  # no such host, to this system's resolver
        assert "no address" in str(caught.value) or "no URL" in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "169.254.169.254"])
async def test_the_failure_of_the_node_says_egress_denied(host: str, listener: Listener) -> None:
    async with app() as here:
        job = await here.submit(http_request, f"http://{host}:{listener.port}/")
        with pytest.raises(EgressDeniedError, match=r"egress-denied: .* egress_allow"):
            await job.result()
    assert listener.connects == 0


async def test_a_redirect_to_loopback_is_not_followed(listener: Listener) -> None:
    def redirect(asked: Asked) -> None:
        asked.answer(302, location=f"http://127.0.0.1:{listener.port}/secrets")

    with listening(redirect) as public:
        async with app("localhost") as here:
            job = await here.submit(http_request, f"http://localhost:{public.port}/")
            with pytest.raises(EgressDeniedError, match=r"127\.0\.0\.1 is not on the public internet"):
                await job.result()
        assert public.connects == 1
    assert listener.connects == 0


async def test_what_the_environment_says_of_proxies_makes_no_difference(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{listener.port}")
    with listening() as public:
        async with app("localhost") as here:
            job = await here.submit(http_request, f"http://localhost:{public.port}/")
            assert (await job.result())["status"] == 200
            for scheme in ("http", "https"):
                denied = await here.submit(http_request, f"{scheme}://169.254.169.254/")
                with pytest.raises(EgressDeniedError):
                    await denied.result()
        assert public.connects == 1
    assert listener.connects == 0


class Rebinding:
    """A resolver that answers differently each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, _host: str, _port: int) -> Sequence[str]:
        return self.answers.pop(0)


async def test_a_name_that_is_another_address_the_second_time_leads_to_the_one_that_was_checked() -> None:
    with listening(host="127.0.0.2") as public, socket.create_server(("127.0.0.1", public.port)) as private:
        private.settimeout(0)
        resolve = Rebinding(["127.0.0.2"], ["127.0.0.1"])
        transport = EgressTransport(Egress(["127.0.0.2"]), resolve)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            url = f"http://rebinding.test:{public.port}/"
            assert (await client.get(url)).status_code == 200
            assert resolve.answers == [["127.0.0.1"]]  # one question for one request
            with pytest.raises(EgressDeniedError):
                await client.get(url)
        assert public.connects == 1
        assert public.asked[0].headers["host"] == f"rebinding.test:{public.port}"
        with pytest.raises(BlockingIOError):  # nobody waits to be accepted
            private.accept()


async def test_of_several_addresses_only_permitted_ones_are_tried() -> None:
    with listening(host="127.0.0.2") as public, socket.create_server(("127.0.0.1", public.port)) as private:
        private.settimeout(0)
        resolve = Rebinding(["127.0.0.1", "127.0.0.3", "127.0.0.2"])
        transport = EgressTransport(Egress(["127.0.0.2/31"]), resolve)  # at .3 nobody listens
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            assert (await client.get(f"http://several.test:{public.port}/")).status_code == 200
        with pytest.raises(BlockingIOError):
            private.accept()


async def test_the_certificate_is_checked_for_the_name_and_not_for_the_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        transport = EgressTransport(Egress(["127.0.0.1"]), Rebinding(["127.0.0.1"]))
        greetings: list[bytes] = []

        def greeted() -> None:
            connection, _ = server.accept()
            with connection:
                greetings.append(connection.recv(4096))

        listening = threading.Thread(target=greeted)
        listening.start()
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            with pytest.raises(httpx.TransportError):  # nobody answers the greeting
                await client.get(f"https://name.test:{port}/")
        listening.join()
    assert b"name.test" in greetings[0]  # which is the name that OpenSSL compares the certificate with


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/", "gopher://127.0.0.1/", "example.org", ""])
async def test_other_schemes_are_no_requests(url: str) -> None:
    async with app() as here:
        job = await here.submit(http_request, url)
        with pytest.raises(ValueError, match="no URL that can be asked"):
            await job.result()
