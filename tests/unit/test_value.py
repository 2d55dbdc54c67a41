"""Values come back as they were, with the types they had; to show one runs nothing; what cannot be written says why."""

import collections
import copyreg
import dataclasses
import datetime as dt
import decimal
import doctest
import enum
import math
import pathlib
import pickle
import subprocess
import sys
import threading
import typing
import uuid
import zoneinfo
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

import millstream.model.value
from millstream.errors import MillstreamError, NotSerializableError, OutputTooLargeError
from millstream.model import forms
from millstream.model.failure import Failure, record_failure
from millstream.model.value import Reference, decode, decode_shown, encode, references, seal_data


class Colour(enum.Enum):
    RED = "red"
    GREEN = object()  # its value could not be written down


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Order:
    id: int
    lines: Any = None


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    article: str
    count: Any = 1


@dataclasses.dataclass
class Counted(dict[str, int]):
    """Holds more than its fields."""

    total: int = 0


@dataclasses.dataclass
class Connected:
    """Says itself how it is pickled."""

    address: str
    lock: Any = dataclasses.field(default_factory=threading.Lock, compare=False)

    def __getstate__(self) -> str:
        return self.address

    def __setstate__(self, state: str) -> None:
        self.__init__(state)  # type: ignore[misc]


class Size(msgspec.Struct, frozen=True):
    width: int
    height: Any = None


class Point(NamedTuple):
    x: int
    y: Any = 0


class Basket(pydantic.BaseModel):
    owner: str
    tags: set[str] = set()
    _seen: int = pydantic.PrivateAttr(default=0)


class Name(str):
    __slots__ = ()


class Plain:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plain) and other.x == self.x

    def __hash__(self) -> int:
        return hash(self.x)


class Refusing:
    def __init__(self) -> None:
        raise RuntimeError("it is never made by a constructor")


BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**130), max_value=2**130),
    st.floats(),
    st.text(),
    st.text(alphabet=st.characters(categories=["Cs", "L"])),  # with lone surrogates
    st.binary(),
    st.complex_numbers(),
    st.dates(),
    st.datetimes(timezones=st.one_of(st.none(), st.timezones())),
    st.datetimes(timezones=st.just(dt.timezone(dt.timedelta(hours=-3, seconds=7), "odd"))),
    st.times(),
    st.timedeltas(),
    st.decimals().filter(lambda number: not number.is_snan()),  # it has no hash
    st.uuids(),
    st.just(range(3, 90, 4)),
    st.sampled_from([*Colour, *Level, Rights.READ, Rights.READ | Rights.WRITE, Rights(0)]),
    st.builds(pathlib.PurePosixPath, st.sampled_from(["/srv/a", "b c"])),
    st.sampled_from([pathlib.Path("/srv"), pathlib.PureWindowsPath("c:/x"), Name("n"), Size(1, 2), Point(1)]),
)
HASHABLE = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.frozensets(inner, max_size=3),
        st.builds(Line, st.text(max_size=3), inner),
        st.builds(Point, st.integers(), inner),
        st.builds(Size, st.integers(), inner),
    ),
    max_leaves=4,
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=4), inner, max_size=4),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.binary().map(bytearray),
        st.builds(Order, st.integers(), inner),
    ),
    max_leaves=12,
)


def told(value: Any) -> Any:  # noqa: PLR0911  one line per type
    """Return a value in a form that compares types and all, and in which NaN equals NaN."""
    kind = type(value)
    if isinstance(value, float):
        return kind, "nan" if math.isnan(value) else math.copysign(1, value), repr(value)
    if isinstance(value, complex):
        return kind, told(value.real), told(value.imag)
    if isinstance(value, dict):
        return kind, [(told(key), told(item)) for key, item in value.items()]
    if isinstance(value, set | frozenset):
        return kind, sorted(repr(told(item)) for item in value)
    if isinstance(value, list | tuple):
        return kind, [told(item) for item in value]
    if isinstance(value, dt.datetime):
        return kind, value.replace(tzinfo=None), value.fold, value.tzinfo
    if dataclasses.is_dataclass(kind):
        return kind, [told(getattr(value, field.name)) for field in dataclasses.fields(kind)]
    fields = getattr(kind, "__struct_fields__", None) or getattr(kind, "model_fields", None)
    if fields is not None:  # their repr writes a set in whatever order it has
        return kind, [told(getattr(value, name)) for name in fields]
    return kind, repr(value)


