"""Faults in JSON, there and back. No sockets."""

from collections.abc import Iterable
from typing import Final, cast

from attrs import asdict

from openrouter_keys.emulator.faults import Fault
from openrouter_keys.emulator.fields import fields_of, made
from openrouter_keys.emulator.refusals import JSON, Refusal

_MOST: Final = 10_000


def told_fault(fault: Fault) -> JSON:
    """A fault in JSON; a body that is no text has half surrogates where its bytes are none."""
    body = None if fault.body is None else fault.body.decode(errors="surrogateescape")
    return cast("dict[str, JSON]", asdict(fault)) | {"body": body}


def read_faults(value: object) -> list[Fault]:
    """The faults of a list, or the one that is not in a list.

    Raises:
        Refusal: 400, one of them is wrong, or there are too many.
    """
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    if len(values) > _MOST:  # to read them would take long
        raise Refusal(400, f"faults: at most {_MOST}")
    return [*map(_fault, values)]


def require_few(faults: Iterable[Fault], most_bytes: int) -> None:
    """Let no more faults pass than can be kept.

    Args:
        faults: all that there would be.
        most_bytes: how long their bodies and headers may be together.

    Raises:
        Refusal: 400, there are too many, or they are too long.
    """
    lengths = [_length(fault) for fault in faults]
    if len(lengths) > _MOST or sum(lengths) > most_bytes:
        raise Refusal(400, f"faults: at most {_MOST}, and {most_bytes} bytes of body and headers")


def _length(fault: Fault) -> int:
    pairs = fault.headers.items()
    return len(fault.body or b"") + sum(len(name) + len(text) for name, text in pairs)


def _fault(value: object) -> Fault:
    fields = fields_of("a fault", value)
    if fields.get("body") is not None:
        fields["body"] = _bytes(fields["body"])
    return made(Fault, "a fault", fields)


def _bytes(body: object) -> bytes:
    try:
        return cast("str", body).encode(errors="surrogateescape")
    except (AttributeError, UnicodeEncodeError):
        raise Refusal(400, "'body' must be a string or null") from None
