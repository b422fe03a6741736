"""`UNSET`, the value of a field that is left out; `None` is sent as null."""

import enum
from typing import Final, NoReturn, TypeAlias, TypeVar

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
    return None if value is UNSET else value


OptionalNullable: TypeAlias = T | Unset | None
"""A field that may be left out (`UNSET`), null (`None`) or a value."""