# ------------------------------------------------------------------------------------------------------ round trips
@given(VALUES)
def test_a_value_comes_back_with_the_types_it_had(value: Any) -> None:
    assert told(decode(encode(value))) == told(value)


@given(VALUES)
def test_the_same_value_gives_the_same_bytes(value: Any) -> None:
    raw = encode(value)
    assert encode(value) == raw
    assert encode(decode(raw)) == raw


@given(VALUES)
def test_a_shown_value_can_be_written_as_json(value: Any) -> None:
    msgspec.json.encode(decode_shown(encode(value)))


@pytest.mark.parametrize(
    "value",
    [
        -0.0,
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        -(2**63),
        -(2**63) - 1,
        {1: "int", 2.5: "float", None: "none", b"b": "bytes", "s": "text"},
        {True: 1},
        {(1, 2): {"x": ()}},
        {"a": {"\ud800": 1}},
        [[], {}, (), set(), frozenset(), "", b""],
        dt.datetime.min,  # noqa: DTZ901  the first of all, without a time zone
        dt.datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC),
        dt.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN),
        dt.time(2, 30, fold=1, tzinfo=BERLIN),
        decimal.Decimal("-0E+7"),
        decimal.Decimal("sNaN123"),
        Order(1, lines=[Line("a", (1,)), Line("b", None)]),
        Basket(owner="me", tags={"b", "a"}),
        collections.OrderedDict(b=1, a=2),
        collections.Counter("aab"),
        collections.deque([1], maxlen=3),
        Plain(4),
        Connected("db:5432"),
        [int, Order],
        Reference("ab" * 32, 9000),
        record_failure(ValueError("x", 3), "fetch"),
        ...,
    ],
    ids=lambda value: type(value).__name__,
)
def test_this_value_comes_back(value: Any) -> None:
    back = decode(encode({"it": [value]}))["it"][0]
    assert type(back) is type(value)
    assert back == value if isinstance(value, Plain | Connected) else told(back) == told(value)


def test_the_whole_state_of_an_object_comes_back_without_its_constructor() -> None:
    order = Order(7)
    order.__dict__["noted"] = {"later"}
    assert vars(decode(encode(order))) == {"id": 7, "lines": None, "noted": {"later"}}
    bare = object.__new__(Line)
    object.__setattr__(bare, "article", "a")
    assert not hasattr(decode(encode(bare)), "count")


def test_a_model_comes_back_with_what_was_set_and_what_is_private() -> None:
    basket = Basket(owner="me")
    basket._seen = 3
    back = decode(encode(basket))
    assert (back, back._seen, back.model_fields_set) == (basket, 3, {"owner"})


def test_what_an_object_says_about_its_pickling_is_heard() -> None:
    back = decode(encode(Connected("db:5432")))
    assert back.address == "db:5432"
    assert back.lock.acquire(blocking=False)


def test_a_dataclass_that_is_a_dict_keeps_its_items() -> None:
    counted = Counted(total=3)
    counted["a"] = 1
    back = decode(encode(counted))
    assert (dict(back), back.total) == ({"a": 1}, 3)


def test_a_set_is_written_the_same_whatever_the_seed_of_hashes() -> None:
    program = "from millstream.model.value import encode; print(encode({'a', 'b', ('c', frozenset('de'))}).hex())"
    written = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(written) == 1


def test_a_value_of_plain_data_is_plain_message_pack() -> None:
    value = {"id": 1, "rows": [{"a": 1.5, "b": None}, [True, "x", b"y"]]}
    assert msgspec.msgpack.decode(encode(value)) == value


def test_no_two_forms_have_one_number() -> None:
    assert len(millstream.model.value._BY_CODE) == len(forms.FORMS) + 7


