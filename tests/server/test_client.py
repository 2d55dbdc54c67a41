"""`millstream.client` against the real server, over a network that does what it should and one that does not."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import msgspec
import pytest

from millstream.client import (
    AsyncClient,
    Client,
    ConflictError,
    Event,
    InvalidRequestError,
    NotFoundError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
)
from millstream.clock import new_id
from millstream.errors import ResultTimeoutError
from millstream.server.access.principal import SCOPES
from millstream.testing.proxy import HALF_OPEN, PASS, REFUSE, RESET, FaultProxy, cut_answers_after
from tests.server.building import until
from tests.server.job_flows import gate
from tests.server.running import PASSWORD, PATIENCE, RunningServer

TASKS = "tests.server.job_flows"
UNKNOWN = "0195a1a2-0000-7000-8000-000000000000"
DOCUMENT: dict[str, Any] = {
    "nodes": [
        {"id": "question", "data": {"component": "ChatInput"}},
        {"id": "answer", "data": {"component": "ChatOutput"}},
    ],
    "edges": [
        {"source": "question", "sourceHandle": "message", "target": "answer", "targetHandle": "input_value"},
    ],
}


@pytest.fixture(scope="module")
def server_settings() -> dict[str, object]:
    return {"imports": [TASKS]}


@pytest.fixture
def proxy(server: RunningServer) -> Iterator[FaultProxy]:
    with FaultProxy(httpx.URL(server.url).port or 0) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def client(server: RunningServer) -> Iterator[Client]:
    """Alice, who signed in."""
    with Client(server.url, username="alice", password=PASSWORD, timeout=PATIENCE) as client:
        yield client


@pytest.fixture(scope="module")
def key(sign_in: Callable[[str], httpx.Client]) -> str:
    """Alice's API key: of sign-ins there are only so many a minute."""
    answer = sign_in("alice").post("/api/v1/api_key/", json={"name": "tests", "scopes": [*SCOPES]})
    assert answer.is_success, answer.text
    return str(answer.json()["api_key"])


@pytest.fixture
def shaky(proxy: FaultProxy, key: str) -> Iterator[Client]:
    """A client behind the proxy."""
    with Client(f"http://127.0.0.1:{proxy.port}", api_key=key, timeout=PATIENCE, retries=8) as client:
        assert client.whoami().username == "alice"
        yield client


def chatting(client: Client, count: int) -> tuple[str, str]:
    """Return a job that has said so many lines and waits, and the name of its gate."""
    name = new_id()
    job_id = client.submit(f"{TASKS}.chatter", name, count)
    assert gate(f"{name} is there").wait(PATIENCE)
    return job_id, name


def test_a_task_is_submitted_awaited_and_told(client: Client) -> None:
    job = client.wait(client.submit(f"{TASKS}.steps", n=4), timeout=PATIENCE)
    assert (job.state, job.result, job.inputs) == ("succeeded", 8, {"n": 4})
    assert [(node.node, node.attempt) for node in job.nodes] == [("stumble", 2), ("double", 1)]
    assert client.status(job.job_id).status == "SUCCESS"


async def test_the_same_goes_with_coroutines(server: RunningServer, key: str) -> None:
    async with AsyncClient(server.url, api_key=key, timeout=PATIENCE) as client:
        job_id = await client.submit(f"{TASKS}.failing", 4)
        job = await client.wait(job_id, timeout=PATIENCE)
        assert job.error is not None
        assert (job.state, job.error.message, job.error.node) == ("failed", "on purpose", "fail")
        assert "job_flows.py" in (job.error.traceback or "")
        events = [event.type async for event in client.events(job_id)]
        assert (events[0], events[-1]) == ("planned", "ended")
        durable = [event.type for event in await client.known_events(job_id) if event.cursor.endswith("-0")]
        assert durable == [kind for kind in events if kind != "node_started"]
        found = [job async for job in client.jobs(flow=f"{TASKS}.failing", state="failed")]
        assert job_id in {job.job_id for job in found}


def test_who_waits_in_vain_is_told_and_the_job_goes_on(client: Client) -> None:
    job_id, name = chatting(client, 1)
    with pytest.raises(ResultTimeoutError, match=f"job {job_id} has not ended within 0.05 s"):
        client.wait(job_id, timeout=0.05)
    gate(name).set()
    assert client.wait(job_id, timeout=PATIENCE).result == name


