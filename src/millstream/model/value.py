"""Values that leave the process: how what users' tasks take and return is written down, and read again.

Values are written as MessagePack, with every type kept exactly (`forms.py` has those that MessagePack does not know).
Reading one imports the classes it names, and unpickles what had to be pickled: whoever can write to a ledger can run
code in the processes that read it. Showing one does neither.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from millstream.errors import NotSerializableError, OutputTooLargeError
from millstream.model.forms import (
    DATACLASS,
    ENUM,
    FORMS,
    MODEL,
    NAMED_TUPLE,
    PICKLE,
    STRUCT,
    ZONE,
    form_of,
)
from millstream.model.policy import class_name

INLINE_LIMIT: Final = 8192
"""Bytes up to which a written value is kept in its row."""

_REFERENCE: Final = 127
_REFERENCE_SIGN: Final = b"\x7f\x92\xd9\x40"  # its number, then a list of two, of which the first is a text of 64
_BY_CODE: Final = {
    form.code: form for form in (*FORMS.values(), ENUM, STRUCT, DATACLASS, NAMED_TUPLE, MODEL, ZONE, PICKLE)
}
_KEYS: Final = frozenset({str, int, float, bool, type(None), bytes})
_pack: Final = msgspec.msgpack.Encoder().encode


class Reference(msgspec.Struct, frozen=True, gc=False):
    """Stands for a value too large to be kept in its row.

    Attributes:
        digest: Of the written value: SHA-256, 64 hexadecimal digits.
        size: Bytes of the written value.
    """

    digest: str
    size: int


class Sealed(msgspec.Struct, frozen=True, gc=False):
    """The data of an event, written down.

    Attributes:
        raw: What is recorded.
        shown: What readers of the event see: the data, with a `Reference` for each value that is too large.
    """

    raw: bytes
    shown: Any


# --------------------------------------------------------------------------------------------------------- writing
def encode(value: Any, where: str = "value") -> bytes:
    """Return a value written down; equal values of equal types give the same bytes, unless they have to be pickled.

    Args:
        value: The value.
        where: What it is called in an error's message.

    Raises:
        NotSerializableError: It, or something in it, cannot be written down; the message says which and where.

    >>> decode(encode({"day": (2026, 5), "open": {True}}))
    {'day': (2026, 5), 'open': {True}}
    """
    raw = _plainly(value)
    if raw is not None:
        return raw
    try:
        return _pack(_written(value))
    except RecursionError:
        raise NotSerializableError(f"{where} contains itself, or is nested too deeply, to be written down") from None
    except Exception as error:
        place, culprit = _culprit(value, where)
        raise NotSerializableError(
            f"{place} is of {class_name(type(culprit))}, which cannot be written down ({_reason(error)}); "
            'use plain values, or set durability="off"'
        ) from error


def fingerprint(value: Any) -> str | None:
    """Return a short digest that tells values apart which are plain through and through; `None` for any others."""
    raw = _plainly(value)
    return None if raw is None else hashlib.blake2b(raw, digest_size=8).hexdigest()


def seal_data(
    data: dict[str, Any], limit_inline: int = INLINE_LIMIT, max_bytes: int | None = None
) -> tuple[Sealed, dict[str, bytes]]:
    """Write down the data of an event; members that are too large for its row are given apart.

    Args:
        data: The data; keys are names.
        limit_inline: Bytes up to which a member stays in the row.
        max_bytes: Bytes that all of it may have; no bound without.

    Returns:
        What is recorded, and the large members by their digest.

    Raises:
        NotSerializableError: A member cannot be written down.
        OutputTooLargeError: It is larger than `max_bytes`.
    """
    whole = _plainly(data)
    if whole is not None and len(whole) <= min(limit_inline, max_bytes or limit_inline):
        return Sealed(whole, data), {}
    members = {name: encode(value, name) for name, value in data.items()}
    size = sum(map(len, members.values()))
    if max_bytes is not None and size > max_bytes:
        raise OutputTooLargeError(
            f"the value has {size:,} bytes when it is written down, and max_value_bytes allows {max_bytes:,}; "
            "store it elsewhere and return where it is, or raise the setting"
        )
    kept: dict[str, Any] = {}
    apart: dict[str, bytes] = {}
    shown = data
    for name, raw in members.items():
        if len(raw) <= limit_inline:
            kept[name] = msgspec.Raw(raw)
            continue
        reference = Reference(hashlib.sha256(raw).hexdigest(), len(raw))
        kept[name] = msgspec.msgpack.Ext(_REFERENCE, _pack([reference.digest, reference.size]))  # see _REFERENCE_SIGN
        apart[reference.digest] = raw
        shown = {**shown, name: reference}
    return Sealed(_pack(kept), shown), apart


def _plainly(value: Any) -> bytes | None:
    """Return a value as MessagePack itself writes it; `None` where that would not keep it as it is."""
    try:
        raw = _pack(value)
        return raw if _is_plain(value) else None  # after writing, which refuses what contains itself
    except Exception:  # noqa: BLE001  whatever stops MessagePack's own way, the exact one says what it is
        return None


def _is_plain(value: Any) -> bool:
    """Whether all of it is of types that MessagePack keeps, none a subclass; it is bounded, since it was written."""
    kind = type(value)
    if kind is dict:
        if not _KEYS.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list:
        return kind in _KEYS
    return all([type(item) in _KEYS or _is_plain(item) for item in value])  # noqa: C419  half a generator's price


def _written(value: Any) -> Any:
    """Return what MessagePack writes for a value: itself where it keeps it, else an extension."""
    kind = type(value)
    if _is_kept(kind, value):
        return value
    if kind is list:
        return [_written(item) for item in value]
    if kind is dict and all(_is_kept(type(key), key) for key in value):
        return {key: _written(item) for key, item in value.items()}
    form = form_of(kind, value)
    if kind is set or kind is frozenset:
        items = sorted(_pack(_written(item)) for item in value)  # their own order changes from process to process
        return msgspec.msgpack.Ext(form.code, _pack([msgspec.Raw(item) for item in items]))
    return msgspec.msgpack.Ext(form.code, _pack(_written(form.parts(value))))


def _is_kept(kind: type, value: Any) -> bool:
    """Whether MessagePack itself keeps a value that holds no others."""
    if kind is int:
        return bool(-(1 << 63) <= value < 1 << 64)
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError:  # it has lone surrogates, as names of files may
            return False
        return True
    return kind in _KEYS


def _culprit(value: Any, where: str) -> tuple[str, Any]:
    """Return the innermost value that cannot be written down, and where it is; called when there is one."""
    for label, part in _parts_of(value):
        try:
            _pack(_written(part))
        except Exception:  # noqa: BLE001  whatever its pickling raises
            return _culprit(part, where + label)
    return where, value


def _parts_of(value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value)
    if kind is dict:
        yield from ((f" key {key!r}", key) for key in value)
        yield from ((f"[{key!r}]", item) for key, item in value.items())
    elif kind in (list, tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
    elif kind in (set, frozenset):
        yield from ((" item", item) for item in value)
    else:
        yield from ((f".{name}", item) for name, item in _fields_of(value).items())


def _fields_of(value: Any) -> dict[str, Any]:
    try:
        form = form_of(type(value), value)
    except NotSerializableError:
        return {}
    if form in (STRUCT, DATACLASS):
        return dict(form.parts(value)[1])
    if form is NAMED_TUPLE:
        return dict(zip(value._fields, value, strict=True))
    return dict(value.__dict__) if form is MODEL else {}


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


# --------------------------------------------------------------------------------------------------------- reading
def decode(raw: bytes | memoryview, load: Callable[[str], bytes] | None = None) -> Any:
    """Return a value that was written down; classes it names are imported, pickled objects are unpickled.

    Args:
        raw: The written value.
        load: Returns the written value that has a digest. Without it a value that is kept apart is a `Reference`.

    Raises:
        NotSerializableError: A class is not to be found here, or an object of it cannot be made.
    """

    def read(code: int, data: memoryview) -> Any:
        if code == _REFERENCE:
            reference = Reference(*_unpack(data))
            return reference if load is None else decode(load(reference.digest))
        form = _BY_CODE.get(code)
        if form is None:
            raise NotSerializableError(f"a value was written by a newer version of millstream (form {code})")
        parts = unpack(data)
        try:
            return form.whole(parts)
        except Exception as error:
            raise NotSerializableError(_unreadable(form.code, parts, error)) from error

    unpack = msgspec.msgpack.Decoder(ext_hook=read).decode
    try:
        return unpack(raw)
    except RecursionError:
        raise NotSerializableError("a value is nested too deeply to be read here") from None


def references(raw: bytes) -> list[Reference]:
    """Return what sealed data keeps apart, in order."""
    if _REFERENCE_SIGN not in raw:
        return []
    data = _peek(raw)
    members = data.values() if isinstance(data, dict) else ()
    found = [item for item in members if isinstance(item, msgspec.msgpack.Ext) and item.code == _REFERENCE]
    return [Reference(*_unpack(item.data)) for item in found]


def decode_shown(raw: bytes | memoryview) -> Any:
    """Return what is shown of a value: what JSON has, a `Failure`, a `Reference`; nothing is imported or run.

    An object is shown as `{"$type": "module:Class", …}`, with its fields unless it was pickled.

    >>> decode_shown(encode({"day": (2026, 5), "raw": b"abc"}))
    {'day': [2026, 5], 'raw': {'$type': 'bytes', 'size': 3}}
    """
    return _shown(_SHOW(raw))


def _unreadable(code: int, parts: Any, error: Exception) -> str:
    if code < ENUM.code or code == ZONE.code:
        return f"a value cannot be read here: {_reason(error)}"
    return f"a value of class {parts[0]} cannot be read here: {type(error).__name__}: {_reason(error)}"


def _show(code: int, data: memoryview) -> Any:
    if code == _REFERENCE:
        return Reference(*_unpack(data))
    form = _BY_CODE.get(code)
    return {"$type": f"form {code}"} if form is None else form.shown(_SHOW(data))


def _shown(value: Any) -> Any:
    """Put what JSON can say in the place of what it cannot."""
    match value:
        case dict() if all(type(key) is str for key in value):
            return {key: _shown(item) for key, item in value.items()}
        case dict():
            return {"$type": "dict", "items": [[_shown(key), _shown(item)] for key, item in value.items()]}
        case list():
            return [_shown(item) for item in value]
        case bytes():
            return {"$type": "bytes", "size": len(value)}
        case float() if not math.isfinite(value):
            return str(value)
        case _:
            return value


_unpack: Final = msgspec.msgpack.Decoder().decode
_peek: Final = msgspec.msgpack.Decoder(ext_hook=msgspec.msgpack.Ext).decode
_SHOW: Final = msgspec.msgpack.Decoder(ext_hook=_show).decode
