"""What a web framework's configuration means as millstream's settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from millstream.compat.app.workers import OF_WORKERS
from millstream.compat.conf import Conf
from millstream.settings import Settings

_PREFIX: Final = "MILLSTREAM_"


def settings_of(config: Mapping[str, Any], conf: Conf) -> dict[str, Any]:
    """Return the settings that a framework's configuration brings, by name.

    Its keys `MILLSTREAM_…` are settings. A broker is the switch: where Celery's part of it names one, jobs run on
    workers, unless `celery_enabled` is said anywhere.

    Args:
        config: The configuration, such as `app.config` of a Flask app.
        conf: Celery's part of it.

    Raises:
        SettingsError: A setting is wrong.

    Example:
        >>> conf = Conf()
        >>> conf.update(broker_url="redis://localhost:6379/0")
        >>> sorted(settings_of({"MILLSTREAM_MAX_THREADS": 8, "SECRET_KEY": "x"}, conf).items())
        [('broker_url', 'redis://localhost:6379/0'), ('celery_enabled', True), ('max_threads', 8)]
    """
    own: dict[str, Any] = {
        key.removeprefix(_PREFIX).lower(): value
        for key, value in config.items()
        if key.startswith(_PREFIX) and value is not None
    }
    broker = conf.broker_url
    if not broker:
        return own
    if not isinstance(broker, str):  # Celery takes a list too
        broker = ";".join(broker)
    given = {"broker_url": broker, **_of_workers(conf), **own}
    if "celery_enabled" not in given:
        plain = Settings.load(**given)
        if plain.sources()["celery_enabled"].kind == "default":
            given["celery_enabled"] = True
    return given


def _of_workers(conf: Conf) -> dict[str, object]:
    return {ours: conf[celerys] for celerys, ours in OF_WORKERS.items() if conf.value_set_for(celerys)}
