"""`app.conf`: Celery's settings under their names, old and new, and a report of what becomes of each."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from millstream.compat.conf_catalogue import NAMES, SETTINGS, Setting, Standing
from millstream.compat.conf_checks import near, wrong_name, wrong_value
from millstream.compat.exceptions import CeleryWarning, ImproperlyConfigured

_ENVIRONMENT: Final = {"broker_url": "CELERY_BROKER_URL", "result_backend": "CELERY_RESULT_BACKEND"}
_PACKAGE: Final = f"{Path(__file__).parent.parent}{os.sep}"
_SECRETS: Final = ("password", "secret", "key", "token")


class NotYetWarning(CeleryWarning):
    """Warns, once for each setting or option, of something that millstream does not do yet."""


@dataclass(frozen=True, slots=True)
class Reported:
    """One setting that was set, and what becomes of it.

    Attributes:
        name: Its name since Celery 4.
        value: What it was set to.
        standing: `honoured`, `ignored` or `not yet there`.
        says: What it does here, or why nothing is lost, or which part brings it.
    """

    name: str
    value: Any
    standing: Standing
    says: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.name} = {shown(self.name, self.value)}: {self.standing} ({self.says})"


class Conf(MutableMapping[str, Any]):
    """The settings of one app, by attribute and by key.

    A name may be Celery's own (`task_always_eager`), the one from before Celery 4 (`CELERY_ALWAYS_EAGER`), or have the
    app's namespace before it (`CELERY_TASK_ALWAYS_EAGER`). Keys in capitals that are none of these belong to somebody
    else, as where the whole `config` of a Flask app is handed over; they are kept, and mean nothing here.

    Args:
        namespace: What stands before the names in objects that are read; without it nothing.

    Attributes:
        revision: Counts changes, so that what was worked out from the settings is worked out again.

    Example:
        >>> conf = Conf()
        >>> conf.update(task_time_limit=30, CELERY_TASK_SERIALIZER="json", SECRET_KEY="x")
        >>> conf.task_time_limit, conf["task_serializer"], conf.worker_prefetch_multiplier
        (30, 'json', 4)
        >>> [(line.name, str(line.standing)) for line in conf.report()]
        [('task_serializer', 'ignored'), ('task_time_limit', 'honoured')]
    """

    namespace: str | None
    revision: int

    def __init__(self, namespace: str | None = None) -> None:
        self._put("namespace", namespace)
        self._put("revision", 0)
        self._put("_set", {})
        self._put("_foreign", {})
        self._put("_defaults", {})
        self._put("_sources", [])
        self._put("_told", set())
        self._put("_after", [])

    # ----------------------------------------------------------------------------------------------- sources
    def read_later(self, source: Any, *, silent: bool = False) -> None:
        """Read settings from an object, a dict, or a module by name, when the first of them is asked for.

        What is set directly counts more than what is read.
        """
        self._sources.append((source, silent))
        self._put("revision", self.revision + 1)

    def set_namespace(self, namespace: str | None) -> None:
        """Say what stands before the names in objects that are read from now on."""
        self._put("namespace", namespace)

    def add_defaults(self, defaults: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Take settings that count less than all others."""
        self._sources.append((lambda: self._take(defaults, self._defaults), None))
        self._put("revision", self.revision + 1)

    def after_reading(self, tell: Callable[[Any], object]) -> None:
        """Call a function once, with the source, when the settings have been read."""
        self._after.append(tell)

    def _read(self) -> None:
        """Read the sources that were not read yet."""
        source: Any = None
        while self._sources:
            source, silent = self._sources.pop(0)
            try:
                if silent is None:
                    source()
                else:
                    found = _settings_in(source, silent=silent)
                    self._take(found, self._defaults, prefix=self.namespace, is_whole=True)
            except Exception:
                self._sources.insert(0, (source, silent))  # what cannot be read is told at each use, not only once
                raise
        while self._after:
            self._after.pop(0)(source)

    # ------------------------------------------------------------------------------------------------ values
    def __getitem__(self, key: str) -> Any:
        self._read()
        name = NAMES.get(key)
        if name is None:
            for known in (self._foreign, self._defaults):
                if key in known:
                    return known[key]
            raise KeyError(key)
        if name in _ENVIRONMENT and os.environ.get(_ENVIRONMENT[name]):
            return os.environ[_ENVIRONMENT[name]]
        for known in (self._set, self._defaults):
            if name in known:
                return known[name]
        return SETTINGS[name].default

    def __setitem__(self, key: str, value: Any) -> None:
        self._take({key: value}, self._set)

    def __delitem__(self, key: str) -> None:
        for known in (self._set, self._defaults, self._foreign):
            known.pop(NAMES.get(key, key), None)
        self._put("revision", self.revision + 1)

    def __getattr__(self, key: str) -> Any:
        try:
            return self[key]
        except KeyError:
            raise AttributeError(f"there is no setting {key!r}{near(key)}") from None

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value

    def __iter__(self) -> Iterator[str]:
        self._read()
        return iter({**SETTINGS, **self._defaults, **self._set, **self._foreign})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, key: object) -> bool:
        self._read()
        return key in NAMES or key in self._foreign or key in self._defaults

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several settings; a dict may hold keys that are somebody else's.

        Raises:
            ImproperlyConfigured: A name looks like one of Celery's and is none, or the value of a setting that does
                something here is of another kind.
        """
        self._take(dict(*args, **kwargs), self._set)

    def value_set_for(self, key: str) -> bool:
        """Return whether a setting was set, and does not just have its default."""
        self._read()
        name = NAMES.get(key, key)
        return name in self._set or name in self._defaults

    # ------------------------------------------------------------------------------------------------ saying
    def report(self) -> list[Reported]:
        """Return what becomes of each setting that was set, by name."""
        self._read()
        given = {**self._defaults, **self._set}
        return [
            Reported(name, given[name], SETTINGS[name].standing, SETTINGS[name].says)
            for name in sorted(given)
            if name in SETTINGS
        ]

    def table(self, *, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """Return settings by name: those that were set, or all; secrets as stars unless `censored` is off."""
        names = self if with_defaults else [reported.name for reported in self.report()]
        return {name: shown(name, self[name], quoted=False) if censored else self[name] for name in names}

    def humanize(self, *, with_defaults: bool = False, censored: bool = True) -> str:
        """Return the settings as text, one a line."""
        lines = self.table(with_defaults=with_defaults, censored=censored).items()
        return "\n".join(f"{name}: {value!r}" for name, value in lines)

    # ------------------------------------------------------------------------------------------------ inside
    def _take(
        self,
        given: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        into: dict[str, Any],
        *,
        prefix: str | None = None,
        is_whole: bool = False,
    ) -> None:
        """Sort what is given into settings and foreign keys; a name with the prefix is one without it.

        Raises:
            ImproperlyConfigured: See `update`.
        """
        for key, value in (given() if callable(given) else given).items():
            if prefix and not key.startswith(f"{prefix}_"):
                continue
            name = (NAMES.get(key.removeprefix(f"{prefix}_").lower()) if prefix else None) or NAMES.get(key)
            if name is None and is_whole and key.startswith("_"):
                continue
            wrong = wrong_name(key, self.namespace) if name is None else wrong_value(name, value)
            if wrong is not None:
                raise ImproperlyConfigured(wrong)
            if name is not None:
                into[name] = value
                self._tell(SETTINGS[name])
            elif not prefix:
                self._foreign[key] = value
        self._put("revision", self.revision + 1)

    def _tell(self, setting: Setting) -> None:
        if setting.standing is Standing.NOT_YET and setting.name not in self._told:
            self._told.add(setting.name)
            warnings.warn(f"{setting.name} is not there yet: {setting.says}", NotYetWarning, stacklevel=_users_level())

    def _put(self, key: str, value: Any) -> None:
        """Set an attribute of the object itself."""
        object.__setattr__(self, key, value)

    def __repr__(self) -> str:
        """Return a form that shows what was set."""
        return f"<Conf {self.table()}>"


def shown(name: str, value: Any, *, quoted: bool = True) -> Any:
    """Return a value as it may be shown: secrets, and passwords in URLs, as stars."""
    if value and any(word in name for word in _SECRETS):
        value = "********"
    elif isinstance(value, str) and "@" in value and "://" in value:
        scheme, _, rest = value.partition("://")
        who, _, place = rest.rpartition("@")
        user, colon, _ = who.partition(":")
        value = f"{scheme}://{user}{colon and ':**'}@{place}"
    return repr(value) if quoted else value


def _settings_in(source: Any, *, silent: bool) -> dict[str, Any]:
    """Return what an object, a dict, or a module (by its name, or `module:attribute`) says.

    Raises:
        ImproperlyConfigured: There is no such module or attribute.
    """
    if isinstance(source, str):
        module, _, attribute = source.partition(":")
        try:
            source = _found(module)
            source = getattr(source, attribute) if attribute else source
        except (ImportError, AttributeError) as error:
            if silent:
                return {}
            raise ImproperlyConfigured(f"settings cannot be read from {module!r}: {error}") from error
    if isinstance(source, Mapping):
        return dict(source)
    return {key: getattr(source, key) for key in dir(source) if _is_setting(source, key)}


def _found(name: str) -> Any:
    """Import a module, or something in one, by its dotted name."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        module, dot, attribute = name.rpartition(".")
        if not dot:
            raise
        return getattr(importlib.import_module(module), attribute)


def _is_setting(source: Any, key: str) -> bool:
    """Whether an attribute of an object is one of its settings, and not something it imports or does."""
    if key.startswith("_"):
        return False
    return key in NAMES or key.isupper() or not isinstance(source, ModuleType)


def _users_level() -> int:
    """Return the `stacklevel`, for who calls this, of the nearest line that is not millstream's own."""
    frame, level = sys._getframe(1), 1  # noqa: SLF001  as `warnings` itself finds it
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    return level
