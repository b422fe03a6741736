"""Flat records, and answers made of them, that msgspec reads in C, unless something is odd.

What it does not read is left to the converter's own way, which is slower and knows everything;
tests hold both to the same results.
"""

import sys
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import repeat
from operator import attrgetter
from types import NoneType, new_class
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import attrs
import msgspec
from msgspec.structs import astuple

from openrouter_keys._base.unset import Unset

A = TypeVar("A", bound=attrs.AttrsInstance)
R = TypeVar("R", bound=attrs.AttrsInstance)

_PLAIN = {str, bool, int, float, datetime, NoneType, Unset}
# No JSON says infinity or NaN, and no record holds one.
_BOUNDED: Mapping[Any, Any] = {
    datetime: Annotated[datetime, msgspec.Meta(tz=True)],
    float: Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)],
}

_NO_NAMES: frozenset[str] = frozenset()
_set = object.__setattr__  # the records are frozen, but new: nobody else has them yet


def is_flat(cls: type[attrs.AttrsInstance]) -> bool:
    """Whether a record's fields, but for `extra`, are all plain."""
    return all(_kinds(f) <= _PLAIN for f in _on_wire(cls))


class FastReader(Generic[R]):
    """Reads flat records of one class.

    msgspec cannot fill the class itself: it knows no union of a time and `Unset`. It fills a twin:
    a subclass of the same layout, whose types are those that the service sends. Then the class of
    what it made is set to the record's.

    Args:
        cls: the class; its field `extra` gets the fields that it does not know.
    """

    def __init__(self, cls: type[R]) -> None:
        wire = _on_wire(cls)
        self._cls = cls
        self._names = frozenset(f.name for f in wire)
        self._times = [attrgetter(f.name) for f in wire if datetime in _kinds(f)]
        members = {
            "__slots__": (),
            "__attrs_attrs__": tuple(wire),
            "__annotations__": {f.name: _sent(f) for f in wire},
        }
        self._twin = new_class(cls.__name__, (cls,), {}, lambda names: names.update(members))
        self._twins: Any = list[self._twin]  # type: ignore[name-defined]  # made at run time

    def read(self, value: dict[str, Any]) -> R | None:
        """Read one; None: something about it is odd."""
        try:
            return self._finished([msgspec.convert(value, self._twin)], [value], value)[0]
        except Exception:  # noqa: BLE001 - the converter says better what is wrong
            return None

    def read_all(self, values: Sequence[Any]) -> list[R] | None:
        """Read many; None: something about one of them is odd."""
        try:
            twins = msgspec.convert(values, self._twins)
            return self._finished(twins, values, _NO_NAMES.union(*values))
        except Exception:  # noqa: BLE001 - the converter says better what is wrong
            return None

    def _finished(
        self, twins: list[R], values: Sequence[dict[str, Any]], names: Iterable[str]
    ) -> list[R]:
        """Return twins as the records that they stand for.

        Args:
            twins: what msgspec made.
            values: what it made them from.
            names: all the names in these.
        """
        for get in self._times:
            for time in map(get, twins):
                if type(time) is datetime and time.tzinfo is not UTC:
                    raise ValueError("a time that is not in UTC")
        cls = self._cls
        for twin in twins:
            _set(twin, "__class__", cls)
            _set(twin, "extra", {})
        if not self._names.issuperset(names):
            unknown = _NO_NAMES.union(names) - self._names
            for record, value in zip(twins, values, strict=True):
                extra = {name: value[name] for name in unknown if name in value}
                _set(record, "extra", extra)
        return twins


class AnswerReader(Generic[A]):
    """Reads answers of one class from their bytes, if all names in them are known.

    msgspec fills structs, which refuse names that they do not have. Their values are set in a twin
    of the record's class that is not frozen, and is then made one of the class.

    Args:
        cls: the answer's class; its `data` is a record, or a list of them.
        record: that record's class, which is flat.
    """

    def __init__(self, cls: type[A], record: type[attrs.AttrsInstance]) -> None:
        wire = _on_wire(record)
        self._cls = cls
        self._record = record
        self._names = (*(f.name for f in wire), "extra", "__class__")
        self._times = [place for place, f in enumerate(wire) if datetime in _kinds(f)]
        thawed = ("__init__", "__setattr__", "__delattr__")
        members = {"__slots__": (), **{name: getattr(object, name) for name in thawed}}
        bases = (record,)
        self._twin: Any = new_class(record.__name__, bases, {}, lambda names: names.update(members))
        kinds: dict[str, Any] = {f.name: f.type for f in _on_wire(cls) if f.name != "http"}
        self._many = get_origin(kinds["data"]) is list
        struct: Any = _struct(record)
        kinds["data"] = list[struct] if self._many else struct
        self._others = [name for name in kinds if name != "data"]
        whole = msgspec.defstruct(cls.__name__, kinds.items(), forbid_unknown_fields=True)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(whole)

    def read(self, body: bytes, ours: Mapping[str, object]) -> A | None:
        """Read one; None: something about it is odd, or a name is new.

        Args:
            body: JSON.
            ours: values of fields that are not the wire's.
        """
        try:
            found = self._decoder.decode(body)
            fields = {name: getattr(found, name) for name in self._others}
            data, finished = found.data, self._finished
            fields["data"] = [*map(finished, data)] if self._many else finished(data)
            return self._cls(**fields, **ours)
        except Exception:  # noqa: BLE001 - the converter says better what is wrong
            return None

    def _finished(self, found: msgspec.Struct) -> object:
        """Return the record of what msgspec found."""
        values: tuple[object, ...] = astuple(found)
        for place in self._times:
            time = values[place]
            if type(time) is datetime and time.tzinfo is not UTC:
                raise ValueError("a time that is not in UTC")
        record: object = self._twin()
        # The loop runs in C: a page has 100 records.
        values = (*values, {}, self._record)
        deque(map(setattr, repeat(record), self._names, values), maxlen=0)
        return record


def _struct(cls: type[attrs.AttrsInstance]) -> type[msgspec.Struct]:
    """Make what msgspec fills for a flat record."""
    required, fields = attrs.NOTHING, _on_wire(cls)
    members: list[Any] = [
        (f.name, _sent(f)) if f.default is required else (f.name, _sent(f), f.default)
        for f in fields
    ]
    return msgspec.defstruct(
        cls.__name__, members, kw_only=True, gc=False, forbid_unknown_fields=True
    )


def _on_wire(cls: type[attrs.AttrsInstance]) -> list["attrs.Attribute[Any]"]:
    return [f for f in attrs.fields(cls) if f.name != "extra"]


def _kinds(f: "attrs.Attribute[Any]") -> set[Any]:
    return {f.type} if get_origin(f.type) is list else set(get_args(f.type) or (f.type,))


def _sent(f: "attrs.Attribute[Any]") -> Any:
    """What the service sends for a field: never our marks for what it left out."""
    # None as a default is such a mark; a null would have to be kept in `extra`.
    ours = {Unset, NoneType} if f.default is None else {Unset}
    kinds = [_BOUNDED.get(kind, kind) for kind in _kinds(f) - ours]
    return Union[tuple(kinds)]  # noqa: UP007 - made at run time
