"""The messages that wake workers: what is in them, how they are signed, and which are refused.

A message carries no work. It names a segment that may be claimed, so that a worker looks into the ledger; whether there
is something to do, and what, the ledger alone says.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from millstream.errors import MillstreamError
from millstream.ledger.base import MAIN
from millstream.ledger.identity import Identity
from millstream.ledger.queued import Queued

TASK: Final = "millstream.execute_segment"
"""The name of the one Celery task that executes what jobs consist of."""

DEAD_LETTERS: Final = "millstream.dead"
"""The queue of messages that were refused; nothing reads it but people."""

_FORM = b"millstream-1"
_FIELDS: Final = {"ledger": str, "job": str, "segment": int, "attempt": int, "mac": str}
_EMPTY: Final[tuple[object, ...]] = (None, (), [], {})


class ForgedError(MillstreamError):
    """Raised when a message is not one that a process of this ledger signed."""


class ForeignError(MillstreamError):
    """Raised when a message names another ledger.

    Args:
        text: What it says, and what was expected.
        ledger: The ledger that it names.
        is_signed: Whether its signature is right. Without a common key nobody can tell, and it is `False`.
    """

    def __init__(self, text: str, ledger: str, *, is_signed: bool) -> None:
        """Keep what it names."""
        super().__init__(text)
        self.ledger = ledger
        self.is_signed = is_signed


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message as a broker carries it: Celery's protocol, version 2.

    Attributes:
        headers: Its headers.
        body: Its body, JSON.
        id: Its id.
    """

    headers: dict[str, Any]
    body: str
    id: str

    @property
    def payload(self) -> Any:
        """Its body, decoded."""
        return json.loads(self.body)


class Signer:
    """Signs messages about one ledger, and tells those that nobody signed.

    Args:
        identity: Of the ledger.
        key: What all processes sign with; `None`: the ledger's own key.
    """

    def __init__(self, identity: Identity, key: bytes | None = None) -> None:
        """Keep the key."""
        self._ledger = identity.id
        self._has_common_key = key is not None
        self._key = key or identity.key

    def envelope(self, queued: Queued) -> Envelope:
        """Return a message that tells of a segment.

        Args:
            queued: The segment.
        """
        told = {"ledger": self._ledger, "job": queued.job, "segment": queued.segment, "attempt": queued.attempt}
        return _envelope(queued, {**told, "mac": self._mac(self._ledger, queued)})

    def check(self, headers: Mapping[str, Any], payload: Any) -> Queued:
        """Return the segment that a message tells of, in the default queue; refuse what nobody of this ledger signed.

        Args:
            headers: The message's headers. Only the flow's name is read of them: whatever else they ask for is not
                signed, and must not reach Celery.
            payload: Its body, decoded.

        Raises:
            ForgedError: It is not of the form that `envelope` gives, or its signature is wrong.
            ForeignError: It names another ledger; where there is a common key only if its signature is right.
        """
        told = _told(headers, payload)
        queued = Queued(told["job"], told["segment"], told["attempt"], None, headers["shadow"])
        mac = self._mac(told["ledger"], queued)
        is_signed = hmac.compare_digest(mac.encode(), told["mac"].encode(errors="replace"))
        if told["ledger"] != self._ledger and (is_signed or not self._has_common_key):
            text = f"it belongs to ledger {told['ledger']}, and this worker to {self._ledger}"
            raise ForeignError(text, told["ledger"], is_signed=is_signed)
        if not is_signed:
            raise ForgedError("its signature is wrong")
        return queued

    def _mac(self, ledger: str, queued: Queued) -> str:
        fields = (ledger, queued.job, str(queued.segment), str(queued.attempt), queued.flow)
        text = b"\0".join((_FORM, *(field.encode(errors="replace") for field in fields)))
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


def as_celery_reads(queued: Queued) -> Envelope:
    """Return the message that Celery gets in place of one that was checked: of that one nothing else is left.

    Args:
        queued: What it told of.
    """
    return _envelope(queued, {"job": queued.job, "segment": queued.segment})


def message_id(job: str, segment: int) -> str:
    """Return the id of messages about a segment: the job's, so that people find the job by what Celery shows.

    Several messages about one segment have one id. Celery keeps its requests apart by themselves, and Flower shows them
    as one task.

    Args:
        job: Id of the job.
        segment: Number of the segment in it.
    """
    return job if segment == MAIN else f"{job}:{segment}"


def _envelope(queued: Queued, told: dict[str, Any]) -> Envelope:
    name = message_id(queued.job, queued.segment)
    headers: dict[str, Any] = {
        "lang": "py",
        "task": TASK,
        "id": name,
        "shadow": queued.flow,  # what Flower and `inspect` call it
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": name,
        "parent_id": None,
        "argsrepr": "()",
        "kwargsrepr": f"{{'job': '{queued.job}', 'segment': {queued.segment}}}",
        "origin": f"{os.getpid()}@{socket.gethostname()}",
        "ignore_result": True,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return Envelope(headers, json.dumps([[], told, embedded]), name)


def _told(headers: Mapping[str, Any], payload: Any) -> dict[str, Any]:
    """Return the fields of a message of the right form.

    Raises:
        ForgedError: It is not of that form; also where it asks Celery for more than to wake a worker.
    """
    match payload:
        case [[] | (), dict(told), dict(rest)] if {name: type(value) for name, value in told.items()} == _FIELDS:
            pass
        case _:
            raise ForgedError("it is not of the form that workers are woken with")
    if not isinstance(headers.get("shadow"), str):
        raise ForgedError("it does not name the flow that it is about")
    extra = {**rest, "eta": headers.get("eta"), "expires": headers.get("expires")}
    if asked := sorted(str(name) for name, value in extra.items() if value not in _EMPTY):
        raise ForgedError(f"it asks for more than to wake a worker: {', '.join(asked)}")
    return told
