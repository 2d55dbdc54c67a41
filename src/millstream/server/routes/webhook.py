"""Webhooks: another service's request starts a flow, signed with the flow's secret; who is signed in needs none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from msgspec.structs import replace
from pydantic import BaseModel, ConfigDict

from millstream.authoring.registry import Definition
from millstream.ledger.flow_store import FlowNotFoundError, FlowSummary
from millstream.server.access.principal import OptionalCaller, Principal, needs
from millstream.server.body import JsonRoute, strict_json
from millstream.server.builds.signing import HEADER, is_signed, new_nonce, secret_of
from millstream.server.builds.submitting import inputs_of, submit
from millstream.server.builds.works import is_id
from millstream.server.idempotency import GivenKey
from millstream.server.problem import Problem, forbidden, unauthorized
from millstream.server.site import Here, Site

router = APIRouter(prefix="/api/v1", tags=["webhook"], route_class=JsonRoute)

Writes = Annotated[Principal, needs("flows:write")]


class Links(BaseModel):
    """Where a job is looked at."""

    job: str
    events: str
    cancel: str


class WebhookStarted(BaseModel):
    """The job that a webhook started."""

    message: str
    status: str
    job_id: str
    links: Links


class WebhookSecret(BaseModel):
    """A flow's secret; it is shown this once, and stored nowhere."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"secret": "whsec_5e3f…", "header": HEADER, "url": "/api/v1/webhook/0190…"}]}
    )

    secret: str
    header: str
    url: str


@router.post("/webhook/{flow_id_or_name}", status_code=202, response_model=WebhookStarted)
async def call_webhook(
    request: Request,
    here: Here,
    who: OptionalCaller,
    key: GivenKey,
    flow_id_or_name: str,
    x_hub_signature_256: Annotated[str | None, Header(description="HMAC-SHA256 of the body.")] = None,
) -> Response:
    """Start a flow with the JSON body as its payload, and return its job at once.

    Who is not signed in signs the body with the flow's secret.
    """
    body = await request.body()
    if x_hub_signature_256 is not None or who is None:
        work, owner = await _signed(here, flow_id_or_name, body, x_hub_signature_256)
    elif who.may("run:write"):
        work, owner = await here.works.by_name(flow_id_or_name, who.owner, who.user.id), who.user.id
    else:
        raise forbidden("this API key is not good for run:write; make one that is")
    inputs = inputs_of(work, {}, payload=_payload(request, body))
    job = await submit(here.app, work, inputs, owner=owner, key=key)
    url = f"/api/v1/jobs/{job.id}"
    links = {"job": url, "events": f"{url}/events", "cancel": f"{url}/cancel"}
    told = {"message": "Task started in the background", "status": "in progress", "job_id": job.id, "links": links}
    return JSONResponse(told, 202, {"Location": url})


async def _signed(here: Site, name: str, body: bytes, signature: str | None) -> tuple[Definition, str]:
    """Return the flow that a signed request means, and its owner.

    Raises:
        Problem: There is no such flow, it has no secret, or the signature is wrong (401): nobody can tell which.
    """
    identity = await here.app.identity()
    meant: FlowSummary | None = None
    for flow in await _called(here, name):
        if is_signed(secret_of(identity, flow), body, signature):
            meant = flow
    if meant is None or not (await here.accounts.user(meant.owner)).is_active:
        raise unauthorized(f"the signature in {HEADER} is not that of this body, or there is no such webhook")
    return await here.works.by_id(meant.id, meant.owner), meant.owner


async def _called(here: Site, name: str) -> Sequence[FlowSummary]:
    """Return the flows that a request may mean; several users may have one of a name, and its signature tells which."""
    if not is_id(name):
        return await here.flows.webhooks(name)
    try:
        return [await here.flows.get(name.lower(), None)]
    except FlowNotFoundError:
        return ()


def _payload(request: Request, body: bytes) -> Any:
    """Return the body's value; an empty one is no payload.

    Raises:
        Problem: It is not JSON (400), or not sent as such (415).
    """
    if not body:
        return {}
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Problem(415, f"the body is sent as {kind or 'nothing'}; send it as application/json")
    return strict_json(body)


@router.post("/flows/{flow_id}/webhook-secret", response_model=WebhookSecret)
async def make_webhook_secret(here: Here, who: Writes, flow_id: UUID) -> WebhookSecret:
    """Make a new secret for a flow's webhook, and show it this once; the one before is not good any more."""
    flow = await here.flows.get(str(flow_id), who.owner)
    flow = await here.flows.replace(replace(flow, webhook=new_nonce()), flow.version)
    secret = secret_of(await here.app.identity(), flow)
    return WebhookSecret(secret=secret or "", header=HEADER, url=f"/api/v1/webhook/{flow.id}")


@router.delete("/flows/{flow_id}/webhook-secret", status_code=204)
async def remove_webhook_secret(here: Here, who: Writes, flow_id: UUID) -> None:
    """Take a flow's webhook its secret: only who is signed in can call it then."""
    flow = await here.flows.get(str(flow_id), who.owner)
    await here.flows.replace(replace(flow, webhook=None), flow.version)
