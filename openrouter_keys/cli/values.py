"""How the values of options are read: amounts, times, durations, hashes. No I/O."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, TypeAlias

from cyclopts import Parameter, Token

from openrouter_keys._base.unset import OptionalNullable
from openrouter_keys._inputs.checks import LIMIT_RESETS
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.models import LimitReset
from openrouter_keys.utils import parse_datetime

NONE: Final = "none"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def read_amount(text: str) -> float | None:
    """Read US dollars; `none` is None.

    Raises:
        ValueError: it is neither.
    """
    if text.lower() == NONE:
        return None
    try:
        return float(text.removeprefix("$"))
    except ValueError:
        raise ValueError(f"must be US dollars such as 50, or none, not {text!r}") from None


def read_reset(text: str) -> str | None:
    """Read when a limit resets; `none` is None.

    Raises:
        ValueError: it is none of the words.
    """
    word = text.lower()
    if word == NONE:
        return None
    if word not in LIMIT_RESETS:
        raise ValueError(f"must be {', '.join(LIMIT_RESETS)} or none, not {text!r}")
    return word


def read_duration(text: str) -> float:
    """Read a duration such as `90s`, `30m`, `1h30m`, `7d`, `2w`, or seconds; return seconds.

    Raises:
        ValueError: it is no duration.
    """
    parts = _DURATION.findall(text)
    if parts and "".join(map("".join, parts)) == text:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"must be a duration such as 90s, 30m, 1h30m or 7d, not {text!r}")
    return seconds


def read_expiry(text: str) -> datetime | timedelta | None:
    """Read a time, or a duration such as `30d`; `none` is None.

    Raises:
        ValueError: it is none of them.
    """
    if text.lower() == NONE:
        return None
    if _DURATION.match(text):
        return timedelta(seconds=read_duration(text))
    try:
        return parse_datetime(text)
    except InvalidArgumentError:
        raise ValueError(
            f"must be a time such as 2027-12-31T23:59:59Z, a duration such as 30d, or none, "
            f"not {text!r}"
        ) from None


def _value(read: Callable[[str], object], **more: Any) -> Parameter:
    """Return how one word of a command line becomes a value."""

    def convert(_: object, tokens: Sequence[Token]) -> object:
        return read(tokens[0].value)

    return Parameter(converter=convert, n_tokens=1, accepts_keys=False, **more)


def _nullable(read: Callable[[str], object], **more: Any) -> Parameter:
    """Return how a value is read that stays UNSET unless it is given: left out is not null."""
    return _value(read, show_default=False, show_choices=False, negative="", **more)


#: A switch that is off until it is given.
Flag: TypeAlias = Annotated[bool, Parameter(negative="", show_default=False)]
#: The path of a file, or `-`.
File: TypeAlias = Annotated[str, Parameter(metavar="FILE", allow_leading_hyphen=True)]
Duration: TypeAlias = Annotated[float | None, _value(read_duration, metavar="DURATION")]
_LIMIT: Final = _nullable(
    read_amount,
    metavar="USD|none",
    help="How many US dollars the key may spend; none: no limit.",
)
Limit: TypeAlias = Annotated[OptionalNullable[float], _LIMIT]
#: A limit that has to be given.
Amount: TypeAlias = Annotated[float | None, _LIMIT]
Reset: TypeAlias = Annotated[
    OptionalNullable[LimitReset],
    _nullable(
        read_reset,
        metavar="daily|weekly|monthly|none",
        choices=(*LIMIT_RESETS, NONE),
        help="When its spending starts at zero again, at midnight UTC; none: never.",
    ),
]
#: An expiry that has to be given, from now.
Lasting: TypeAlias = Annotated[
    float,
    _value(
        read_duration,
        metavar="DURATION",
        help="After how long it expires in any case: 90s, 30m, 1h30m, 7d.",
    ),
]
Byok: TypeAlias = Annotated[
    bool | None, Parameter(help="Count spending on your own provider keys.")
]
Creator: TypeAlias = Annotated[
    str | None,
    Parameter(metavar="ID", help="The user who creates it, in an organization's account."),
]
Workspace: TypeAlias = Annotated[
    str | None, Parameter(metavar="UUID", help="The workspace of the key; else the default one.")
]
OnUnknown: TypeAlias = Annotated[
    Literal["raise", "reconcile"],
    Parameter(
        help="After a create without an answer: end with exit code 5, or find and delete its key "
        "and create another."
    ),
]
Expiry: TypeAlias = Annotated[
    OptionalNullable[datetime | timedelta],
    _nullable(
        read_expiry,
        metavar="TIME|DURATION|none",
        help="When it expires: 2027-12-31T23:59:59Z, or 30d from now; none: never.",
    ),
]