# ---------------------------------------------------------------------------------------------- what cannot be written
LOCK = threading.Lock()


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (LOCK, "value is of _thread:lock"),
        ([1, {"db": LOCK}], "value[1]['db'] is of _thread:lock"),
        ((1, (LOCK,)), "value[1][0] is of _thread:lock"),
        ({"o": Order(1, lines=[LOCK])}, "value['o'].lines[0] is of _thread:lock"),
        ([Size(1, LOCK)], "value[0].height is of _thread:lock"),
        ([Point(1, LOCK)], "value[0].y is of _thread:lock"),
        ({LOCK: 1}, "is of _thread:lock"),
        ({LOCK}, "value item is of _thread:lock"),
        (Basket.model_construct(owner=LOCK), "value.owner is of _thread:lock"),
        ([lambda: 1], "value[0] is of builtins:function"),
        ([iter([])], "value[0]"),
    ],
    ids=lambda found: found if isinstance(found, str) else type(found).__name__,
)
def test_what_cannot_be_written_is_named_with_its_place_and_the_way_out(value: Any, place: str) -> None:
    if isinstance(value, list) and place == "value[0]":
        value = [(one for one in value)]
        place = "value[0] is of builtins:generator"
    with pytest.raises(NotSerializableError) as caught:
        encode(value)
    message = str(caught.value)
    assert place in message
    assert message.endswith('use plain values, or set durability="off"')
    assert "\n" not in message


def local_dataclass() -> Any:
    @dataclasses.dataclass
    class Hidden:
        x: int

    return Hidden(1)


def local_model() -> Any:
    class Hidden(pydantic.BaseModel):
        x: int

    return Hidden(x=1)


def local_named_tuple() -> Any:
    class Hidden(NamedTuple):
        x: int

    return Hidden(1)


@pytest.mark.parametrize(
    "value",
    [
        local_dataclass(),
        local_model(),
        enum.Enum("Nowhere", "A B").A,  # type: ignore[attr-defined]
        local_named_tuple(),
        msgspec.defstruct("Nowhere", ["x"])(1),
    ],
    ids=lambda value: type(value).__mro__[1].__name__,
)
def test_an_object_whose_class_nobody_else_finds_is_refused(value: Any) -> None:
    with pytest.raises(NotSerializableError) as caught:
        encode([1, {"it": value}])
    assert str(caught.value).startswith("value[1]['it'] is of ")
    assert "not found under its name, as one defined inside a function is not" in str(caught.value)
    assert str(caught.value).endswith('use plain values, or set durability="off"')


def test_an_object_of_a_class_that_was_replaced_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    former = Order(1)
    monkeypatch.setattr(sys.modules[__name__], "Order", local_dataclass)
    with pytest.raises(NotSerializableError, match="not found under its name"):
        encode(former)


def test_a_value_that_contains_itself_is_refused() -> None:
    inside: list[Any] = [1]
    inside.append(inside)
    loop = Order(1)
    loop.lines = loop
    for value in (inside, {"x": (inside,)}, loop, [inside] * 10):
        with pytest.raises(NotSerializableError, match="contains itself"):
            encode(value)


def test_whatever_pickling_raises_is_told() -> None:
    class Failing:
        def __reduce__(self) -> typing.NoReturn:
            raise ZeroDivisionError("no\nway")

    Failing.__qualname__ = "Failing"
    with pytest.raises(NotSerializableError, match=r"value is of .*Failing, which cannot be written down \(no\)"):
        encode(Failing())


def test_a_type_with_a_registered_way_of_pickling_is_pickled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(copyreg.dispatch_table, Line, lambda line: (Line, (line.article.upper(), 9)))
    assert decode(encode(Line("a"))) == Line("A", 9)


# --------------------------------------------------------------------------------------------- what cannot be read
def written_by(name: str) -> bytes:
    """Return what a version of this file wrote that had a class of this name."""
    raw = encode(Order(1))
    return raw.replace(encode(Order.__module__ + ":Order")[1:], encode(Order.__module__ + ":" + name)[1:])


def test_a_class_that_is_gone_is_named() -> None:
    with pytest.raises(NotSerializableError, match=r"of class .*test_value:Ordex cannot be read here: AttributeError"):
        decode(written_by("Ordex"))


