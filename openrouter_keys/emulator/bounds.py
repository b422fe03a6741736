"""Validators for the attrs classes of faults and limits. Pure."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, cast

from attrs import Attribute

Validator: TypeAlias = Callable[[object, "Attribute[Any]", object], None]


def number(low: float, high: float = sys.float_info.max) -> Validator:
    """Accept numbers in a range; NaN is in none."""

    def check(_instance: object, attribute: "Attribute[Any]", value: object) -> None:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not low <= value <= high
        ):
            raise ValueError(f"{attribute.name}: {value!r} is no number from {low:g} to {high:g}")

    return check


def integer(low: int, high: int = sys.maxsize) -> Validator:
    """Accept integers in a range."""

    def check(_instance: object, attribute: "Attribute[Any]", value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"{attribute.name}: {value!r} is no integer from {low} to {high}")

    return check


def texts(_instance: object, attribute: "Attribute[Any]", value: object) -> None:
    """Accept a mapping of text to text, such as headers."""
    pairs = cast("Mapping[object, object]", value).items() if isinstance(value, Mapping) else [()]
    # A line break in a header would start another header, or the body.
    if not all(pair and _line(pair[0]) and _line(pair[1]) for pair in pairs):
        raise ValueError(f"{attribute.name}: {value!r} does not map lines of text to such")


def _line(value: object) -> bool:
    # A header cannot hold more than Latin-1.
    return (
        isinstance(value, str)
        and not {"\r", "\n", "\0"} & {*value}
        and max(value, default="") <= "\xff"
    )
