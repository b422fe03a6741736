"""Flat records, and answers made of them, that msgspec reads in C, unless something is odd.

What it does not read is left to the converter's own way, which is slower and knows everything;
tests hold both to the same results.
"""

import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import repeat
from types import NoneType, new_class
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import attrs
import msgspec
from msgspec.structs import astuple

from openrouter_keys.unset import Unset

A = TypeVar("A", bound=attrs.AttrsInstance)
R = TypeVar("R", bound=attrs.AttrsInstance)

_PLAIN = {str, bool, int, float, datetime, NoneType, Unset}
# No JSON says infinity or NaN, and no record holds one.
_BOUNDED: Mapping[Any, Any] = {
    datetime: Annotated[datetime, msgspec.Meta(tz=True)],
    float: Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)],
}

_set = object.__setattr__


def is_flat(cls: type[attrs.AttrsInstance]) -> bool:
    """Whether a record's fields, but for `extra`, are all plain."""
    return all(_kinds(f) <= _PLAIN for f in _on_wire(cls))


class FastReader(Generic[R]):
    """Reads flat records of one class.

    msgspec cannot fill the class itself: it knows no union of a time and `Unset`. It fills a struct
    of the same fields, with the types that the service sends. Their values are set in a twin of the
    class that is not frozen, and is then made one of the class.

    Args:
        cls: the class; its field `extra` gets the fields that it does not know.
    """

    def __init__(self, cls: type[R]) -> None:
        wire = _on_wire(cls)
        self._cls = cls
        self._names = (*(f.name for f in wire), "extra", "__class__")
        self._known = frozenset(f.name for f in wire)
        self._times = [place for place, f in enumerate(wire) if datetime in _kinds(f)]
        self._struct = _struct(cls, strict=False)
        thawed = ("__init__", "__setattr__", "__delattr__")
        members = {"__slots__": (), **{name: getattr(object, name) for name in thawed}}
        self._twin: Any = new_class(cls.__name__, (cls,), {}, lambda names: names.update(members))

    def read(self, value: dict[str, Any]) -> R | None:
        """Read one; None: something about it is odd."""
        read = self.read_all([value])
        return None if read is None else read[0]

    def read_all(self, values: Sequence[Any]) -> list[R] | None:
        """Read many; None: something about one of them is odd."""
        try:
            return [*map(self._read, values)]
        except Exception:  # noqa: BLE001 - the converter says better what is wrong
            return None

    def reader_of(self, cls: type[A]) -> "AnswerReader[A]":
        """Return what reads answers of a class whose `data` is made of these records."""
        return AnswerReader(cls, _struct(self._cls, strict=True), self._finished)

    def _read(self, value: dict[str, Any]) -> R:
        record = self._finished(msgspec.convert(value, self._struct))
        if not self._known.issuperset(value):
            extra = {name: value[name] for name in value.keys() - self._known}
            _set(record, "extra", extra)  # frozen, but new: nobody else has it yet
        return record

    def _finished(self, found: msgspec.Struct) -> R:
        """Return the record of what msgspec found."""
        values: tuple[object, ...] = astuple(found)
        for place in self._times:
            time = values[place]
            if type(time) is datetime and time.tzinfo is not UTC:
                raise ValueError("a time that is not in UTC")
        record: R = self._twin()
        # The loop runs in C: a page has 100 records.
        values = (*values, {}, self._cls)
        deque(map(setattr, repeat(record), self._names, values), maxlen=0)
        return record


class AnswerReader(Generic[A]):
    """Reads ordinary answers of one class from their bytes.

    Args:
        cls: the class; its `data` is a flat record, or a list of them.
        record: the struct of such a record.
        finished: returns the record of a struct.
    """

    def __init__(self, cls: type[A], record: Any, finished: Callable[[Any], object]) -> None:
        self._cls = cls
        self._finished = finished
        kinds: dict[str, Any] = {f.name: f.type for f in _on_wire(cls) if f.name != "http"}
        self._many = get_origin(kinds["data"]) is list
        kinds["data"] = list[record] if self._many else record
        self._others = [name for name in kinds if name != "data"]
        struct = msgspec.defstruct(cls.__name__, kinds.items(), forbid_unknown_fields=True)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(struct)

    def read(self, body: bytes, ours: Mapping[str, object]) -> A | None:
        """Read one; None: something about it is odd.

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


def _struct(cls: type[attrs.AttrsInstance], *, strict: bool) -> type[msgspec.Struct]:
    """Make what msgspec fills for a flat record.

    Args:
        cls: the record's class.
        strict: whether it refuses names that the class does not have.
    """
    required, fields = attrs.NOTHING, _on_wire(cls)
    members: list[Any] = [
        (f.name, _sent(f)) if f.default is required else (f.name, _sent(f), f.default)
        for f in fields
    ]
    return msgspec.defstruct(
        cls.__name__, members, kw_only=True, gc=False, forbid_unknown_fields=strict
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
