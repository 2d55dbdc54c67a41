"""What requests and answers look like, for the OpenAPI document: where no model of their body says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

_JOB_ID: Final = "01a2000d-9918-7665-af65-129939a1119b"
_FLOW_ID: Final = "01a2000d-98d4-75fe-b555-c2fe8a234215"
_USER_ID: Final = "01a2000d-8ad4-77f6-9987-3d281e2a88c3"
_PROCESS: Final = "16227-01a2000d-87c7-7665-b92c-07a33c28eb3c"
_AT: Final = "2026-11-21T21:40:20.888115Z"

LINES: Final = "application/x-ndjson"
EVENTS: Final = "text/event-stream"


class Example(NamedTuple):
    """What is sent to an operation, and what it tells where all goes well.

    Attributes:
        told: The answer; of streams of JSON one line.
        sent: The body of the request, where its model has no example.
        status: The status of the answer.
        streams: The types of the stream that the answer is; `()` where it is one value.
    """

    told: Any
    sent: Any = None
    status: int = 200
    streams: tuple[str, ...] = ()


_TOKENS: Final = {
    "access_token": "zd7osmUnni4NCIHJ8OL7HaebtfzCrIoZ6fCDQ8PVWG4",
    "refresh_token": "db01991c59190ab829aea8404e1122f7.aKFA88shYEhln6-Ze6U3kRfa1JbdJ9LmjccnLF4JwwQ",
    "token_type": "bearer",
}
_USER: Final = {
    "id": _USER_ID,
    "username": "ada",
    "is_active": True,
    "is_superuser": False,
    "create_at": _AT,
    "updated_at": _AT,
}
_KEY: Final = {
    "id": "01a2000d-9736-7296-979c-a5901275f956",
    "name": "nightly",
    "api_key": "ms_01a2000d97367296979ca5901275f956_****",
    "scopes": ["run:write", "jobs:read"],
    "created_at": _AT,
    "expires_at": None,
    "last_used_at": None,
}
_MESSAGE: Final = {"text": "hello", "sender": "Machine", "sender_name": "AI", "session_id": _JOB_ID, "files": []}
_JOB: Final = {
    "job_id": _JOB_ID,
    "flow": f"flow:{_FLOW_ID}",
    "flow_name": "Support assistant",
    "version": "4a88cfdb799de4484bfade6abbf4fbc385230cd5f725eda664af281522de292f",
    "state": "succeeded",
    "reason": None,
    "cancel_requested": False,
    "priority": 0,
    "durability": "full",
    "parent": None,
    "owner": _USER_ID,
    "created_at": _AT,
    "starts_at": None,
    "expires_at": None,
    "started_at": _AT,
    "ended_at": _AT,
    "inputs": {"input_value": "hello", "input_type": "chat"},
    "result": {"outputs": {"answer": _MESSAGE}},
    "error": None,
}
_NODE: Final = {
    "node": "answer",
    "state": "succeeded",
    "attempt": 1,
    "at": _AT,
    "reason": None,
    "until": None,
    "question": None,
    "error": None,
}
_WHOLE_JOB: Final = _JOB | {
    "repeats": None,
    "attempts": [{"attempt": 1, "process": _PROCESS, "at": _AT}],
    "nodes_known": 1,
    "nodes": [_NODE],
}
_ENDED: Final = {
    "cursor": "5-0",
    "type": "ended",
    "at": _AT,
    "node": None,
    "data": {"state": "succeeded", "reason": None},
}
_RUN: Final = {
    "session_id": _JOB_ID,
    "outputs": [
        {
            "inputs": {"input_value": "hello"},
            "outputs": [{"component_id": "answer", "results": {"message": _MESSAGE}, "duration": "0 ms"}],
        }
    ],
}

EXAMPLES: Final[Mapping[str, Example]] = {
    "login_login": Example(_TOKENS),
    "login_refresh": Example(_TOKENS),
    "login_logout": Example({"message": "Logout successful"}),
    "users_whoami": Example(_USER),
    "users_change_password": Example(
        None, {"current_password": "a long secret", "password": "another long secret"}, status=204
    ),
    "users_list_users": Example([_USER]),
    "users_add_user": Example(_USER, status=201),
    "users_show_user": Example(_USER),
    "users_change_user": Example(_USER),
    "users_remove_user": Example({"detail": "User deleted"}),
    "api_keys_list_keys": Example({"total_count": 1, "user_id": _USER_ID, "api_keys": [_KEY]}),
    "api_keys_add_key": Example(
        _KEY | {"api_key": "ms_01a2000d97367296979ca5901275f956_xKop73m6xcEqhRuXa69HfBbr1kaA1kYE9887hIeAnlg"},
        status=201,
    ),
    "api_keys_remove_key": Example({"detail": "API Key deleted"}),
    "build_build_flow": Example({"job_id": _JOB_ID}, {"inputs": {"input_value": "hello"}}),
    "build_read_build_events": Example(
        {"event": "end", "data": {"status": "succeeded", "build_duration": 0.014}}, streams=(LINES, EVENTS)
    ),
    "build_cancel_build": Example({"success": True, "message": "Flow build cancelled successfully"}),
    "run_run_flow": Example(_RUN, {"input_value": "hello", "input_type": "chat", "output_type": "chat"}),
    "webhook_call_webhook": Example(
        {
            "message": "Task started in the background",
            "status": "in progress",
            "job_id": _JOB_ID,
            "links": {
                "job": f"/api/v1/jobs/{_JOB_ID}",
                "events": f"/api/v1/jobs/{_JOB_ID}/events",
                "cancel": f"/api/v1/jobs/{_JOB_ID}/cancel",
            },
        },
        status=202,
    ),
    "health_health": Example({"status": "ok"}),
    "health_health_check": Example(
        {"status": "ok", "ledger": "ok", "event_log": "ok", "backend": "ok", "outbox": "ok"}
    ),
    "health_version": Example({"version": "0.1.0", "main_version": "0.1.0", "package": "millstream"}),
    "monitor_job_queue": Example(
        {
            "backend": "redis",
            "active_jobs": 2,
            "bridge_count": 2,
            "consumer_wrapper_count": 1,
            "background_task_count": 0,
            "cancel_dispatcher_running": True,
            "cancel_stats": {
                "published": 5,
                "marker_hit": 1,
                "dispatched_owned": 3,
                "dispatched_foreign": 2,
                "publish_errors": 0,
                "dispatcher_reconnects": 0,
                "dispatcher_internal_errors": 0,
                "polling_watchdog_kills": 0,
                "activity_touch_errors": 0,
                "activity_get_errors": 0,
                "activity_parse_errors": 0,
            },
        }
    ),
    "actions_act": Example(
        {"answers": [{"job_id": _JOB_ID, "is_done": True, "is_known": True, "said": "cancelled"}], "more": False}
    ),
    "jobs_list_jobs": Example([_JOB]),
    "jobs_show_job": Example(_WHOLE_JOB),
    "jobs_stream_events": Example(_ENDED, streams=(LINES, EVENTS)),
    "jobs_stream_logs": Example(_ENDED, streams=(LINES, EVENTS)),
    "jobs_cancel": Example({"job_id": _JOB_ID, "state": "cancelled", "cancel_requested": True}),
    "jobs_retry": Example({"job_id": _JOB_ID, "repeats": _FLOW_ID}, {"from_start": True}, status=202),
    "jobs_approve": Example({"job_id": _JOB_ID, "node": "approve", "is_done": True}),
    "processes_list_processes": Example(
        {
            "processes": [
                {
                    "id": _PROCESS,
                    "host": "shop-1",
                    "pid": 16227,
                    "started_at": _AT,
                    "executes": True,
                    "lease_seconds": 12.915,
                    "segments": 1,
                }
            ],
            "queues": [{"queue": "celery", "depth": 3}],
        }
    ),
    "tasks_run_task": Example({"task_id": _JOB_ID, "status": "Task started"}, status=202),
    "tasks_show_status": Example({"task_id": _JOB_ID, "status": "SUCCESS", "result": "Task completed in 5 seconds"}),
}
"""By the ids of operations."""
