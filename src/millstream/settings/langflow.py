"""The settings that Langflow has too, under the names and with the defaults that its users know."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from millstream.settings.kinds import (
    Count,
    Database,
    Directory,
    Host,
    Port,
    RedisServer,
    Seconds,
    SomeSeconds,
    lower,
)


class LangflowSettings(BaseModel):
    """The settings that Langflow has too, with its defaults; they are also read under their `LANGFLOW_` names."""

    # Pydantic quotes the inputs it refuses; one of them may be a password.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)

    config_dir: Directory | None = None
    database_url: Database | None = None

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65_535)] = 7860  # 0: one that is free
    workers: Count = 1
    worker_timeout: Count = 300
    gunicorn_preload: bool = False

    superuser: str | None = None
    superuser_password: SecretStr | None = None
    auto_login: bool | None = None  # None: on where the server listens on loopback only

    celery_enabled: bool = False
    redis_url: str | None = None
    redis_host: Host = "localhost"
    redis_port: Port = 6379

    job_queue_type: Annotated[Literal["asyncio", "redis"], BeforeValidator(lower)] | None = None
    redis_queue_url: RedisServer | None = None
    redis_queue_host: Host | None = None  # None: redis_host
    redis_queue_port: Port | None = None  # None: redis_port
    redis_queue_db: Annotated[int, Field(ge=0)] = 1
    redis_queue_ttl: Count = 3600
    redis_queue_startup_grace_s: Seconds = 30.0
    redis_queue_cancel_channel_enabled: bool = True
    redis_queue_cancel_marker_ttl: Count = 60
    redis_queue_polling_stale_threshold_s: Seconds = 90.0
    redis_queue_polling_watchdog_interval_s: SomeSeconds = 15.0
