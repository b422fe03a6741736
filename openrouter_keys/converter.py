"""Record → JSON bytes, JSON bytes → record. No I/O.

msgspec reads ordinary answers; the one cattrs converter writes, and reads everything else.
"""

import json
import math
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_args, get_origin

import attrs
import msgspec

from openrouter_keys._base.fast_reader import AnswerReader, is_flat
from openrouter_keys.errors import JSON, MalformedBodyError, ResponseValidationError

if TYPE_CHECKING:
    from cattrs import Converter

R = TypeVar("R")


@cache
def _converter() -> "Converter":
    """Return the cattrs converter. Threads that need it first at once may each make one."""
    # It takes long to import, and a process that only reads needs none. A create's body is written
    # with it: nothing is imported between an answer and its secret.
    from openrouter_keys._base.strict_converter import make  # noqa: PLC0415

    converter = make()
    converter.register_unstructure_hook(datetime, write_time)
    return converter


def encode(record: object) -> bytes:
    """Write a record as JSON: what was left out is left out, null is null.

    Args:
        record: any record of `models`.
    """
    plain = _converter().unstructure(record)
    try:
        written = msgspec.json.encode(plain)
    except (TypeError, ValueError):  # a subclass, such as a text of NumPy; half a surrogate pair
        written = b"null"
    # msgspec writes NaN as null.
    return _encoder.encode(plain).encode("ascii") if b"null" in written else written


def decode(body: bytes, cls: type[R], **ours: object) -> R:
    """Read a record from JSON.

    Args:
        body: JSON.
        cls: what to read.
        **ours: values of fields that are not the wire's, such as `http`.

    Raises:
        MalformedBodyError: the bytes are no JSON.
        ResponseValidationError: the JSON is no such record; the message names the fields.
    """
    reader = _answer_reader(cls)
    read: R | None = None if reader is None else reader.read(body, ours)
    return structure(parse(body), cls, **ours) if read is None else read


def parse(body: bytes) -> JSON:
    """Read JSON.

    Raises:
        MalformedBodyError: the bytes are no JSON (RFC 8259, so neither NaN nor Infinity), or are
            nested too deep to be read.
    """
    for read in (msgspec.json.decode, _decode_leniently):
        try:
            value: JSON = read(body)
        except Exception:  # noqa: BLE001, S112 - it may quote the body, which can hold a secret
            continue
        return value
    raise MalformedBodyError(f"the body ({len(body)} bytes) is cut short, or is no JSON")


def _decode_leniently(body: bytes) -> JSON:
    """Read what msgspec does not: other encodings, and half a surrogate pair."""
    value: JSON = _decoder.decode(body.decode(json.detect_encoding(body), "surrogatepass"))
    return value


def structure(value: JSON, cls: type[R], **ours: object) -> R:
    """Make a record from plain JSON values.

    Args:
        value: plain JSON values.
        cls: what to make.
        **ours: values of fields that are not the wire's, such as `http`.

    Raises:
        ResponseValidationError: they are no such record; the message names the fields.
    """
    converter = _converter()
    try:
        record = converter.structure(value, cls)
        for name, given in ours.items():
            object.__setattr__(record, name, given)  # frozen, but new: no other code has it yet
    except Exception as error:  # noqa: BLE001 - whatever a generated hook raises ends here
        from openrouter_keys._base.strict_converter import described  # noqa: PLC0415 - as above

        wrong = described(error)
    else:
        return record
    raise ResponseValidationError(f"not a readable {cls.__name__}: {wrong}")


def unstructure(record: object) -> JSON:
    """Return a record as plain JSON values, its `extra` fields among the others."""
    plain: JSON = _converter().unstructure(record)
    return plain


def _finite(digits: str) -> float:
    # 1e999 would come out as infinity, which no JSON can say when it is written out again.
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError("a number beyond all bounds")
    return number


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


# `json.loads` and `json.dumps` would make another one for each body.
_encoder = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
_decoder = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite)


def write_time(time: datetime) -> str:
    """Write an aware time as the service wants it: in UTC, with seconds and `Z`."""
    time = time.astimezone(UTC)
    if type(time) is datetime:  # `isoformat` takes ten times as long
        return msgspec.json.encode(time)[1:-1].decode()
    return time.isoformat().removesuffix("+00:00") + "Z"  # a subclass, such as that of pandas


def _answer_reader(cls: type[Any]) -> AnswerReader[Any] | None:
    """Return the reader of ordinary answers of a class; None: their records are not flat."""
    if cls not in _answer_readers:
        _answer_readers[cls] = _make_answer_reader(cls)
    return _answer_readers[cls]


def _make_answer_reader(cls: type[Any]) -> AnswerReader[Any] | None:
    fields = attrs.fields_dict(cls)
    if "data" not in fields:
        return None
    data: Any = fields["data"].type
    record = get_args(data)[0] if get_origin(data) is list else data
    return AnswerReader(cls, record) if is_flat(record) else None


_answer_readers: dict[type[Any], AnswerReader[Any] | None] = {}