def test_a_module_that_is_gone_is_named() -> None:
    raw = msgspec.msgpack.encode(msgspec.msgpack.Ext(forms.STRUCT.code, encode(["no_such_shop.orders:Order", {}])))
    with pytest.raises(NotSerializableError, match=r"of class no_such_shop\.orders:Order cannot be read here: Module"):
        decode(raw)


def test_what_is_no_class_is_not_made() -> None:
    raw = msgspec.msgpack.encode(msgspec.msgpack.Ext(forms.STRUCT.code, encode(["os:system", {"command": "true"}])))
    with pytest.raises(NotSerializableError, match="os:system is no class"):
        decode(raw)


def test_a_form_of_a_newer_version_is_said_to_be_one() -> None:
    raw = msgspec.msgpack.encode(msgspec.msgpack.Ext(99, b"\xc0"))
    with pytest.raises(NotSerializableError, match="newer version of millstream"):
        decode(raw)
    assert decode_shown(raw) == {"$type": "form 99"}


# ------------------------------------------------------------------------------------------------------------ shown
def test_showing_imports_and_unpickles_nothing() -> None:
    canary = b"cos\nsystem\n(S'exit 3'\ntR."
    raw = msgspec.msgpack.encode(
        [
            msgspec.msgpack.Ext(forms.PICKLE.code, encode(["shop:Cart", "__main__", canary])),
            msgspec.msgpack.Ext(forms.STRUCT.code, encode(["shop:Line", {"count": (1,)}])),
            msgspec.msgpack.Ext(forms.ENUM.code, encode(["shop:Colour", "RED", None])),
        ]
    )
    before = set(sys.modules)
    assert decode_shown(raw) == [
        {"$type": "shop:Cart", "$pickled": len(canary)},
        {"$type": "shop:Line", "count": [1]},
        {"$type": "shop:Colour", "value": "RED"},
    ]
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ((1, [2, (3,)]), [1, [2, [3]]]),
        ({(1, 2): "x"}, {"$type": "dict", "items": [[[1, 2], "x"]]}),
        ({1: "x"}, {"$type": "dict", "items": [[1, "x"]]}),
        (b"abc", {"$type": "bytes", "size": 3}),
        (math.inf, "inf"),
        ("a\ud800", "a\\xed\\xa0\\x80"),
        (dt.date(2026, 5, 1), "2026-05-01"),
        (dt.datetime(2026, 5, 1, tzinfo=dt.UTC), "2026-05-01T00:00:00+00:00"),
        (dt.timedelta(hours=1), "1:00:00"),
        (decimal.Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.Path("/srv"), "/srv"),
        (range(1, 5), "range(1, 5, 1)"),
        (2**70, 2**70),
        (BERLIN, "Europe/Berlin"),
    ],
    ids=repr,
)
def test_a_value_is_shown_so(value: Any, shown: Any) -> None:
    assert decode_shown(encode(value)) == shown


def test_failures_stay_failures_when_they_are_shown() -> None:
    failure = record_failure(KeyError("a", (1, 2)), "fetch")
    assert decode_shown(encode({"error": failure})) == {"error": failure}
    assert isinstance(decode(encode(failure)), Failure)


# ----------------------------------------------------------------------------------------------------------- sealed
def test_small_data_is_sealed_as_it_is() -> None:
    data = {"attempt": 1, "value": {"rows": (1, 2)}}
    sealed, apart = seal_data(data)
    assert (sealed.shown, apart) == (data, {})
    assert decode(sealed.raw) == data
    assert references(sealed.raw) == []


def test_a_large_member_is_kept_apart_under_its_digest() -> None:
    data = {"attempt": 1, "value": ["x" * 9000], "error": None}
    sealed, apart = seal_data(data)
    ((digest, raw),) = apart.items()
    reference = Reference(digest, len(raw))
    assert sealed.shown == decode(sealed.raw) == decode_shown(sealed.raw) == {**data, "value": reference}
    assert references(sealed.raw) == [reference]
    assert decode(sealed.raw, apart.__getitem__) == data
    assert data["value"] == ["x" * 9000]
    assert len(sealed.raw) < 200


@pytest.mark.parametrize("size", [9000, 70_000, 5_000_000])
def test_references_to_values_of_any_size_are_found(size: int) -> None:
    sealed, apart = seal_data({"a": b"x" * size, "b": 1, "c": b"y" * size})
    assert [reference.digest for reference in references(sealed.raw)] == list(apart)


