"""Flat records, and answers made of them, read by msgspec as long as all of it is ordinary.

What it does not read, and what `extra` has to keep, is left to the converter, which is slower and
knows everything; a test holds both to the same results.
"""

import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import attrgetter
from types import NoneType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin

import attrs
import msgspec

from openrouter_keys.unset import UNSET, Unset

R = TypeVar("R", bound=attrs.AttrsInstance)

_PLAIN = {str, bool, int, float, datetime, NoneType, Unset}
# No JSON says infinity or NaN, and no record holds one.
_BOUNDED: Mapping[Any, Any] = {
    datetime: Annotated[datetime, msgspec.Meta(tz=True)],
    float: Annotated[float, msgspec.Meta(ge=-sys.float_info.max, le=sys.float_info.max)],
}


def is_flat(cls: type[attrs.AttrsInstance], ours: Sequence[str]) -> bool:
    """Whether a record's fields, but for those that are not the wire's, are all plain."""
    return all(_kinds(f) <= _PLAIN for f in attrs.fields(cls) if f.name not in ours)


class FlatReader(Generic[R]):
    """Reads flat records of one class.

    Args:
        cls: the class.
        ours: names of its fields that are not the wire's.

    Attributes:
        names: those of the fields that are the wire's.
    """

    def __init__(self, cls: type[R], ours: Sequence[str]) -> None:
        wire = {f.name: f for f in attrs.fields(cls) if f.name not in ours}
        self._cls = cls
        self._list = list[cls]  # type: ignore[valid-type]  # a type that is known at run time
        self.names = frozenset(wire)
        self._times = [attrgetter(name) for name, f in wire.items() if datetime in _kinds(f)]
        # msgspec looks at a class's annotations once.
        with _annotated(cls, {name: _on_wire(f) for name, f in wire.items()}):
            msgspec.json.Decoder(cls)

    def read(self, value: dict[str, Any]) -> R | None:
        """Read one; None: there is something about it."""
        records = self.read_all([value])
        return records[0] if records else None

    def read_all(self, values: Sequence[Any]) -> list[R] | None:
        """Read many; None: there is something about one of them."""
        knows = self.names.issuperset
        try:
            if all(map(knows, values)):
                records: list[R] = msgspec.convert(values, self._list)
                return records if self.are_in_utc(records) else None
        except Exception:  # noqa: BLE001 - the converter says better what is wrong
            return None
        return None

    def are_in_utc(self, records: Sequence[R]) -> bool:
        """Whether all their times are told in UTC."""
        for get in self._times:
            for time in map(get, records):
                if time is not None and time is not UNSET and time.tzinfo is not UTC:
                    return False
        return True


class AnswerReader(Generic[R]):
    """Reads answers of one class from their JSON, without a dict in between.

    msgspec passes over names that a class does not have, so a record's names are read beforehand.

    Args:
        cls: the class; its `data` is a flat record, or a list of them, the rest of it is plain.
        ours: names of fields that are not the wire's.
    """

    def __init__(self, cls: type[R], ours: Sequence[str]) -> None:
        record, self._many = _data_of(cls)
        self._cls = cls
        self._records: FlatReader[Any] = FlatReader(record, ours)
        fields = {f.name: _on_wire(f) for f in attrs.fields(cls) if f.name not in ours}
        self._read = msgspec.json.Decoder(_struct(cls, fields)).decode
        names: Any = _struct(record, dict.fromkeys(self._records.names, Any), None)
        fields["data"] = list[names] if self._many else names
        self._read_names = msgspec.json.Decoder(_struct(cls, fields)).decode

    def read(self, body: bytes, **ours: object) -> R | None:
        """Read one; None: there is something about it.

        Args:
            body: the JSON.
            **ours: the fields that are not the wire's.
        """
        try:
            self._read_names(body)
            answer = self._read(body)
        except Exception:  # noqa: BLE001 - the converter says better what is wrong
            return None
        if not self._records.are_in_utc(answer.data if self._many else (answer.data,)):
            return None
        return self._cls(**msgspec.structs.asdict(answer), **ours)


def has_flat_data(cls: type[attrs.AttrsInstance], ours: Sequence[str]) -> bool:
    """Whether `AnswerReader` is for a class."""
    return "data" in attrs.fields_dict(cls) and is_flat(_data_of(cls)[0], ours)


def _data_of(cls: type[attrs.AttrsInstance]) -> tuple[type[attrs.AttrsInstance], bool]:
    data: Any = attrs.fields_dict(cls)["data"].type
    return (get_args(data)[0], True) if get_origin(data) is list else (data, False)


def _struct(cls: type, fields: Mapping[str, Any], *default: Any) -> Any:
    """Make a class of msgspec's own that has these fields, and refuses all others."""
    return msgspec.defstruct(
        cls.__name__,
        [(name, kind, *default) for name, kind in fields.items()],
        forbid_unknown_fields=True,
        gc=False,  # it lives for a moment
    )


def _kinds(f: "attrs.Attribute[Any]") -> set[Any]:
    return {f.type} if get_origin(f.type) is list else set(get_args(f.type) or (f.type,))


def _on_wire(f: "attrs.Attribute[Any]") -> Any:
    """What the service sends for a field: never our marks for what it left out."""
    # None as a default is such a mark; a null would have to be kept in `extra`.
    ours = {Unset, NoneType} if f.default is None else {Unset}
    kinds = [_BOUNDED.get(kind, kind) for kind in _kinds(f) - ours]
    return Union[tuple(kinds)]  # noqa: UP007 - made at run time


@contextmanager
def _annotated(cls: type, annotations: Mapping[str, Any]) -> Generator[None]:
    """Let a class and its bases have other annotations for a while."""
    # From Python 3.14 on, a class has its annotations made when they are asked for: none of them
    # stands in its namespace before.
    bases = [base for base in cls.__mro__ if attrs.has(base)]
    before = [base.__annotations__ for base in bases]
    try:
        for base, names in zip(bases, before, strict=True):
            base.__annotations__ = {name: annotations.get(name, Any) for name in names}
        yield
    finally:
        for base, names in zip(bases, before, strict=True):
            base.__annotations__ = names
