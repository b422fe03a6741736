"""Reads and writes faults as JSON. No sockets."""

from collections.abc import Iterable
from typing import Final, cast

from attrs import asdict

from openrouter_keys.emulator.faults import Fault
from openrouter_keys.emulator.fields import fields_of, made
from openrouter_keys.emulator.refusals import JSON, Refusal

_MOST: Final = 10_000


def fault_json(fault: Fault) -> JSON:
    """Return a fault as JSON; bytes of a body that are no text become lone surrogates."""
    body = None if fault.body is None else fault.body.decode(errors="surrogateescape")
    return cast("dict[str, JSON]", asdict(fault)) | {"body": body}


def read_faults(value: object) -> list[Fault]:
    """Return the faults of a JSON list, or of one JSON object.

    Raises:
        Refusal: 400, one of them is wrong, or there are too many.
    """
    values = cast("list[object]", value) if isinstance(value, list) else [value]
    if len(values) > _MOST:  # reading them would take long
        raise Refusal(400, f"faults: at most {_MOST}")
    return [*map(_fault, values)]


def require_few(faults: Iterable[Fault], most_bytes: int) -> None:
    """Refuse more faults than can be kept.

    Args:
        faults: all of them, the new ones too.
        most_bytes: the most bytes of their bodies and headers together.

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
