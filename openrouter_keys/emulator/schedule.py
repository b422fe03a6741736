"""Faults in JSON, there and back. No sockets."""

from typing import cast

from attrs import asdict

from openrouter_keys.emulator.faults import Fault
from openrouter_keys.emulator.fields import fields_of, made
from openrouter_keys.emulator.refusals import JSON, Refusal


def told_fault(fault: Fault) -> JSON:
    """A fault in JSON; a body that is no text has half surrogates where its bytes are none."""
    body = None if fault.body is None else fault.body.decode(errors="surrogateescape")
    return cast("dict[str, JSON]", asdict(fault)) | {"body": body}


def read_faults(value: object) -> list[Fault]:
    """The faults of a list, or the one that is not in a list.

    Raises:
        Refusal: 400, one of them is wrong.
    """
    return [*map(_fault, cast("list[object]", value) if isinstance(value, list) else [value])]


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
