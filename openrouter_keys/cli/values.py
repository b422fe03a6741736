"""How the values of options are read: amounts, times, durations, hashes. No I/O."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from cyclopts import Parameter, Token

from openrouter_keys._base.unset import OptionalNullable
from openrouter_keys._inputs.checks import LIMIT_RESETS
from openrouter_keys.errors import InvalidArgumentError
from openrouter_keys.models import LimitReset
from openrouter_keys.utils import parse_datetime

NONE: Final = "none"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
# In seconds: a hundred years, so that a date this long from now is one that there is.
_LONGEST: Final = 36_525 * 86_400
# Few enough digits for int().
_NUMBER: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_ALL: Final = 100  # per cent
_LOCAL_DATE: Final = re.compile(r"\d{1,4}([/.])\d{1,2}\1\d{1,4}")
# What stands between thousands, or before the cents, in other countries.
_BETWEEN: Final = re.compile(r"[,'\u2019\u066b\u066c]|\d\s\d|\..*\.")
_DOLLARS: Final = re.compile(r"(?i)\s*(?:us\$|usd|\$)?(.*?)(?:us\$|usd|\$)?\s*")
_CURRENCY: Final = re.compile(r"[^\W\d_]|[^\w\s.,'\u2019\u066b\u066c$+-]")


def read_amount(text: str) -> float | None:
    """Read US dollars; `none` is None.

    Raises:
        ValueError: it is neither.
    """
    if text.lower() == NONE:
        return None
    try:
        return dollars_in(text)
    except ValueError as error:
        problem = f"must be US dollars such as 50, or none, not {text!r}"
        raise ValueError(f"{problem}{error}") from None


def dollars_in(text: str) -> float:
    """Read US dollars, with their sign or without it.

    Raises:
        ValueError: they are not; the message is how to write them, if that is known.
    """
    found = _DOLLARS.fullmatch(text)
    try:
        return float(found[1] if found else text)
    except ValueError:
        raise ValueError(_amount_hint(text)) from None


def _amount_hint(text: str) -> str:
    """Return how to write what is an amount in the manner of another country; else nothing."""
    if not any(map(str.isdigit, text)):
        return ""
    hints = list[str]()
    if _BETWEEN.search(text):
        hints.append("a point before the cents, and nothing between thousands")
    if _CURRENCY.search(text):
        hints.append("US dollars, without another sign: no amount is converted")
    return f": {'; '.join(hints)}" if hints else ""


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
        ValueError: it is no duration, or too long a one for dates.
    """
    parts = _DURATION.findall(text)
    if parts and "".join(map("".join, parts)) == text:
        seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    else:
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"must be a duration such as 90s, 30m, 1h30m or 7d, not {text!r}")
    if seconds > _LONGEST:
        raise ValueError(f"must be a duration of at most {_LONGEST / _UNITS['d']:.0f}d")
    return seconds


def read_moment(text: str) -> datetime | timedelta:
    """Read a time, or a duration such as `30d`.

    Raises:
        ValueError: it is neither; the message is how to write it, if that is known.
    """
    if _DURATION.match(text):
        try:
            return timedelta(seconds=read_duration(text))
        except ValueError as error:
            raise ValueError(f": {error}") from None
    try:
        return parse_datetime(text)
    except InvalidArgumentError:
        raise ValueError(time_hint(text)) from None


def time_hint(text: str) -> str:
    """Return how to write what is a time but for its zone, or the order; else nothing."""
    if _LOCAL_DATE.match(text):
        return ": write the year first, then the month and the day, with dashes"
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return ""
    if len(text) <= len("2027-12-31"):
        return ": add the time of day and the zone: T23:59:59Z is the end of that day in UTC"
    return ": add its zone: Z for UTC, or +02:00" if time.utcoffset() is None else ""


def read_expiry(text: str) -> datetime | timedelta | None:
    """Read a time, or a duration such as `30d`; `none` is None.

    Raises:
        ValueError: it is none of them.
    """
    if text.lower() == NONE:
        return None
    try:
        return read_moment(text)
    except ValueError as error:
        raise ValueError(
            f"must be a time such as 2027-12-31T23:59:59Z, a duration such as 30d, or none, "
            f"not {text!r}{error}"
        ) from None


def read_share(text: str) -> float:
    """Read a number of keys, or a share of them such as `50%`, which is a float from 0 to 1.

    Raises:
        ValueError: it is neither.
    """
    number, sign = text.strip(), ""
    if number.endswith("%"):
        number, sign = number[:-1].strip(), "%"
    if _NUMBER.fullmatch(number):
        if sign and Decimal(number) <= _ALL:
            return float(Decimal(number) / _ALL)
        if not sign and number.isdigit():
            return int(number)
    raise ValueError(f"must be a number of keys such as 10, or a share such as 50%, not {text!r}")


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
Quiet: TypeAlias = Annotated[Flag, Parameter(alias="-q", help="Say nothing but problems.")]
Pattern: TypeAlias = Annotated[
    str | None,
    Parameter(metavar="PATTERN", help="Only keys whose name matches, such as `trial-*`."),
]
InWorkspace: TypeAlias = Annotated[
    str | None,
    Parameter(metavar="UUID", help="The keys of this workspace; else of the default one."),
]
_PATH: Final = Parameter(metavar="FILE", allow_leading_hyphen=True)
#: The path of a file, or `-`, as it is typed.
if TYPE_CHECKING:
    File: TypeAlias = Annotated[str, _PATH]
else:
    # The first type that fits is taken, which is the text; the path lets a shell complete files.
    File: TypeAlias = Annotated[str | Path, _PATH]
Duration: TypeAlias = Annotated[float | None, _value(read_duration, metavar="DURATION")]
#: The longest time for something; there is always one.
Timeout: TypeAlias = Annotated[float, _value(read_duration, metavar="DURATION")]
Share: TypeAlias = Annotated[float | None, _value(read_share, metavar="N|N%")]
Wait: TypeAlias = Annotated[
    Duration,
    Parameter(
        help="How long to wait for another process, or until a create without an answer is "
        "settled; else as long as --timeout."
    ),
]
QuietPeriod: TypeAlias = Annotated[
    Duration,
    Parameter(help="How long to wait until a create without an answer can no longer make a key."),
]
Recipient: TypeAlias = Annotated[
    str | None,
    Parameter(metavar="AGE", help="Encrypt the secrets in the journal to this age recipient."),
]
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
