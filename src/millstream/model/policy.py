"""What a task says about how it wants to be run: the one home of every policy name, its unit and its range."""

from __future__ import annotations

import re
from datetime import timedelta
from math import isfinite
from typing import Any, Literal, get_args

import msgspec

from millstream.errors import DefinitionError
from millstream.model.names import public_module

Effect = Literal["idempotent", "pure", "once"]
RunIn = Literal["auto", "loop", "thread", "process", "worker"]

DEFAULT_QUEUE = "celery"
ANY_ERROR = ("builtins:Exception",)


class Policy(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a task is run; set on the task, overridable per node.

    Attributes:
        retries: Attempts after the first one, 0 or more.
        retry_backoff: Seconds before the second attempt; doubled for each further one. 0 retries at once.
        retry_backoff_max: Upper bound of that delay, in seconds.
        retry_jitter: Draw the delay evenly from [0, delay], as Celery's option of this name does.
        retry_for: Exception classes that are retried, each as `module:qualname`; subclasses count.
        timeout: Seconds that an attempt may take before it is stopped; none without.
        soft_timeout: Seconds after which `SoftTimeLimitExceeded` is raised inside the attempt.
        expires: Seconds after the job's submission in which the node must have started, else it fails.
        priority: 0 to 9; of the nodes that are ready, the higher goes first.
        queue: The queue that workers take the task from; its name has 255 bytes of UTF-8 at most.
        cache_ttl: Seconds for which a result is used again for the same key.
        idempotency_key: The cache's key as a format string over the arguments (`"invoice-{order}"`); without it
            the key is made of all arguments.
        effect: `idempotent` (may be repeated after a crash), `pure` (may be computed again at will), `once` (its start
            is recorded before it runs, and it is never repeated after an unknown outcome).
        run_in: `auto` (coroutines on the loop, plain functions in a thread), `loop`, `thread`, `process` (CPU-bound;
            cancel and time-outs kill it), `worker` (in a worker process where there are some, else as `process`).
    """

    retries: int = 0
    retry_backoff: float = 0.0
    retry_backoff_max: float = 600.0
    retry_jitter: bool = True
    retry_for: tuple[str, ...] = ANY_ERROR
    timeout: float | None = None
    soft_timeout: float | None = None
    expires: float | None = None
    priority: int = 0
    queue: str = DEFAULT_QUEUE
    cache_ttl: float | None = None
    idempotency_key: str | None = None
    effect: Effect = "idempotent"
    run_in: RunIn = "auto"


DEFAULT_POLICY = Policy()

CELERY_NAMES = {"max_retries": "retries", "time_limit": "timeout", "soft_time_limit": "soft_timeout"}
"""Celery's names of policies, as signatures take them."""


def class_name(kind: type) -> str:
    """Return a class as `module:qualname`, the form in which policies, failures and written values name classes.

    >>> class_name(ValueError)
    'builtins:ValueError'
    """
    return f"{public_module(kind.__module__)}:{kind.__qualname__}"


def revise_policy(policy: Policy, changes: dict[str, Any], *, where: str) -> Policy:
    """Return `policy` with `changes`, each checked.

    Args:
        policy: What holds where nothing is changed.
        changes: Policy names to values, as users write them: `retry_backoff` may be `True` (1 second), `retry_for` an
            exception class or a tuple of them, durations seconds or `timedelta`.
        where: What the policy belongs to; errors begin with it.

    Raises:
        DefinitionError: A name is no policy, or a value is of the wrong type or out of range.

    >>> revise_policy(DEFAULT_POLICY, {"retries": 3, "retry_backoff": True}, where="task fetch").retry_backoff
    1.0
    """
    if not changes:
        return policy
    unknown = sorted(set(changes) - set(Policy.__struct_fields__))
    if unknown:
        own = "".join(f" ({name} is called {CELERY_NAMES[name]} here)" for name in unknown if name in CELERY_NAMES)
        known = ", ".join(Policy.__struct_fields__)
        message = f"{where}: there is no policy {', '.join(unknown)}{own}; known are {known}"
        raise DefinitionError(message)
    clean = {name: _plain(name, value) for name, value in changes.items()}
    wrong = {name: words for name, words in _WORDS.items() if name in clean and not _is_of_type(name, clean[name])}
    right = {name: value for name, value in clean.items() if name not in wrong}
    revised = msgspec.convert({**msgspec.structs.asdict(policy), **right}, Policy, strict=True)
    problems = [f"{name} is {_shown(clean[name])}, but must be {words}" for name, words in wrong.items()]
    problems += _out_of_range(revised)
    if problems:
        message = f"{where}: {'; '.join(problems)}"
        raise DefinitionError(message)
    return revised


def _is_of_type(name: str, value: Any) -> bool:
    try:
        msgspec.convert(value, _TYPES[name], strict=True)
    except msgspec.ValidationError:
        return False
    return True


def _shown(value: Any) -> str:
    is_long = isinstance(value, int) and value.bit_length() > _SHOWN
    return "a number of many digits" if is_long else repr(value)[:_SHOWN]


def _plain(name: str, value: Any) -> Any:
    if name == "retry_backoff" and isinstance(value, bool):
        return 1.0 if value else 0.0
    if name == "retry_for":
        kinds = value if isinstance(value, list | tuple) else (value,)
        return tuple(_exception_name(kind) for kind in kinds)
    if name in _SECONDS and isinstance(value, timedelta):
        return value.total_seconds()
    return value


def _exception_name(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, BaseException):
        return class_name(kind)
    text = kind if isinstance(kind, str) else repr(kind)
    return text.encode("unicode_escape").decode()  # it may end in a message, which is one line


_SHOWN = 64
_TYPES = {field.name: field.type for field in msgspec.structs.fields(Policy)}
_WORDS = {
    **dict.fromkeys(("retries", "priority"), "a whole number"),
    **dict.fromkeys(("retry_backoff", "retry_backoff_max"), "a number of seconds"),
    **dict.fromkeys(("timeout", "soft_timeout", "expires", "cache_ttl"), "a number of seconds or null"),
    "retry_jitter": "true or false",
    "queue": "a text",
    "idempotency_key": "a text or null",
    "effect": f"one of {', '.join(get_args(Effect))}",
    "run_in": f"one of {', '.join(get_args(RunIn))}",
}
"""What each policy can be, but for `retry_for`, which is made of texts whatever is given."""
_SECONDS = ("retry_backoff", "retry_backoff_max", "timeout", "soft_timeout", "expires", "cache_ttl")
_TOP_PRIORITY = 9
_QUEUE_BYTES = 255
_CLASS_NAME = re.compile(r"[^:\s]+:[^:\s]+")


def _out_of_range(policy: Policy) -> list[str]:
    problems = [
        f"{name} is {value!r}, but must be a finite number"
        for name in _SECONDS
        if (value := getattr(policy, name)) is not None and not isfinite(value)
    ]
    problems += [
        f"{name} is {value!r}, but must be greater than 0 seconds"
        for name in ("timeout", "soft_timeout", "expires", "cache_ttl")
        if (value := getattr(policy, name)) is not None and value <= 0
    ]
    problems += [
        f"{name} is {value!r}, but must not be negative"
        for name in ("retries", "retry_backoff", "retry_backoff_max")
        if (value := getattr(policy, name)) < 0
    ]
    problems += [
        f"retry_for takes exception classes, also written as 'module:name', but not {name}"
        for name in policy.retry_for
        if not _CLASS_NAME.fullmatch(name)
    ]
    if not 0 <= policy.priority <= _TOP_PRIORITY:
        problems.append(f"priority is {policy.priority!r}, but must be 0 to {_TOP_PRIORITY}")
    if policy.timeout and policy.soft_timeout and policy.soft_timeout >= policy.timeout:
        problems.append(f"soft_timeout ({policy.soft_timeout}) must be shorter than timeout ({policy.timeout})")
    if not policy.queue:
        problems.append("queue is empty")
    if (size := len(policy.queue.encode(errors="replace"))) > _QUEUE_BYTES:
        problems.append(f"queue {policy.queue[:20]!r}… has {size} bytes, but may have {_QUEUE_BYTES}, as in RabbitMQ")
    if policy.idempotency_key is not None and policy.cache_ttl is None:
        problems.append("idempotency_key names a cached result, so it needs cache_ttl")
    return problems
