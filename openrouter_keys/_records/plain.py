"""Plain JSON values without secrets."""

from typing import Any

import attrs

from openrouter_keys._base.masking import scrub
from openrouter_keys.errors import JSON


def scrubbed(value: JSON) -> JSON:
    """Return a value with every text that looks like a secret masked."""
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, list):
        return [scrubbed(each) for each in value]
    if isinstance(value, dict):
        return {scrub(name): scrubbed(each) for name, each in value.items()}
    return value


def is_secret(field: "attrs.Attribute[Any]") -> bool:
    """Whether a record's field is a secret, which its `repr` masks."""
    return callable(field.repr)


def has_secret(cls: type[Any]) -> bool:
    """Whether one of a record's fields is a secret."""
    return any(map(is_secret, attrs.fields(cls)))


def without_secrets(cls: type[Any], plain: dict[str, JSON]) -> dict[str, JSON]:
    """Return a record's plain values without its secrets, and with those of its texts masked."""
    secret = {field.name for field in attrs.fields(cls) if is_secret(field)}
    return {scrub(name): scrubbed(value) for name, value in plain.items() if name not in secret}