def test_jobs_are_cancelled_retried_answered_and_purged(client: Client) -> None:
    running, _ = chatting(client, 1)
    assert client.cancel(running).state == "cancelled"
    failed = client.submit(f"{TASKS}.failing", 1)
    client.wait(failed, timeout=PATIENCE)
    again = client.retry(failed)
    assert client.wait(again, timeout=PATIENCE).repeats == failed
    asking = client.submit(f"{TASKS}.ask", "how many?")
    while client.job(asking).state != "waiting":
        time.sleep(0.01)
    client.approve(asking, 21)
    assert client.wait(asking, timeout=PATIENCE).result == 42
    with pytest.raises(ConflictError, match="waits for no answer"):
        client.approve(asking, 22)
    with pytest.raises(ConflictError) as late:
        client.cancel(asking)
    assert late.value.problem["state"] == "succeeded"
    told = client.act("purge", [failed, UNKNOWN])
    assert [(answer.is_done, answer.is_known) for answer in told.answers] == [(True, True), (False, False)]
    assert client.act("retry", chosen={"flow": "nobody.has"}).answers == []


def test_lists_go_on_over_many_pages(client: Client) -> None:
    jobs = [client.submit(f"{TASKS}.double", n) for n in range(5)]
    found = [job.job_id for job in client.jobs(flow=f"{TASKS}.double", limit=5)]
    assert found == jobs[::-1]
    assert len(list(client.jobs(limit=3))) == 3


def test_flows_are_kept_changed_listed_and_deleted(client: Client) -> None:
    flow = client.create_flow("echo", DOCUMENT, description="Says it again.")
    assert client.flow(flow.id).data == flow.data
    changed = client.update_flow(flow.id, name="echo twice", etag=flow.etag)
    assert (changed.name, changed.version) == ("echo twice", 2)
    with pytest.raises(Exception, match="HTTP 412"):
        client.update_flow(flow.id, name="late", etag=flow.etag)
    assert flow.id in {known.id for known in client.flows()}
    client.delete_flow(flow.id)
    with pytest.raises(NotFoundError):
        client.flow(flow.id)
    with pytest.raises(InvalidRequestError) as wrong:
        client.create_flow("wrong", {"nodes": [{"id": "a", "data": {"component": "Nobody"}}], "edges": []})
    assert wrong.value.problem["errors"]


def test_a_flow_is_built_and_run(client: Client) -> None:
    flow = client.create_flow("spoken to", DOCUMENT)
    events = list(client.build_events(client.build(flow.id, "hello")))
    assert [events[0].event, events[-1].event] == ["vertices_sorted", "end"]
    assert events[-1].data["status"] == "succeeded"
    told = client.run(flow.id, "hello", session_id="s")
    assert (told.session_id, "hello" in str(told.outputs)) == ("s", True)
    with pytest.raises(NotFoundError):
        client.build(UNKNOWN)


def test_a_run_that_asks_people_is_awaited(client: Client) -> None:
    node = {"id": "ask", "data": {"component": "HumanApproval", "values": {"question": "really?"}}}
    flow = client.create_flow("asks", {"nodes": [node], "edges": []})
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(client.run, flow.id, patience=PATIENCE)
        asking = until(lambda: list(client.jobs(flow=f"flow:{flow.id}", state="waiting")))
        client.approve(asking[0].job_id, "yes")
        assert "yes" in str(running.result(PATIENCE).outputs)


def test_problems_have_classes(server: RunningServer, client: Client) -> None:
    with pytest.raises(NotFoundError, match=f"there is no job '{UNKNOWN}'"):
        client.job(UNKNOWN)
    with pytest.raises(NotFoundError):
        client.submit("nobody.knows")
    with pytest.raises(InvalidRequestError):
        client.submit(f"{TASKS}.double", 1, 2, 3)
    with (
        Client(server.url, username="bob", password="wrong") as wrong,  # noqa: S106  a wrong one
        pytest.raises(UnauthorizedError, match="Incorrect username or password"),
    ):
        wrong.whoami()
    with Client(server.url, api_key="ms_x_y") as wrong, pytest.raises(UnauthorizedError):
        wrong.whoami()
    with pytest.raises(ValueError, match="not both"):
        Client(server.url, username="a", api_key="b")


def test_a_session_that_is_over_is_begun_anew(server: RunningServer, client: Client) -> None:
    alice = client.whoami()

    async def end_all(site: Any) -> None:
        await site.accounts.end_sessions(alice.id)

    server.do(end_all)
    stale = client._client._wire._token
    while client._client._wire._token == stale:  # a server may know a session a second longer
        assert client.whoami() == alice


# ------------------------------------------------------------------------------------------------- a bad network
def whole(client: Client, job_id: str, count: int) -> list[str]:
    """Return the cursors of a job's events up to its last line, as who is not disturbed reads them."""
    found: list[str] = []
    for event in client.events(job_id):
        found.append(event.cursor)
        if event.type == "log" and f"line {count - 1}" in str(event.data):
            break
    return found


