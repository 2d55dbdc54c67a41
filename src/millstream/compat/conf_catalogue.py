"""Every setting that Celery 5.7 documents, its default there, and what it does here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final


class Standing(StrEnum):
    """What becomes of a setting."""

    HONOURED = "honoured"
    IGNORED = "ignored"
    NOT_YET = "not yet there"


@dataclass(frozen=True, slots=True)
class Setting:
    """One of Celery's settings.

    Attributes:
        name: Its name since Celery 4.
        default: What it is unless it is set.
        standing: What becomes of it here.
        says: What it does here, or why nothing is lost, or which part brings it.
    """

    name: str
    default: Any
    standing: Standing
    says: str

    @property
    def old_name(self) -> str:
        """Its upper-case name from before Celery 4."""
        if self.name in _OLD_NAMES:
            return _OLD_NAMES[self.name]
        for prefix, old in _OLD_PREFIXES:
            if self.name.startswith(prefix):
                return f"{old}{self.name.removeprefix(prefix)}".upper()
        return self.name.upper()


_OLD_PREFIXES: Final = (
    ("task_", "CELERY_"),
    ("worker_", "CELERYD_"),
    ("beat_", "CELERYBEAT_"),
    *((f"{prefix}_", f"CELERY_{prefix}_") for prefix in ("arangodb", "cache", "couchbase", "elasticsearch", "event")),
    *((f"{prefix}_", f"CELERY_{prefix}_") for prefix in ("mongodb", "redis", "security")),
    ("result_accept_content", "result_accept_content"),
    ("result_", "CELERY_result_"),
)
_OLD_NAMES: Final = {
    **{name: f"CELERY_{name.upper()}" for name in ("accept_content", "imports", "include", "timezone")},
    "database_engine_options": "CELERY_RESULT_ENGINE_OPTIONS",
    "database_short_lived_sessions": "CELERY_RESULT_DB_SHORT_LIVED_SESSIONS",
    "database_table_names": "CELERY_RESULT_DB_TABLENAMES",
    "database_url": "CELERY_RESULT_DBURI",
    "result_cache_max": "CELERY_MAX_CACHED_RESULTS",
    "result_expires": "CELERY_TASK_RESULT_EXPIRES",
    "task_compression": "CELERY_MESSAGE_COMPRESSION",
    "task_eager_propagates": "CELERY_EAGER_PROPAGATES_EXCEPTIONS",
    "task_protocol": "CELERY_TASK_PROTOCOL",
    "task_publish_retry": "CELERY_TASK_PUBLISH_RETRY",
    "task_publish_retry_policy": "CELERY_TASK_PUBLISH_RETRY_POLICY",
    "task_send_sent_event": "CELERY_SEND_TASK_SENT_EVENT",
    "task_serializer": "CELERY_TASK_SERIALIZER",
    "task_soft_time_limit": "CELERYD_TASK_SOFT_TIME_LIMIT",
    "task_time_limit": "CELERYD_TASK_TIME_LIMIT",
    "worker_direct": "CELERY_WORKER_DIRECT",
    "worker_disable_rate_limits": "CELERY_DISABLE_RATE_LIMITS",
    "worker_enable_remote_control": "CELERY_ENABLE_REMOTE_CONTROL",
    "worker_lost_wait": "CELERYD_WORKER_LOST_WAIT",
    "worker_redirect_stdouts": "CELERY_REDIRECT_STDOUTS",
    "worker_redirect_stdouts_level": "CELERY_REDIRECT_STDOUTS_LEVEL",
    "worker_send_task_events": "CELERY_SEND_EVENTS",
}

BY_WORKERS: Final = "Celery's own worker goes by it: `celery -A` with this app"

SETTINGS: Final[dict[str, Setting]] = {}
"""All settings by name."""


def _group(standing: Standing, says: str, names: str = "", /, **defaults: Any) -> None:
    """Note settings of one standing: those named in one string have no default."""
    for name, default in {**dict.fromkeys(names.split()), **defaults}.items():
        SETTINGS[name] = Setting(name, default, standing, says)


# ---------------------------------------------------------------------------------------------------- honoured
_honoured = Standing.HONOURED
_group(
    _honoured, "these modules are imported before tasks are looked up by name, and by a worker", imports=(), include=()
)
_group(_honoured, "an `eta` or `expires` without a time zone is read in it; without `timezone` in UTC", timezone=None)
_group(_honoured, "where it is off and no `timezone` is set, times without a zone are local ones", enable_utc=True)
_group(
    _honoured,
    'on: a task is repeated when its process dies (`effect="idempotent"`), which is the default here; '
    'set to False: it never runs twice, and its job waits for a decision (`effect="once"`)',
    task_acks_late=False,
)
_group(_honoured, "calls run the task at once, in the caller's thread", task_always_eager=False)
_group(_honoured, "what an eager call raises comes through at the call", task_eager_propagates=False)
_group(_honoured, "attributes of tasks by name, `*` for all", "task_annotations")
_group(
    _honoured, "the policy `queue` of tasks that name none, and that which workers serve", task_default_queue="celery"
)
_group(_honoured, "the policy `priority` of tasks that name none", "task_default_priority")
_group(_honoured, "calls inside a task take its priority over", task_inherit_parent_priority=False)
_group(_honoured, "`queue` and `priority` by the task's name, glob or function", "task_routes")
_group(_honoured, "the policy `timeout` of tasks that name none", "task_time_limit")
_group(_honoured, "the policy `soft_timeout` of tasks that name none", "task_soft_time_limit")

_group(_honoured, "with `celery_enabled` the broker, unless millstream's settings name one", "broker_url")
_group(_honoured, "with `celery_enabled` the queues that a worker serves where `-Q` names none", "task_queues")
_group(
    _honoured,
    "with `celery_enabled` millstream's setting of this name",
    "worker_concurrency worker_max_memory_per_child worker_max_tasks_per_child",
    worker_prefetch_multiplier=4,
)
_group(
    _honoured,
    BY_WORKERS,
    "worker_agent worker_log_color worker_log_datefmt worker_state_db worker_task_log_datefmt worker_timer",
    control_exchange="celery",
    control_queue_durable=False,
    control_queue_exclusive=True,
    control_queue_expires=10.0,
    control_queue_ttl=300.0,
    event_exchange="celeryev",
    event_queue_durable=False,
    event_queue_exclusive=True,
    event_queue_expires=60.0,
    event_queue_prefix="celeryev",
    event_queue_ttl=5.0,
    worker_autoscaler="celery.worker.autoscale:Autoscaler",
    worker_consumer="celery.worker.consumer:Consumer",
    worker_disable_prefetch=False,
    worker_disable_rate_limits=False,
    worker_enable_remote_control=True,
    worker_enable_soft_shutdown_on_idle=False,
    worker_hijack_root_logger=True,
    worker_log_format="[%(asctime)s: %(levelname)s/%(processName)s] %(message)s",
    worker_lost_wait=10.0,
    worker_pool="prefork",
    worker_pool_putlocks=True,
    worker_pool_restarts=False,
    worker_pool_start_method="fork",
    worker_proc_alive_timeout=4.0,
    worker_redirect_stdouts=True,
    worker_redirect_stdouts_level="WARNING",
    worker_send_task_events=False,
    worker_soft_shutdown_timeout=0.0,
    worker_task_log_format="[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s",
    worker_timer_precision=1.0,
)

# ----------------------------------------------------------------------------------------------- not yet there
_not_yet = Standing.NOT_YET
_group(
    _not_yet,
    "schedules bring it; until then call the task from cron or a systemd timer",
    "beat_cron_starting_deadline beat_remote_control_max_tick_age",
    beat_enable_remote_control=False,
    beat_max_loop_interval=0,
    beat_schedule=MappingProxyType({}),
    beat_schedule_filename="celerybeat-schedule",
    beat_scheduler="celery.beat:PersistentScheduler",
    beat_sync_every=0,
)
_group(_not_yet, "global limits bring it, with schedules", "task_default_rate_limit")

# ----------------------------------------------------------------------------------------------------- ignored
_ignored = Standing.IGNORED
_group(
    _ignored,
    "a broker is named by its URL",
    "broker_read_url broker_write_url broker_host broker_port broker_user broker_password broker_vhost "
    "broker_transport",
)
_group(
    _ignored,
    "messages hold no arguments, and are signed with the ledger's key or millstream's setting `message_key`",
    "security_cert_store security_certificate security_key security_key_password",
    security_digest="sha256",
)
_group(_ignored, "a worker has no queue of its own: whoever has room takes a job from the ledger", worker_direct=False)
_group(_ignored, "kept and shown; results are in millstream's ledger", "result_backend")
_group(
    _ignored,
    "millstream looks after its connections to a broker by itself; TLS is said by its URL: `rediss://`, `amqps://`",
    "broker_connection_retry_on_startup broker_failover_strategy broker_login_method broker_pool_acquire_timeout",
    broker_channel_error_retry=False,
    broker_connection_max_retries=100,
    broker_connection_retry=True,
    broker_connection_timeout=4,
    broker_heartbeat=120,
    broker_heartbeat_checkrate=3.0,
    broker_native_delayed_delivery_queue_type="quorum",
    broker_pool_limit=10,
    broker_transport_options=MappingProxyType({}),
    broker_use_ssl=False,
)
_group(
    _ignored,
    "values are written down in millstream's own form, which holds what JSON holds and more",
    "result_accept_content result_compression task_compression",
    accept_content=("json",),
    result_serializer="json",
    task_serializer="json",
    event_serializer="json",
)
_group(
    _ignored,
    "it belongs to a result backend; results are in millstream's ledger",
    "arangodb_backend_settings cache_backend couchbase_backend_settings mongodb_backend_settings "
    "cassandra_auth_kwargs cassandra_auth_provider cassandra_bundle_path cassandra_entry_ttl cassandra_keyspace "
    "cassandra_port cassandra_read_consistency cassandra_servers cassandra_table cassandra_write_consistency "
    "database_engine_callback database_table_names database_table_schemas database_url "
    "elasticsearch_max_retries elasticsearch_retry_on_timeout elasticsearch_timeout gcs_bucket gcs_project "
    "redis_backend_use_ssl redis_db redis_host redis_max_connections redis_password redis_port "
    "redis_socket_connect_timeout redis_username s3_access_key_id s3_base_path s3_bucket s3_endpoint_url s3_region "
    "s3_secret_access_key result_persistent",
    azureblockblob_base_path="",
    azureblockblob_connection_timeout=20,
    azureblockblob_container_name="celery",
    azureblockblob_read_timeout=120,
    azureblockblob_retry_increment_base=2,
    azureblockblob_retry_initial_backoff_sec=2,
    azureblockblob_retry_max_attempts=3,
    cache_backend_options=MappingProxyType({}),
    cassandra_options=MappingProxyType({}),
    cosmosdbsql_collection_name="celerycol",
    cosmosdbsql_consistency_level="Session",
    cosmosdbsql_database_name="celerydb",
    cosmosdbsql_max_retry_attempts=9,
    cosmosdbsql_max_retry_wait_time=30,
    database_create_tables_at_setup=True,
    database_engine_options=MappingProxyType({"pool_pre_ping": True, "pool_recycle": 3600}),
    database_short_lived_sessions=False,
    elasticsearch_save_meta_as_text=True,
    gcs_base_path="",
    gcs_ttl=0,
    redis_retry_on_timeout=False,
    redis_socket_keepalive=False,
    redis_socket_timeout=120.0,
    result_backend_always_retry=False,
    result_backend_base_sleep_between_retries_ms=10,
    result_backend_max_retries=float("inf"),
    result_backend_max_sleep_between_retries_ms=10000,
    result_backend_transport_options=MappingProxyType({}),
    result_cache_max=-1,
    result_exchange="celeryresults",
    result_exchange_type="direct",
)
_group(
    _ignored,
    "results are kept as long as millstream's setting `retention_days` says",
    "result_chord_expires result_failure_expires",
    result_expires=timedelta(days=1),
)
_group(_ignored, "name, arguments, worker and retries of a task are always kept", result_extended=False)
_group(
    _ignored,
    "a chord is one graph: its body starts when the header's last task ends, and nothing is asked for again and again",
    result_chord_join_timeout=3.0,
    result_chord_retry_interval=1.0,
)
_group(
    _ignored, "a chord's errback hears of its header's failures anyway, once", task_allow_error_cb_on_chord_header=False
)
_group(
    _ignored,
    "a message only wakes a worker, and may be lost: a job is done when its result is recorded",
    "task_acks_on_failure task_acks_on_timeout task_reject_on_worker_lost",
    task_acks_on_failure_or_timeout=True,
    task_retry_on_worker_lost=False,
)
_group(
    _ignored,
    "queues need no declaration, and messages go to a queue by its name",
    "task_create_missing_queue_exchange_type task_default_exchange task_default_routing_key task_queue_max_priority",
    task_create_missing_queue_type="classic",
    task_create_missing_queues=True,
    task_default_delivery_mode=2,
    task_default_exchange_type="direct",
    task_default_queue_type="classic",
    task_protocol=2,
)
_group(
    _ignored,
    "a submit is one transaction of the ledger: it is made, or the call raises",
    task_publish_retry=True,
    task_publish_retry_policy=MappingProxyType(
        {"max_retries": 3, "interval_start": 0, "interval_max": 1, "interval_step": 0.2}
    ),
)
_group(
    _ignored,
    "every result and error is kept, and may be read or not",
    task_ignore_result=False,
    task_store_errors_even_if_ignored=False,
)
_group(_ignored, "an eager result is with its caller, and in no ledger", task_store_eager_result=False)
_group(_ignored, "STARTED is always told", task_track_started=False)
_group(_ignored, "a failure always keeps its traceback", task_remote_tracebacks=False)
_group(_ignored, "events show values in their own form", task_repr_maxlevels=3)
_group(_ignored, "every job's events are recorded, for any number of readers", task_send_sent_event=False)
_group(
    _ignored,
    "a worker takes a job when it has room for it, and hands on what it cannot end",
    "worker_eta_task_limit",
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_deduplicate_successful_tasks=False,
    worker_detect_quorum_queues=True,
    worker_enable_prefetch_count_reduction=True,
)

NAMES: Final = MappingProxyType(
    {
        **{f"CELERY_{setting.name.upper()}": setting.name for setting in SETTINGS.values()},
        **{setting.old_name: setting.name for setting in SETTINGS.values()},
        **{setting.name: setting.name for setting in SETTINGS.values()},
    }
)
"""Every name under which a setting may be given, with its name here."""
