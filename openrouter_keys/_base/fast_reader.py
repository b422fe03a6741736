"""Reads ordinary answers of flat records with msgspec, in C.

A page takes 3.7 million instructions, and `json.loads` alone 4.4 (docs/decisions/speed.md). The
converter reads everything else. Tests hold both to the same results.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import NoneType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import attrs
import msgspec
from msgspec.structs import astuple

from openrouter_keys._base.making import maker
from openrouter_keys._base.unset import Unset

A = TypeVar("A", bound=attrs.AttrsInstance)
R = TypeVar("R", bound=attrs.AttrsInstance)

_PLAIN = {str, bool, int, float, datetime, NoneType, Unset}
# JSON has neither infinity nor NaN.
_BOUNDED: Mapping[Any, Any] = {
    datetime: Annotated[datetime, msgspec.Meta(tz=True)],
    float: Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)],
}
# The message of msgspec for a name that a struct does not have.
_NEW_NAME = re.compile(r"Object contains unknown field `(\w{1,64})` - at `\$\.data")
# The most new names of a record that are learned: the service adds one now and then.
_MOST_NEW = 16


def is_flat(cls: type[attrs.AttrsInstance]) -> bool:
    """Whether all of a record's fields but `extra` are plain."""
    return all(_kinds(f) <= _PLAIN for f in _on_wire(cls))


class FlatReader(Generic[R]):
    """Reads flat records of one class.

    msgspec cannot fill the class itself: it has no union of a time and `Unset`. It fills a struct,
    whose values make a record.

    Args:
        cls: the class; its field `extra` gets unknown fields.
    """

    def __init__(self, cls: type[R]) -> None:
        wire = _on_wire(cls)
        self._names = frozenset(f.name for f in wire)
        self._times = [place for place, f in enumerate(wire) if datetime in _kinds(f)]
        self._cls = cls
        self._make = maker(cls, (*(f.name for f in wire), "extra"))
        self._struct = struct = _struct(cls)
        self._structs: Any = list[struct]  # type: ignore[valid-type]  # made at run time

    def read(self, values: Sequence[Any]) -> list[R] | None:
        """Read records from plain values; None: the converter has to read them."""
        try:
            found = msgspec.convert(values, self._structs)
            unknown = frozenset[str]().union(*values) - self._names
            return [
                self.record(astuple(each), {name: value[name] for name in unknown if name in value})
                for each, value in zip(found, values, strict=True)
            ]
        except Exception:  # noqa: BLE001 - the converter has the better message
            return None

    def strict(self, new: Sequence[str]) -> type[msgspec.Struct]:
        """Return a struct of the record's names, followed by new ones; it refuses all others."""
        fields = [(f"new_{place}", Any, msgspec.UNSET) for place in range(len(new))]
        return msgspec.defstruct(
            self._cls.__name__, fields, bases=(self._struct,), kw_only=True, gc=False,
            rename={f"new_{place}": name for place, name in enumerate(new)},
            forbid_unknown_fields=True,
        )  # fmt: skip

    def record_of(self, found: msgspec.Struct, new: Sequence[str]) -> R:
        """Return the record of a struct with new names."""
        values: tuple[object, ...] = astuple(found)
        if not new:
            return self.record(values, {})
        known = len(values) - len(new)
        extra: dict[str, Any] = {}
        for place, name in enumerate(new, known):
            if values[place] is not msgspec.UNSET:
                extra[name] = values[place]
        return self.record(values[:known], extra)

    def record(self, values: tuple[object, ...], extra: dict[str, Any]) -> R:
        """Return the record of values in the order of its fields."""
        for place in self._times:
            time = values[place]
            if type(time) is datetime and time.tzinfo is not UTC:
                raise ValueError("a time that is not in UTC")
        return self._make(*values, extra)


class AnswerReader(Generic[A]):
    """Reads answers of one class from their bytes; it learns new names in records.

    Args:
        cls: the answer's class; its `data` is a record, or a list of them.
        record: that record's class, which is flat.
    """

    def __init__(self, cls: type[A], record: type[attrs.AttrsInstance]) -> None:
        self._cls = cls
        self._records = FlatReader(record)
        self._kinds: dict[str, Any] = {f.name: f.type for f in _on_wire(cls) if f.name != "http"}
        self._many = get_origin(self._kinds["data"]) is list
        self._others = [name for name in self._kinds if name != "data"]
        self._make = maker(cls, ("data", *self._others, "extra", "http"))
        self._knows = self._knowing(())

    def _knowing(self, new: tuple[str, ...]) -> tuple["msgspec.json.Decoder[Any]", tuple[str, ...]]:
        record: Any = self._records.strict(new)
        kinds = {**self._kinds, "data": list[record] if self._many else record}
        whole = msgspec.defstruct(self._cls.__name__, kinds.items(), forbid_unknown_fields=True)
        return msgspec.json.Decoder(whole), new

    def _decoded(self, body: bytes) -> tuple[Any, tuple[str, ...]]:
        while True:
            decoder, new = self._knows
            try:
                return decoder.decode(body), new
            except msgspec.ValidationError as error:
                named = _NEW_NAME.match(str(error))
                if named is None or named[1] in new or len(new) == _MOST_NEW:
                    raise
            self._knows = self._knowing((*new, named[1]))

    def read(self, body: bytes, ours: Mapping[str, object]) -> A | None:
        """Read an answer; None: the converter has to read it.

        Args:
            body: JSON.
            ours: values of fields that the service does not send.
        """
        try:
            found, new = self._decoded(body)
            data, record = found.data, self._records.record_of
            read = [record(each, new) for each in data] if self._many else record(data, new)
            others = [getattr(found, name) for name in self._others]
            if "http" in ours:  # nearly always
                return self._make(read, *others, {}, ours["http"])
            fields: dict[str, Any] = {"data": read, **dict(zip(self._others, others, strict=True))}
            return self._cls(**fields)
        except Exception:  # noqa: BLE001 - the converter has the better message
            return None


def _struct(cls: type[attrs.AttrsInstance]) -> type[msgspec.Struct]:
    """Return the struct that msgspec fills for a flat record."""
    required, fields = attrs.NOTHING, _on_wire(cls)
    members: list[Any] = [
        (f.name, _sent(f)) if f.default is required else (f.name, _sent(f), f.default)
        for f in fields
    ]
    return msgspec.defstruct(cls.__name__, members, kw_only=True, gc=False)


def _on_wire(cls: type[attrs.AttrsInstance]) -> list["attrs.Attribute[Any]"]:
    return [f for f in attrs.fields(cls) if f.name != "extra"]


def _kinds(f: "attrs.Attribute[Any]") -> set[Any]:
    return {f.type} if get_origin(f.type) is list else set(get_args(f.type) or (f.type,))


def _sent(f: "attrs.Attribute[Any]") -> Any:
    """Return the types that the service sends for a field, without our marks for absence."""
    # A default of None is such a mark; a null of the service would go to `extra`.
    ours = {Unset, NoneType} if f.default is None else {Unset}
    kinds = [_BOUNDED.get(kind, kind) for kind in _kinds(f) - ours]
    return Union[tuple(kinds)]  # noqa: UP007 - made at run time