def test_a_stream_that_is_cut_after_every_few_bytes_brings_each_event_once(
    client: Client, shaky: Client, proxy: FaultProxy
) -> None:
    count = 120
    job_id, name = chatting(client, count)
    expected = whole(client, job_id, count)
    proxy.behave(cut_answers_after(4000))
    seen: list[Event] = []
    for event in shaky.events(job_id):
        seen.append(event)
        if len(seen) == len(expected):
            gate(name).set()
    assert [event.cursor for event in seen][: len(expected)] == expected
    assert len({event.cursor for event in seen}) == len(seen)
    assert seen[-1].type == "ended"


def test_a_stream_whose_connection_is_reset_brings_each_event_once(
    client: Client, shaky: Client, proxy: FaultProxy
) -> None:
    count = 60
    job_id, name = chatting(client, count)
    expected = whole(client, job_id, count)
    seen: list[str] = []
    for event in shaky.events(job_id):
        seen.append(event.cursor)
        if len(seen) % 15 == 0:
            proxy.behave(RESET)
            proxy.behave(PASS)
        if len(seen) == len(expected):
            gate(name).set()
    assert seen[: len(expected)] == expected
    assert len(set(seen)) == len(seen)


def test_a_build_whose_stream_is_cut_brings_each_event_once(client: Client, shaky: Client, proxy: FaultProxy) -> None:
    flow = client.create_flow("cut", DOCUMENT)
    job_id = client.build(flow.id, "hello")
    expected = list(client.build_events(job_id))
    proxy.behave(cut_answers_after(3000))
    assert list(shaky.build_events(job_id)) == expected


def test_a_submission_whose_answer_is_lost_is_one_job(client: Client, key: str, proxy: FaultProxy) -> None:
    before = {job.job_id for job in client.jobs(flow=f"{TASKS}.chain")}
    url = f"http://127.0.0.1:{proxy.port}"
    with Client(url, api_key=key, timeout=2.0, retries=8) as hasty:
        hasty.whoami()
        proxy.behave_at(b"POST /run-task", HALF_OPEN)

        def heal() -> None:
            proxy.wait(PATIENCE)
            while {job.job_id for job in client.jobs(flow=f"{TASKS}.chain")} == before:
                time.sleep(0.01)
            proxy.behave(PASS)

        healer = threading.Thread(target=heal)
        healer.start()
        job_id = hasty.submit(f"{TASKS}.chain", 1, 3)
        healer.join(PATIENCE)
    assert {job.job_id for job in client.jobs(flow=f"{TASKS}.chain")} - before == {job_id}
    assert client.wait(job_id, timeout=PATIENCE).result == 8


def test_a_server_that_stays_away_is_told_after_the_last_try(proxy: FaultProxy) -> None:
    proxy.behave(REFUSE)
    with (
        Client(f"http://127.0.0.1:{proxy.port}", api_key="ms_x_y", retries=2) as client,
        pytest.raises(UnreachableError, match=r"GET http://127\.0\.0\.1"),
    ):
        client.whoami()


class Busy(httpx.AsyncBaseTransport):
    """A server that says 503 so many times first."""

    def __init__(self, times: int, wait: str) -> None:
        self.times, self.wait, self.asked = times, wait, 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        if self.asked <= self.times:
            return httpx.Response(503, headers={"Retry-After": self.wait}, json={"detail": "busy"}, request=request)
        user = {"id": "1", "username": "ada"}
        return httpx.Response(200, content=msgspec.json.encode(user), request=request)


@pytest.mark.parametrize(("times", "wait", "is_served"), [(2, "0", True), (2, "1", True), (3, "0", False)])
async def test_a_busy_server_is_asked_again_when_it_says_so(times: int, wait: str, is_served: bool) -> None:  # noqa: FBT001
    busy = Busy(times, wait)
    async with AsyncClient("http://busy", api_key="k", retries=2) as client:
        client._wire._http._transport = busy
        begun = time.monotonic()
        if is_served:
            assert (await client.whoami()).username == "ada"
        else:
            with pytest.raises(UnavailableError, match="busy"):
                await client.whoami()
    assert busy.asked == min(times, 2) + 1
    assert time.monotonic() - begun >= 2 * int(wait) * 0.99


async def test_what_must_not_be_sent_twice_is_not(server: RunningServer) -> None:
    busy = Busy(1, "0")
    async with AsyncClient(server.url, api_key="k") as client:
        client._wire._http._transport = busy
        with pytest.raises(UnavailableError):
            await client.approve(UNKNOWN)
    assert busy.asked == 1
