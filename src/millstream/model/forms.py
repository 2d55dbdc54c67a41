"""The forms in which values are written that MessagePack has no own form for; each has a number that is never reused.

A form takes a value apart into simpler ones, which are written in turn. Standard types have a form each. Objects of the
user's classes are written by the name of their class and their state, which brings them back without their constructor
where that can be; an object that has its own way of being pickled is pickled, as is everything else.
"""

from __future__ import annotations

import copyreg
import dataclasses
import pickle
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from io import BytesIO
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from millstream.errors import NotSerializableError
from millstream.model.failure import Failure
from millstream.model.names import find_class, public_module
from millstream.model.policy import class_name


class Form(NamedTuple):
    """How values of one type are written.

    Attributes:
        code: Its number as a MessagePack extension.
        parts: Takes a value apart.
        whole: Puts it together again.
        shown: Returns what is shown of its parts, without importing or running anything.
    """

    code: int
    parts: Callable[[Any], Any]
    whole: Callable[[Any], Any]
    shown: Callable[[Any], Any]


# ------------------------------------------------------------------------------------------------- standard types
def _big_int(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _clock_parts(value: time | datetime) -> list[Any]:
    return [value.isoformat(), value.fold, value.tzinfo]


def _first(parts: Any) -> Any:
    return parts[0]


def _same(parts: Any) -> Any:
    return parts


def _shown_failure(parts: dict[str, Any]) -> Failure:
    return Failure(**{**parts, "args": tuple(parts["args"]), "ancestors": tuple(parts["ancestors"])})


FORMS: Final[dict[type, Form]] = {
    int: Form(1, lambda v: v.to_bytes(v.bit_length() // 8 + 1, "little", signed=True), _big_int, _big_int),
    str: Form(
        2,
        lambda v: v.encode("utf-8", "surrogatepass"),
        lambda data: data.decode("utf-8", "surrogatepass"),
        lambda data: data.decode("utf-8", "backslashreplace"),
    ),
    dict: Form(
        3,
        lambda v: [part for pair in v.items() for part in pair],
        lambda parts: dict(zip(parts[::2], parts[1::2], strict=True)),
        lambda parts: {"$type": "dict", "items": [list(pair) for pair in zip(parts[::2], parts[1::2], strict=True)]},
    ),
    tuple: Form(4, list, tuple, _same),
    set: Form(5, list, set, _same),
    frozenset: Form(6, list, frozenset, _same),
    complex: Form(7, lambda v: [v.real, v.imag], lambda parts: complex(*parts), lambda parts: str(complex(*parts))),
    bytearray: Form(8, bytes, bytearray, _same),
    range: Form(
        9, lambda v: [v.start, v.stop, v.step], lambda p: range(*p), lambda p: f"range({p[0]}, {p[1]}, {p[2]})"
    ),
    date: Form(10, date.isoformat, date.fromisoformat, _same),
    datetime: Form(11, _clock_parts, lambda p: datetime.fromisoformat(p[0]).replace(fold=p[1], tzinfo=p[2]), _first),
    time: Form(12, _clock_parts, lambda p: time.fromisoformat(p[0]).replace(fold=p[1], tzinfo=p[2]), _first),
    timedelta: Form(
        13, lambda v: [v.days, v.seconds, v.microseconds], lambda p: timedelta(*p), lambda p: str(timedelta(*p))
    ),
    timezone: Form(14, lambda v: list(v.__getinitargs__()), lambda p: timezone(*p), lambda p: str(p[-1])),
    Decimal: Form(15, str, Decimal, str),
    UUID: Form(16, lambda v: v.bytes, lambda data: UUID(bytes=data), lambda data: str(UUID(bytes=data))),
    PosixPath: Form(17, str, PosixPath, _same),
    WindowsPath: Form(18, str, WindowsPath, _same),
    PurePosixPath: Form(19, str, PurePosixPath, _same),
    PureWindowsPath: Form(20, str, PureWindowsPath, _same),
    Failure: Form(21, msgspec.structs.asdict, lambda parts: Failure(**parts), _shown_failure),
}
"""By exact type: an instance of a subclass is none of the type."""


# ------------------------------------------------------------------------------------------- objects of other classes
def _enum_parts(member: Enum) -> list[Any]:
    is_named = member.name in type(member).__members__  # a combination of flags has no name of its own
    return [class_name(type(member)), member.name if is_named else None, None if is_named else member.value]


def _enum_whole(parts: list[Any]) -> Any:
    kind: Any = find_class(parts[0])
    return kind(parts[2]) if parts[1] is None else kind[parts[1]]


def _struct_parts(value: msgspec.Struct) -> list[Any]:
    return [class_name(type(value)), msgspec.structs.asdict(value)]


def _struct_whole(parts: list[Any]) -> Any:
    return find_class(parts[0])(**parts[1])


def _dataclass_parts(value: Any) -> list[Any]:
    state: Any = object.__getstate__(value)
    plain, slots = state if isinstance(state, tuple) else (state, None)
    return [class_name(type(value)), {**(plain or {}), **(slots or {})}]


def _dataclass_whole(parts: list[Any]) -> Any:
    value: Any = object.__new__(find_class(parts[0]))
    for name, member in parts[1].items():
        object.__setattr__(value, name, member)  # also where it is frozen
    return value


def _named_tuple_parts(value: Any) -> list[Any]:
    return [class_name(type(value)), list(value._fields), list(value)]


def _named_tuple_whole(parts: list[Any]) -> Any:
    kind: Any = find_class(parts[0])
    return tuple.__new__(kind, parts[2])


def _model_parts(value: Any) -> list[Any]:
    return [class_name(type(value)), value.__getstate__()]


def _model_whole(parts: list[Any]) -> Any:
    kind: Any = find_class(parts[0])
    value = kind.__new__(kind)
    value.__setstate__(parts[1])
    return value


def _zone_whole(key: str) -> Any:
    from zoneinfo import ZoneInfo  # noqa: PLC0415  takes 3 ms to import, and few need it

    return ZoneInfo(key)


def _pickle_parts(value: Any) -> list[Any]:
    return [class_name(type(value)), public_module("__main__"), pickle.dumps(value, protocol=5)]


def _pickle_whole(parts: list[Any]) -> Any:
    return _Unpickler(parts[2], parts[1]).load()


class _Unpickler(pickle.Unpickler):
    """Finds classes by their public names, so that a program's own file is the same one here and there.

    Args:
        data: The pickle.
        main: Public name of what was `__main__` when it was made.
    """

    def __init__(self, data: bytes, main: str) -> None:
        super().__init__(BytesIO(data))
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        public = self._main if module == "__main__" else module
        return super().find_class("__main__" if public == public_module("__main__") else public, name)


def _shown_object(parts: list[Any]) -> dict[str, Any]:
    return {"$type": parts[0], **parts[1]}


ENUM: Final = Form(
    32,
    _enum_parts,
    _enum_whole,
    lambda parts: {"$type": parts[0], "value": parts[2] if parts[1] is None else parts[1]},
)
STRUCT: Final = Form(33, _struct_parts, _struct_whole, _shown_object)
DATACLASS: Final = Form(34, _dataclass_parts, _dataclass_whole, _shown_object)
NAMED_TUPLE: Final = Form(
    35,
    _named_tuple_parts,
    _named_tuple_whole,
    lambda parts: {"$type": parts[0], **dict(zip(parts[1], parts[2], strict=True))},
)
MODEL: Final = Form(36, _model_parts, _model_whole, lambda parts: {"$type": parts[0], **parts[1].get("__dict__", {})})
ZONE: Final = Form(37, lambda zone: zone.key, _zone_whole, _same)
PICKLE: Final = Form(38, _pickle_parts, _pickle_whole, lambda parts: {"$type": parts[0], "$pickled": len(parts[2])})


_BY_CLASS: Final = (ENUM, STRUCT, DATACLASS, NAMED_TUPLE, MODEL)


def form_of(kind: type, value: Any) -> Form:
    """Return the form in which a value is written.

    Raises:
        NotSerializableError: Its class would not be found where the value is read.
    """
    if (form := FORMS.get(kind)) is not None:
        return form
    form = _object_form(kind, value)
    if form in _BY_CLASS and not _is_found(kind):
        raise NotSerializableError("its class is not found under its name, as one defined inside a function is not")
    return form


def _is_found(kind: type) -> bool:
    try:
        return find_class(class_name(kind)) is kind
    except (ImportError, AttributeError, TypeError):
        return False


def _object_form(kind: type, value: Any) -> Form:
    if isinstance(value, Enum):
        return ENUM
    if isinstance(value, msgspec.Struct):
        return PICKLE if _has_own_pickling(kind, msgspec.Struct) else STRUCT
    if kind.__bases__ == (tuple,) and hasattr(kind, "_fields"):
        return PICKLE if _has_own_pickling(kind, tuple) else NAMED_TUPLE
    if dataclasses.is_dataclass(kind) and _is_all_python(kind):
        return PICKLE if _has_own_pickling(kind, object) else DATACLASS
    model = getattr(sys.modules.get("pydantic"), "BaseModel", None)
    if model is not None and isinstance(value, model):
        return PICKLE if _has_own_pickling(kind, model) else MODEL
    zone = getattr(sys.modules.get("zoneinfo"), "ZoneInfo", None)
    return ZONE if kind is zone and getattr(value, "key", None) is not None else PICKLE


def _is_all_python(kind: type) -> bool:
    """Whether all that an object of the class holds is in its attributes: no base is a built-in type such as `dict`."""
    return all(base.__flags__ & 1 << 9 for base in kind.__mro__[:-1])  # Py_TPFLAGS_HEAPTYPE


_PICKLING = ("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")


def _has_own_pickling(kind: type, base: type) -> bool:
    """Whether a class says how its objects are pickled, beyond what its base or `@dataclass` says."""
    hooks = [(getattr(kind, name, None), getattr(base, name, None)) for name in _PICKLING]
    own = [hook for hook, inherited in hooks if hook is not inherited]
    is_named_tuple = base is tuple
    return kind in copyreg.dispatch_table or any(
        getattr(hook, "__module__", None) != "dataclasses"
        and not (is_named_tuple and getattr(hook, "__name__", "") == "__getnewargs__")
        for hook in own
    )
