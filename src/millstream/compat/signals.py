"""Celery's signals, as `celery.signals` has them, and which of them are sent when.

| signals | sent |
|---|---|
| `before_task_publish`, `after_task_publish` | where a task is called, before and after its job is submitted |
| `task_received` | where the task runs, before its first attempt |
| `task_prerun`, `task_postrun`, `task_success`, `task_retry`, `task_failure` | where the task runs, in its thread or process |
| `task_revoked` | where the task runs, when it ends after its job was cancelled; for one that had not started, where `control.revoke` was called |
| `task_internal_error` | where the task runs: one of its handlers raised an error |
| `celeryd_init`, `celeryd_after_setup`, `worker_init`, `worker_process_init`, `worker_ready`, `worker_shutting_down`, `worker_process_shutdown`, `worker_shutdown` | in `millstream worker`, and in `celery worker` by Celery |
| `import_modules` | where the modules of `include` and `imports` are imported |

The others exist so that they can be imported, and are never sent: `task_rejected`, `task_unknown` and `task_sent` (there
are no messages, and a job whose task is not known here is left to others), `worker_before_create_process` and
`heartbeat_sent` (a worker here has neither child processes of Celery's kind nor heartbeats), the logging ones
(millstream leaves logging to the program), those of beat (schedules are not there yet) and of Eventlet.
"""  # noqa: E501  a table's rows are lines

from __future__ import annotations

from typing import Final

from millstream.compat.dispatch import Signal

NEVER_SENT: Final = frozenset(
    {
        "after_setup_logger",
        "after_setup_task_logger",
        "beat_embedded_init",
        "beat_init",
        "eventlet_pool_apply",
        "eventlet_pool_postshutdown",
        "eventlet_pool_preshutdown",
        "eventlet_pool_started",
        "heartbeat_sent",
        "setup_logging",
        "task_rejected",
        "task_sent",
        "task_unknown",
        "user_preload_options",
        "worker_before_create_process",
    }
)

_LOGGING: Final = ("logger", "loglevel", "logfile", "format", "colorize")


def _signal(name: str, *arguments: str) -> Signal:
    return Signal(arguments, name=name)


# ------------------------------------------------------------------------------------------------------- tasks
before_task_publish = _signal(
    "before_task_publish", "body", "exchange", "routing_key", "headers", "properties", "declare", "retry_policy"
)
after_task_publish = _signal("after_task_publish", "body", "exchange", "routing_key", "headers")
task_received = _signal("task_received", "request")
task_prerun = _signal("task_prerun", "task_id", "task", "args", "kwargs")
task_postrun = _signal("task_postrun", "task_id", "task", "args", "kwargs", "retval", "state")
task_success = _signal("task_success", "result", "runtime")
task_retry = _signal("task_retry", "request", "reason", "einfo")
task_failure = _signal("task_failure", "task_id", "exception", "args", "kwargs", "traceback", "einfo")
task_internal_error = _signal(
    "task_internal_error", "task_id", "args", "kwargs", "request", "exception", "traceback", "einfo"
)
task_revoked = _signal("task_revoked", "request", "terminated", "signum", "expired")
task_rejected = _signal("task_rejected", "message", "exc")
task_unknown = _signal("task_unknown", "message", "exc", "name", "id")
task_sent = _signal("task_sent", "task_id", "task", "args", "kwargs", "eta", "taskset")

# ------------------------------------------------------------------------------------------------------ worker
celeryd_init = _signal("celeryd_init", "instance", "conf", "options")
celeryd_after_setup = _signal("celeryd_after_setup", "instance", "conf")
import_modules = _signal("import_modules")
worker_init = _signal("worker_init")
worker_before_create_process = _signal("worker_before_create_process")
worker_process_init = _signal("worker_process_init")
worker_process_shutdown = _signal("worker_process_shutdown", "pid", "exitcode")
worker_ready = _signal("worker_ready")
worker_shutdown = _signal("worker_shutdown")
worker_shutting_down = _signal("worker_shutting_down", "sig", "how", "exitcode")
heartbeat_sent = _signal("heartbeat_sent")

# ------------------------------------------------------------------------------------- logging, beat, Eventlet
setup_logging = _signal("setup_logging", "loglevel", "logfile", "format", "colorize")
after_setup_logger = _signal("after_setup_logger", *_LOGGING)
after_setup_task_logger = _signal("after_setup_task_logger", *_LOGGING)
beat_init = _signal("beat_init")
beat_embedded_init = _signal("beat_embedded_init")
eventlet_pool_started = _signal("eventlet_pool_started")
eventlet_pool_preshutdown = _signal("eventlet_pool_preshutdown")
eventlet_pool_postshutdown = _signal("eventlet_pool_postshutdown")
eventlet_pool_apply = _signal("eventlet_pool_apply", "target", "args", "kwargs")
user_preload_options = _signal("user_preload_options", "app", "options")
