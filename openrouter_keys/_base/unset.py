"""`UNSET`, the value of a field that is left out; `None` is sent as null."""

import enum
from typing import Final, NoReturn, TypeAlias, TypeVar, cast

T = TypeVar("T")


class Unset(enum.Enum):
    """The type of `UNSET`; an enum of one, so that `is UNSET` narrows and a copy is the same."""

    UNSET = "UNSET"

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "UNSET is neither true nor false: ask `is UNSET` (left out) or `is None` (null)"
        )


UNSET: Final = Unset.UNSET
"""Left out: the service keeps, or chooses, the value."""


def left_out(value: T | Unset) -> T | None:
    """Return None for `UNSET`: where the API takes no null, both mean that it is not given."""
    value = ours(value)
    return None if value is UNSET else value


def ours(value: T) -> T:
    """Return a value, and `UNSET` for the official SDK's own, which is not imported for it."""
    kind = type(value)
    if kind.__name__ == "Unset" and kind.__module__.startswith("openrouter.types"):
        return cast("T", UNSET)
    return value


OptionalNullable: TypeAlias = T | Unset | None
"""A field that may be left out (`UNSET`), null (`None`) or a value."""