@pytest.mark.parametrize("data", [{"value": b"\x7f\x92\xd9\x40"}, ["\x7f\x92\u0640"], b"\x7f\x92\xd9\x40" * 20])
def test_what_looks_like_a_reference_is_none(data: Any) -> None:
    assert references(encode(data)) == []


def test_the_limit_counts_written_bytes() -> None:
    sealed, apart = seal_data({"value": b"x" * 97}, limit_inline=99)
    assert apart == {}
    _, apart = seal_data({"value": b"x" * 98}, limit_inline=99)
    assert [len(raw) for raw in apart.values()] == [100]
    assert len(sealed.raw) > 99


def test_a_reference_that_a_user_returns_is_a_value_like_any_other() -> None:
    sealed, _ = seal_data({"value": Reference("ab" * 32, 1)})
    assert references(sealed.raw) == []

    def load(_digest: str) -> bytes:
        raise AssertionError("nothing is to be loaded")

    assert decode(sealed.raw, load) == {"value": Reference("ab" * 32, 1)}


def test_what_is_too_large_is_refused_with_both_sizes_and_the_setting() -> None:
    with pytest.raises(OutputTooLargeError) as caught:
        seal_data({"value": "x" * 2000, "attempt": 1}, max_bytes=1000)
    assert isinstance(caught.value, MillstreamError)
    assert "has 2,004 bytes" in str(caught.value)
    assert "max_value_bytes allows 1,000" in str(caught.value)


def test_a_member_that_cannot_be_written_is_named() -> None:
    with pytest.raises(NotSerializableError, match=r"^value\['db'\] is of _thread:lock"):
        seal_data({"attempt": 1, "value": {"db": LOCK}})


# ------------------------------------------------------------------------------------------------- the program's file
PROGRAM = """
import dataclasses, pathlib, sys
from millstream.model.value import decode, encode

@dataclasses.dataclass
class Order:
    id: int

class Cart:
    def __init__(self, order):
        self.order = order

if __name__ == "__main__":
    if sys.argv[1:] == ["write"]:
        pathlib.Path("value").write_bytes(encode([Order(7), Cart(Order(8))]))
    else:
        order, cart = decode(pathlib.Path("value").read_bytes())
        assert type(order) is Order and type(cart) is Cart and type(cart.order) is Order
        print(order.id, cart.order.id)
"""


@pytest.mark.parametrize(
    ("write", "read"),
    [
        (["shop.py", "write"], ["shop.py"]),
        (["shop.py", "write"], ["-c", "import shop; exec(shop.TEST)"]),
        (["-c", "import shop; exec(shop.WRITE)"], ["shop.py"]),
    ],
    ids=["program to program", "program to module", "module to program"],
)
def test_classes_of_the_programs_own_file_are_found_from_elsewhere(
    write: list[str], read: list[str], tmp_path: pathlib.Path
) -> None:
    test = "import pathlib\norder, cart = shop.decode(pathlib.Path('value').read_bytes())\n"
    test += "assert type(cart.order) is shop.Order\nprint(order.id, cart.order.id)"
    wrote = "import pathlib\n"
    wrote += "pathlib.Path('value').write_bytes(shop.encode([shop.Order(7), shop.Cart(shop.Order(8))]))"
    (tmp_path / "shop.py").write_text(f"{PROGRAM}\nTEST = {test!r}\nWRITE = {wrote!r}\n", encoding="utf-8")
    subprocess.run([sys.executable, *write], cwd=tmp_path, check=True)
    done = subprocess.run([sys.executable, *read], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stdout == "7 8\n"


def test_what_is_written_does_not_depend_on_pydantic() -> None:
    program = "import sys; from millstream.model.value import encode; encode([{1}]); print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_pickles_are_of_protocol_5() -> None:
    parts = forms.PICKLE.parts(Plain(1))
    assert parts[2][:2] == pickle.PROTO + bytes([5])


def test_the_examples_in_docstrings_are_true() -> None:
    tried = doctest.testmod(millstream.model.value)
    assert (tried.failed, tried.attempted) == (0, 2)
