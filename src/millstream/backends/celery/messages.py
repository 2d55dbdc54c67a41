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

from millstream.clock import new_id
from millstream.errors import MillstreamError
from millstream.ledger.base import Queued
from millstream.ledger.identity import Identity

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
    """Raised when a message belongs to another ledger."""


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


class Signer:
    """Signs messages about one ledger, and tells those that nobody signed.

    Args:
        identity: Of the ledger.
        key: What all processes sign with; `None`: the ledger's own key.
    """

    def __init__(self, identity: Identity, key: bytes | None = None) -> None:
        """Keep the key."""
        self._ledger = identity.id
        self._key = key or identity.key
        self._origin = f"{os.getpid()}@{socket.gethostname()}"

    def envelope(self, queued: Queued) -> Envelope:
        """Return a message that tells of a segment.

        Args:
            queued: The segment.
        """
        told = {"ledger": self._ledger, "job": queued.job, "segment": queued.segment, "attempt": queued.attempt}
        mac = self._mac(self._ledger, queued.job, queued.segment, queued.attempt)
        message_id = new_id()
        headers: dict[str, Any] = {
            "lang": "py",
            "task": TASK,
            "id": message_id,
            "shadow": queued.flow,  # what Flower and the worker's log call it
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": message_id,
            "parent_id": None,
            "argsrepr": "()",
            "kwargsrepr": f"{{'job': '{queued.job}', 'segment': {queued.segment}}}",
            "origin": self._origin,
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        }
        embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
        return Envelope(headers, json.dumps([[], {**told, "mac": mac}, embedded]), message_id)

    def check(self, headers: Mapping[str, Any], payload: Any) -> None:
        """Refuse a message that no process of this ledger sent as it is.

        Args:
            headers: Its headers.
            payload: Its body, decoded.

        Raises:
            ForgedError: It is not of the form that `envelope` gives, or its signature is wrong.
            ForeignError: It is, but of another ledger; with a common key only if the signature is right.
        """
        told = _told(headers, payload)
        fields = told["ledger"], told["job"], told["segment"], told["attempt"]
        is_signed = hmac.compare_digest(self._mac(*fields).encode(), told["mac"].encode(errors="replace"))
        if told["ledger"] != self._ledger:
            raise ForeignError(f"it belongs to ledger {told['ledger']}, and this worker to {self._ledger}")
        if not is_signed:
            raise ForgedError("its signature is wrong")

    def _mac(self, ledger: str, job: str, segment: int, attempt: int) -> str:
        text = b"\0".join((_FORM, ledger.encode(), job.encode(), b"%d" % segment, b"%d" % attempt))
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


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
    extra = {**rest, "eta": headers.get("eta"), "expires": headers.get("expires")}
    if asked := sorted(name for name, value in extra.items() if value not in _EMPTY):
        raise ForgedError(f"it asks for more than to wake a worker: {', '.join(asked)}")
    return told
