"""A key's record as a journal keeps it: JSON text. No I/O."""

from operator import attrgetter
from typing import Any

import msgspec
from attrs import NOTHING, fields

from openrouter_keys.converter import encode
from openrouter_keys.models import Key

# `extra` is written beside the others, not as one of them.
_FIELDS = [each for each in fields(Key) if each.name != "extra"]
_OLD = [(each.name, Any) for each in _FIELDS if each.default is NOTHING]
_NEWER = [(each.name, Any, each.default) for each in _FIELDS if each.default is not NOTHING]
_Record = msgspec.defstruct("Key", [*_OLD, *_NEWER], omit_defaults=True)
_values: "attrgetter[tuple[Any, ...]]" = attrgetter(*_Record.__struct_fields__)


def text_of(key: Key) -> str:
    """Return a record as JSON that comes to what `encode` writes, in a sixth of its time."""
    try:
        record = _Record(*_values(key))
        if not key.extra:
            return msgspec.json.encode(record).decode()
        known = msgspec.to_builtins(record)
        return msgspec.json.encode({**known, **key.extra, **known}).decode()
    except Exception:  # noqa: BLE001 - half a surrogate pair, which JSON can escape
        return encode(key).decode()
