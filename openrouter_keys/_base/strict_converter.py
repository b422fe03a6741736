"""The cattrs converter of records: strict, and it keeps what it does not know. No I/O.

Primitives are strict (cattrs alone would turn null into the string "None"), times aware. A field
that this version does not know, or a newer field with an unreadable value, is kept in `extra` and
written out again.
"""

import math
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Union, cast, get_args, get_origin

import attrs
from cattrs import BaseConverter, Converter, transform_error
from cattrs.cols import list_structure_factory
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override
from cattrs.preconf.json import make_converter

from openrouter_keys._base.fast_reader import FlatReader, is_flat
from openrouter_keys._base.unset import Unset

Structure = Callable[[Any, Any], Any]

# The service does not send these fields.
_OURS = ("extra", "http")

#: The most problems of an answer that an error lists.
_MOST_LISTED: Final = 5


def described(error: Exception) -> str:
    """Say what is wrong with an answer, by the error of its hooks."""
    try:
        found = transform_error(error, path="$", format_exception=_describe)
        more = f"; and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
        return "; ".join(found[:_MOST_LISTED]) + more
    except Exception:  # noqa: BLE001 - the record is as unreadable as before
        return type(error).__name__


def _describe(error: BaseException, _: type | None) -> str:
    # Never the value, which may be a secret, nor another error's text, which may quote it.
    if isinstance(error, KeyError):
        return f"no field {error}"
    return str(error) if isinstance(error, ValueError) else type(error).__name__


def _exactly(*kinds: type, called: str) -> Structure:
    def structure_exactly(value: object, _: object) -> object:
        if type(value) in kinds:
            return value
        raise ValueError(f"is not {called}")

    return structure_exactly


def _number(value: object, _: object) -> float:
    # An integer is a number, a boolean is not.
    if type(value) not in (float, int):
        raise ValueError("is not a number")
    try:
        number = float(value)  # type: ignore[arg-type]  # narrowed just above
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError("is not a finite number")
    return number


def _time(value: object, _: object) -> datetime:
    if type(value) is not str:
        raise ValueError("is not a timestamp")
    with suppress(ValueError, OverflowError):
        time = datetime.fromisoformat(value)
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    raise ValueError("is not a timestamp with a time zone")


def _without_unset(cls: Any, converter: Converter) -> Structure:
    wanted: Any = Union[tuple(kind for kind in get_args(cls) if kind is not Unset)]  # noqa: UP007
    hook = converter.get_structure_hook(wanted)
    return lambda value, _: hook(value, wanted)


def _strict_list(cls: Any, converter: BaseConverter) -> Structure:
    items = list_structure_factory(cls, converter)
    (kind,) = get_args(cls)
    reader = converter.get_structure_hook(kind)
    fast = reader.fast if isinstance(reader, _RecordReader) else None

    def structure_list(value: object, _: object) -> object:
        if type(value) is not list:
            raise ValueError("is not a list")
        read = None if fast is None else fast.read(cast("list[object]", value))
        return _each(cast("list[object]", value)) if read is None else read

    def _each(values: list[object]) -> object:
        records: list[object] = []
        for value in values:
            try:
                records.append(reader(value, kind))
            except Exception:  # noqa: BLE001 - raised once more below, with its place
                # The first one is enough: a few packed bytes can hold a million.
                return items(values[: len(records) + 1], cls)
        return records

    return structure_list


def _is_list(cls: Any) -> bool:
    return get_origin(cls) is list


def _is_record(cls: Any) -> bool:
    return isinstance(cls, type) and attrs.has(cls) and "extra" in attrs.fields_dict(cls)


class _RecordReader:
    """Reads one kind of record that came from the service; what it cannot know goes to `extra`."""

    def __init__(self, cls: type[Any], converter: Converter) -> None:
        omitted: dict[str, Any] = _omitted(cls)
        self._cls = cls
        self.fast: FlatReader[Any] | None = FlatReader(cls) if is_flat(cls) else None
        self._read = make_dict_structure_fn(cls, converter, **omitted)
        fields = {f.name: f for f in attrs.fields(cls) if f.name not in _OURS}
        self._names = fields.keys()
        self._not_null = [name for name, f in fields.items() if f.default is None]
        # A field with a default is one that the service added over time, or may take away.
        self._newer = {
            name: (converter.get_structure_hook(f.type), f.type)
            for name, f in fields.items()
            if f.default is not attrs.NOTHING
        }

    def __call__(self, given: object, _: object) -> Any:
        if type(given) is not dict:
            raise ValueError("is not an object")
        value = cast("dict[str, Any]", given)
        if self.fast is not None and (records := self.fast.read([value])) is not None:
            return records[0]
        extra = {name: item for name, item in value.items() if name not in self._names}
        # Null where the contract has none: None would mean "left out".
        for name in self._not_null:
            if value.get(name, 0) is None:
                extra[name] = None
        try:
            return self._build(value, extra)
        except Exception:
            odd = self._odd(value)
            if not odd.keys() - extra.keys():
                raise
        return self._build(value, extra | odd)

    def _build(self, value: dict[str, Any], extra: dict[str, object]) -> Any:
        if not extra:
            return self._read(value, self._cls)
        known = {name: item for name, item in value.items() if name not in extra}
        return attrs.evolve(self._read(known, self._cls), extra=extra)

    def _odd(self, value: dict[str, Any]) -> dict[str, object]:
        present = self._newer.keys() & value.keys()
        return {name: value[name] for name in present if self._is_odd(name, value[name])}

    def _is_odd(self, name: str, value: object) -> bool:
        hook, kind = self._newer[name]
        try:
            hook(value, kind)
        except Exception:  # noqa: BLE001 - whatever a generated hook raises
            return True
        return False


def _omitted(cls: type[Any]) -> dict[str, Any]:
    return {name: override(omit=True) for name in _OURS if name in attrs.fields_dict(cls)}


def _unstructure_record(cls: type[Any], converter: Converter) -> Callable[[Any], dict[str, object]]:
    """Make the hook that writes a record of the service with what it did not know."""
    write = make_dict_unstructure_fn(cls, converter, _cattrs_omit_if_default=True, **_omitted(cls))

    def unstructure_record(record: Any) -> dict[str, object]:
        known: dict[str, object] = write(record)
        return {**known, **record.extra, **known} if record.extra else known

    return unstructure_record


def make() -> Converter:
    """Return a converter; times are not written as the service wants them until it has a hook."""
    converter = make_converter(omit_if_default=True)
    converter.register_structure_hook(str, _exactly(str, called="a string"))
    converter.register_structure_hook(bool, _exactly(bool, called="true or false"))
    converter.register_structure_hook(int, _exactly(int, called="an integer"))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook(datetime, _time)
    converter.register_structure_hook_factory(lambda t: Unset in get_args(t), _without_unset)
    converter.register_structure_hook_factory(_is_list, _strict_list)
    converter.register_structure_hook_factory(_is_record, _RecordReader)
    converter.register_unstructure_hook_factory(_is_record, _unstructure_record)
    return converter
