"""What the pool changes in the worker around it: its defaults, and tasks that are registered while it runs."""

from __future__ import annotations

from typing import Any

from celery import bootsteps, concurrency, signals
from celery.app.trace import build_tracer

from millstream.backends.celery.pool.adapt import adapt

_CONCURRENCY = 1000
_CELERYS_MULTIPLIER = 4


class Strategies(dict[str, Any]):
    """How a consumer takes messages, by the name of their task; finds tasks that were registered meanwhile.

    Args:
        consumer: Celery's consumer.
    """

    def __init__(self, consumer: Any) -> None:
        """Know no task yet."""
        super().__init__()
        self._consumer = consumer

    def __missing__(self, name: str) -> Any:
        """Return the strategy of a task that was registered after the worker had started."""
        consumer = self._consumer
        task = consumer.app.tasks.get(name)
        if task is None:
            raise KeyError(name)
        build(task, consumer.app, consumer.hostname)
        consumer.task_buckets[name] = consumer.bucket_for_task(task)
        self[name] = task.start_strategy(consumer.app, consumer)
        return self[name]


class LateTasks(bootsteps.Step):  # type: ignore[misc]
    """A step of Celery's consumer: lets it find tasks that are registered while it runs."""

    def include_if(self, parent: Any) -> bool:
        """Whether the consumer's pool is ours."""
        return _is_ours(type(parent.pool))

    def create(self, parent: Any) -> None:
        """Put the strategies in their place, before they are filled."""
        parent.strategies = Strategies(parent)


def build(task: Any, app: Any, hostname: str) -> None:
    """Adapt a task and make its tracer."""
    adapt(task)
    task.__trace__ = build_tracer(task.name, task, app.loader, hostname, app=app)


def _is_ours(pool: Any) -> bool:
    from millstream.backends.celery.pool.task_pool import TaskPool  # noqa: PLC0415  it needs these steps itself

    found = concurrency.get_implementation(pool)
    return isinstance(found, type) and issubclass(found, TaskPool)


def _choose_concurrency(conf: Any, options: dict[str, Any], **_: Any) -> None:
    """Let a worker have 1,000 coroutines where nobody said how many; Celery would take the number of CPUs."""
    pool = options.get("pool") or options.get("pool_cls") or conf.worker_pool
    if _is_ours(pool) and options.get("concurrency") is None and conf.worker_concurrency is None:
        conf.worker_concurrency = _CONCURRENCY


def _choose_prefetch(sender: Any, **_: Any) -> None:
    """Let a worker take no more messages than it can run; Celery's default would be four times as many."""
    chosen = sender.app.conf.without_defaults().get("worker_prefetch_multiplier")
    if _is_ours(sender.pool_cls) and chosen is None and sender.prefetch_multiplier == _CELERYS_MULTIPLIER:
        sender.prefetch_multiplier = 1


def choose_defaults() -> None:
    """Have the defaults of workers with this pool chosen as they start."""
    signals.celeryd_init.connect(_choose_concurrency)
    signals.worker_init.connect(_choose_prefetch)
