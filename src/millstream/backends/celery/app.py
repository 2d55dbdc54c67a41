"""The Celery app of ours: one task, which has workers take from the ledger, and the settings that go with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, Final

from celery import Celery
from celery.app.amqp import Queues

from millstream.backends.celery.garbage import Sieve
from millstream.backends.celery.messages import TASK, Signer
from millstream.backends.celery.queues import task_queue
from millstream.backends.celery.runtime import Program
from millstream.backends.celery.steps import Workplace
from millstream.backends.celery.strategy import Guard
from millstream.settings import Settings

_POOL_PROCESS_SECONDS: Final = 30.0
_BROKER_SECONDS: Final = 4.0
_HEARTBEAT_SECONDS: Final = 4
"""RabbitMQ's connection is given up after two and a half of these without a sign."""


class Seat:
    """What a worker of a Celery app executes for.

    Args:
        settings: The settings.
        make: Makes the app whose segments are executed; called once, in the worker, before it forks.

    Attributes:
        settings: See above.
        place: Where the app runs in this worker; set when it starts.
    """

    def __init__(self, settings: Settings, make: Callable[[], Program]) -> None:
        """Make nothing yet."""
        self.settings = settings
        self._make = make
        self.place: Any = None

    @cached_property
    def program(self) -> Program:
        """The app."""
        return self._make()

    @cached_property
    def guard(self) -> Guard:
        """Judges messages; blocks when it is made, for it asks the ledger who it is.

        Raises:
            LedgerUnavailableError: The ledger cannot be reached.
        """
        return Guard(Signer(self.program.identify(), self.settings.message_secret), self.program.flows)


class TaskQueues(Queues):  # type: ignore[misc]
    """Celery's queues, of which those that nobody declared are made as ours are.

    Args:
        is_amqp: Whether the broker is RabbitMQ.
    """

    def __init__(self, *args: Any, is_amqp: bool, **options: Any) -> None:
        """Take over what Celery gives."""
        self._is_amqp = is_amqp
        super().__init__(*args, **options)

    def new_missing(self, name: str) -> Any:
        """Return the queue of a name that nobody declared."""
        return task_queue(name, is_amqp=self._is_amqp)


def make_celery(seat: Seat, *, main: str = "millstream", **changes: Any) -> Celery:
    """Return a Celery app whose workers execute segments, beside tasks that users register with it.

    Args:
        seat: What its workers execute for.
        main: Its name, which tasks of `__main__` get.
        changes: Further settings of Celery, by their names in lower case.

    Raises:
        SettingsError: There is no broker.
    """
    app = Celery(main)
    give_seat(app, seat, **changes)
    app.steps["worker"].add(Workplace)
    app.steps["consumer"].add(Sieve)

    def execute_segment(**_told: Any) -> None:
        app.seat.place.serve()

    app.task(
        execute_segment,
        name=TASK,
        ignore_result=True,
        acks_late=False,
        max_retries=0,
        Strategy="millstream.backends.celery.strategy:checked",
        Request="millstream.backends.celery.request:WakeRequest",
        shared=False,
    )
    return app


def give_seat(app: Celery, seat: Seat, **changes: Any) -> None:
    """Have the workers of a Celery app execute for a seat, by its settings.

    Args:
        app: The app; it has no connection yet.
        seat: What its workers execute for.
        changes: Further settings of Celery, by their names in lower case.

    Raises:
        SettingsError: There is no broker.
    """
    broker = seat.settings.effective_broker_url
    is_amqp = broker.startswith(("amqp", "pyamqp"))
    urls = {"broker_url": broker, "result_backend": seat.settings.effective_result_backend}
    app.conf.update(_configuration(seat.settings, is_amqp=is_amqp) | urls | changes)
    app.amqp.queues_cls = partial(TaskQueues, is_amqp=is_amqp)
    app.seat = seat


def _configuration(settings: Settings, *, is_amqp: bool) -> dict[str, Any]:
    """Return Celery's settings: what is promised depends on none of them, but how soon things happen does."""
    queues = [task_queue(settings.default_queue, is_amqp=is_amqp)]
    return {
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "imports": settings.imports,
        "task_default_queue": settings.default_queue,
        # A topic exchange of its own name: through a direct one RabbitMQ cannot deliver users' tasks with a countdown.
        "task_default_exchange": "millstream" if is_amqp else settings.default_queue,
        "task_default_exchange_type": "topic" if is_amqp else "direct",
        "task_default_routing_key": settings.default_queue,
        "task_queues": queues,
        "task_default_queue_type": "quorum" if is_amqp else "classic",
        "task_create_missing_queue_type": "quorum" if is_amqp else "classic",
        "worker_concurrency": settings.worker_concurrency,
        "worker_prefetch_multiplier": settings.worker_prefetch_multiplier,
        "worker_max_tasks_per_child": settings.worker_max_tasks_per_child,
        "worker_max_memory_per_child": settings.worker_max_memory_per_child,
        "worker_proc_alive_timeout": _POOL_PROCESS_SECONDS,
        # What runs is the ledger's business: a broker that goes away stops nothing, and is waited for without end.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_connection_timeout": _BROKER_SECONDS,
        "broker_heartbeat": _HEARTBEAT_SECONDS,
        # Bounds for an answer that has to come; an idle worker reads only what is there. Without them a worker whose
        # connection nobody answers on any more waits for ever for the broker to confirm an event.
        "broker_transport_options": {
            "confirm_publish": True,
            "read_timeout": _BROKER_SECONDS,
            "write_timeout": _BROKER_SECONDS,
        }
        if is_amqp
        else {
            "socket_timeout": _BROKER_SECONDS,
            "socket_connect_timeout": _BROKER_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        "task_publish_retry_policy": {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2},
    }
