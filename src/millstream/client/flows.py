"""Flows on the server: kept, built and run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import httpx
import msgspec

from millstream.client.calls import path_of, read
from millstream.client.jobs import JobCalls
from millstream.client.shapes import BuildEvent, Flow, RunResult
from millstream.clock import new_id


class FlowCalls(JobCalls):
    """What is asked of flows."""

    # ---------------------------------------------------------------------------------------------------------- flows
    async def create_flow(
        self,
        name: str,
        data: dict[str, Any] | None = None,
        *,
        description: str = "",
        endpoint_name: str | None = None,
        project_id: str | None = None,
    ) -> Flow:
        """Keep a flow on the server.

        Args:
            name: Its name; a taken one gets a number.
            data: The document: nodes and edges.
            description: What people read.
            endpoint_name: A name for URLs.
            project_id: The project that it lies in.

        Raises:
            InvalidRequestError: The document has problems; `problem["errors"]` names them all.
        """
        body = {"name": name, "data": data, "description": description, "project_id": project_id}
        body |= {} if endpoint_name is None else {"endpoint_name": endpoint_name}
        return flow_of(await self._wire.ask("POST", "/api/v1/flows/", json=body))

    async def flow(self, flow_id: str) -> Flow:
        """Return a flow, with its document.

        Raises:
            NotFoundError: There is none.
        """
        return flow_of(await self._wire.ask("GET", path_of("flows", flow_id)))

    async def flows(self, project_id: str | None = None) -> AsyncGenerator[Flow, None]:
        """Yield all flows without their documents, and the Python flows that the server has loaded."""
        async with aclosing(self._pages("/api/v1/flows/", {"header_flows": "true", "project_id": project_id})) as pages:
            async for page in pages:
                for flow in read(page, list[Flow]):
                    yield flow

    async def update_flow(self, /, flow_id: str, *, etag: str | None = None, **changes: Any) -> Flow:
        """Change what is named of a flow.

        Args:
            flow_id: The flow.
            etag: Change this version only, as `Flow.etag` names it.
            changes: `name`, `description`, `data`, `endpoint_name`, `project_id`.

        Raises:
            NotFoundError: There is none.
            VersionConflictError: There is another version by now.
            InvalidRequestError: The document has problems.
        """
        match = {} if etag is None else {"If-Match": etag}
        return flow_of(await self._wire.ask("PATCH", path_of("flows", flow_id), json=changes, headers=match))

    async def delete_flow(self, flow_id: str) -> None:
        """Delete a flow; its jobs stay.

        Raises:
            NotFoundError: There is none.
        """
        await self._wire.ask("DELETE", path_of("flows", flow_id))

    # ---------------------------------------------------------------------------------------------------- running flows
    async def build(
        self,
        /,
        flow_id: str,
        input_value: str | None = None,
        *,
        session: str | None = None,
        data: dict[str, Any] | None = None,
        key: str | None = None,
        **inputs: Any,
    ) -> str:
        """Begin to build a flow, and return the id of its job; `build_events` shows it.

        The server cancels it when everybody who looked at it has gone.

        Args:
            flow_id: The flow.
            input_value: What is said to it.
            session: The conversation that it belongs to.
            data: A document to build in place of the one that is kept.
            key: An idempotency key of your own.
            inputs: Further inputs by name, of a flow in Python.

        Raises:
            NotFoundError: There is no such flow.
            InvalidRequestError: The inputs do not fit.
        """
        given = {"input_value": input_value, "session": session, **inputs}
        body: dict[str, Any] = {"inputs": {name: value for name, value in given.items() if value is not None}}
        body |= {} if data is None else {"data": data}
        answer = await self._start(f"{path_of('build', flow_id)}/flow", body, key)
        return str(read(answer, dict[str, Any])["job_id"])

    async def build_events(self, job_id: str) -> AsyncGenerator[BuildEvent, None]:
        """Yield what happens in a build, each event once, to its end.

        Raises:
            NotFoundError: There is no such build.
        """
        async with aclosing(self._wire.follow(f"{path_of('build', job_id)}/events", {})) as messages:
            async for message in messages:
                event = msgspec.json.decode(message.data, type=BuildEvent)
                yield event
                if event.event == "end":
                    return

    async def run(
        self,
        flow: str,
        input_value: str = "",
        *,
        tweaks: dict[str, Any] | None = None,
        session_id: str | None = None,
        patience: float = 600.0,
        key: str | None = None,
    ) -> RunResult:
        """Run a flow, wait for it, and return its outputs.

        Args:
            flow: Its id, or the name that it has for URLs.
            input_value: What is said to it.
            tweaks: Values for this run: by node, and input.
            session_id: The conversation that it belongs to.
            patience: Seconds that it may take.
            key: An idempotency key of your own.

        Raises:
            NotFoundError: There is no such flow.
            ProblemError: The flow failed; `problem` says in which node.
            ResultTimeoutError: It has not ended in time; it goes on.
        """
        key = key or new_id()
        body: dict[str, Any] = {"input_value": input_value, "tweaks": tweaks or {}}
        body |= {} if session_id is None else {"session_id": session_id}
        answer = await self._start(path_of("run", flow), body, key, patience=patience)
        while answer.status_code == httpx.codes.ACCEPTED:  # it asks people, or its server stops
            await self.wait(str(read(answer, dict[str, Any])["job_id"]), timeout=patience)
            answer = await self._start(path_of("run", flow), body, key, patience=patience)  # the same run, by its key
        return read(answer, RunResult)


def flow_of(answer: httpx.Response) -> Flow:
    """Return the flow that an answer shows, with its ETag."""
    return msgspec.structs.replace(read(answer, Flow), etag=answer.headers.get("ETag"))
